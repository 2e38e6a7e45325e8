//! The `overlan` program: reads its arguments, starts logging and the runtime, runs one command,
//! and ends with its exit code.
#![forbid(unsafe_code)]

mod commands;

#[cfg(feature = "server")]
mod demo;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::exit::{Code, Failure};
use crate::commands::output::Form;
use crate::commands::{Cli, NotRead, log, output};

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let form = output::asked_form(&line);
    let cli = match Cli::read(line) {
        Ok(cli) => cli,
        Err(NotRead::Config(failure)) => return failed(&failure, form),
        Err(NotRead::Line(wrong)) if form == Form::Json && wrong.exit_code() != 0 => {
            return failed(&Failure::wrong_line(&wrong), form);
        }
        Err(NotRead::Line(asked_or_wrong)) => {
            let text = asked_or_wrong.render().to_string();
            return match (asked_or_wrong.kind(), text.strip_prefix("error: ")) {
                (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
                    match output::answer(&text) {
                        Ok(()) => Code::Ok.into(),
                        Err(failure) => failed(&failure, form),
                    }
                }
                // Printed as our own errors are.
                (_, Some(wrong)) => {
                    output::error(wrong.trim_end());
                    Code::Usage.into()
                }
                // The help of a command that needs another word.
                (_, None) => {
                    output::note(text.trim_end());
                    Code::Usage.into()
                }
            };
        }
    };
    match start(cli) {
        Ok(code) => code,
        Err(failure) => failed(&failure, form),
    }
}

fn failed(failure: &Failure, form: Form) -> ExitCode {
    output::failure(failure, form);
    failure.code().into()
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    log::start(&cli)?;
    raise_file_limit();
    let threads = cli.threads();
    // One thread is fastest as long as it has time: a packet then never waits for another core to
    // wake up.
    let mut runtime = if threads.get() == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads.get());
        builder
    };
    runtime.enable_all().build()?.block_on(async {
        survive_file_sizes();
        commands::run(cli).await
    })
}

/// A file that may not grow (`ulimit -f`) is an error of the write, as a full disk is.
/// Without a handler the system ends the whole program by a signal instead, in the middle of what
/// it serves. Programs that this one starts do not inherit it.
fn survive_file_sizes() {
    if let Err(error) = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) {
        tracing::debug!(%error, "a limit of file sizes ends this program");
    }
}

/// Every connection is a file descriptor, and the usual soft limit of 1,024 is there only for
/// programs that call `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
