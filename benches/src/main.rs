//! The `overlan-bench` program: measures Overlan beside a TLS relay chain without a VPN, and prints
//! which bars are met.
//!
//! `suite` decides the order of runs and measures nothing; each module of `load` measures one thing
//! through a [`chain::Chain`]; each module of `chain` sets up one kind of chain; `report` turns
//! samples into the table. Everything that moves bytes is a process of its own, so that its CPU
//! time can be read separately; `accept` takes the connections of those that listen.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads real clocks, waits real time and ends its own helper processes"
)]

mod accept;
mod chain;
mod delay;
mod hop;
mod instructions;
mod load;
mod namespace;
mod options;
mod process;
mod procfs;
mod report;
mod socks;
mod stats;
mod suite;
mod target;
mod trouble;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options};

fn main() -> ExitCode {
    let outcome = match Options::parse().command {
        Command::Run(run) => namespace::enter(&run).and_then(|()| suite::run(&run)),
        Command::Instructions(options) => instructions::run(&options),
        Command::Measured(path) => instructions::measured(&path),
        Command::Target => process::end_with_parent(target::run),
        Command::Entry(hop) => process::end_with_parent(|| hop::entry(&hop)),
        Command::Relay(hop) => process::end_with_parent(|| hop::relay(&hop)),
        Command::Exit(hop) => process::end_with_parent(|| hop::exit(&hop)),
        Command::Delay(delay) => process::end_with_parent(|| delay::run(&delay)),
        Command::Spin => process::end_with_parent(process::spin),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("overlan-bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}
