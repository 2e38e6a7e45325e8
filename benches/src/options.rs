//! The command line: what a person may ask for, and the hidden commands by which the suite starts
//! its own helper processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures Overlan beside a TLS relay chain without a VPN. docs/benchmarks.md says what each row
/// means.
#[derive(Debug, Parser)]
#[command(name = "overlan-bench", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the suite in a network namespace of its own and print the table
    Run(Run),
    /// Count the instructions of the pure hot paths under valgrind and compare them with the
    /// recorded ones
    Instructions(Instructions),
    /// Run one hot path as often as asked
    #[command(hide = true)]
    Measured(Measured),
    /// Serve the target that chains lead to
    #[command(hide = true)]
    Target,
    /// Run the first process of the yardstick: SOCKS5 to TLS
    #[command(hide = true)]
    Entry(Hop),
    /// Run the second process of the yardstick: TLS to TLS
    #[command(hide = true)]
    Relay(Hop),
    /// Run the third process of the yardstick: TLS to TCP
    #[command(hide = true)]
    Exit(Hop),
    /// Run a link that delays
    #[command(hide = true)]
    Delay(Delay),
    /// Keep a core awake
    #[command(hide = true)]
    Spin,
}

/// The flags of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// Runs of each test; the table shows the median
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: u32,
    /// Length of a measurement, without its warm-up of one second
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Run only the tests whose names begin with one of these, such as bulk,rtt-awake. `soak` runs
    /// only if it is named here
    #[arg(long, value_delimiter = ',', value_name = "TEST,...")]
    pub(crate) only: Vec<String>,
    /// Chains to compare
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "CHAIN,...",
        default_value = "direct,yardstick,overlan,ssh,ocproxy,onetun"
    )]
    pub(crate) chains: Vec<String>,
    /// Also write the values of every run to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Run each test once for two seconds, with fewer sizes and shorter waits: shows that it works,
    /// compares nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// The overlan binary [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) overlan: Option<PathBuf>,
    /// Length of the soak test
    #[arg(long, default_value_t = 10, value_name = "MINUTES")]
    pub(crate) soak_minutes: u64,
    /// Keep directories and logs of all chains, not only of failed ones
    #[arg(long)]
    pub(crate) keep: bool,
    /// Set once the namespace has been entered
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// A process of the yardstick.
#[derive(Debug, Args)]
pub(crate) struct Hop {
    /// Directory with the certificates
    #[arg(long)]
    pub(crate) certificates: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Address of the next process; the exit has none
    #[arg(long)]
    pub(crate) next: Option<SocketAddr>,
}

/// A link with a delay.
#[derive(Debug, Args)]
pub(crate) struct Delay {
    /// Address that the link leads to
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// Delay in each direction, microseconds
    #[arg(long)]
    pub(crate) one_way_us: u64,
}

/// The flags of `instructions`.
#[derive(Debug, Args)]
pub(crate) struct Instructions {
    /// Recorded instructions per unit [default: benches/instructions.txt of the sources this was
    /// built from]
    #[arg(long, value_name = "FILE")]
    pub(crate) limits: Option<PathBuf>,
}

/// One hot path.
#[derive(Debug, Args)]
pub(crate) struct Measured {
    /// Its name
    pub(crate) path: String,
    /// Units of work
    pub(crate) count: u64,
}
