//! `relay`: runs a relay in the foreground. Decides where its settings come from; the relay crate
//! does the forwarding.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlan_protocol::api::JoinString;
use overlan_relay::{Config, Relay, StartError};
use tokio_util::sync::CancellationToken;

use crate::commands::exit::{Code, Failure};
use crate::commands::secret::{self, SecretSource};
use crate::commands::state_dir::default_dir;
use crate::commands::stop::Signals;
use crate::commands::{cores, output, port, upstream};

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// Run a relay until Ctrl-C or SIGTERM
    Serve(RelayServeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RelayServeArgs {
    /// Join string of the controller, as `overlan controller serve` prints it
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: JoinString,
    /// File with a relay token, for the first start; - is standard input (or use
    /// $OVERLAN_RELAY_TOKEN)
    #[arg(long, env = "OVERLAN_RELAY_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<SecretSource>,
    /// Address for clients. Ports below 1024 need a privilege on most systems; any other port
    /// works, too
    #[arg(
        long,
        env = "OVERLAN_RELAY_LISTEN",
        default_value = "0.0.0.0:443",
        value_parser = port::listen_address,
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// HOST:PORT by which clients reach it, up to 8 of them [default: the address of --listen]
    #[arg(
        long,
        alias = "public-address",
        env = "OVERLAN_RELAY_ADDRESS",
        value_name = "HOST:PORT",
        value_parser = port::public_address,
        value_delimiter = ','
    )]
    address: Vec<String>,
    /// Directory for the relay's keys [default: $XDG_STATE_HOME/overlan-relay or
    /// ~/.local/state/overlan-relay]
    #[arg(
        long,
        aliases = ["state", "data-dir"],
        env = "OVERLAN_RELAY_STATE_DIR",
        value_name = "DIR",
    )]
    state_dir: Option<PathBuf>,
    /// Loopback address for /metrics and /healthz, without authentication
    #[arg(
        long,
        env = "OVERLAN_RELAY_METRICS",
        value_name = "ADDR",
        value_parser = port::listen_address
    )]
    metrics: Option<SocketAddr>,
    /// Threads that forward [default: one less than there are cores, at least 1]
    #[arg(long, env = "OVERLAN_RELAY_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl RelayCommand {
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let Self::Serve(args) = self;
        // The kernel's side of the sockets takes about as much time as ours.
        let default = || NonZeroUsize::new(cores().get() - 1).unwrap_or(NonZeroUsize::MIN);
        args.threads.unwrap_or_else(default)
    }
}

const EXAMPLES: &str = "\
Examples:
  On a machine where an admin is logged in:
    overlan admin relay-token create ams-1 > token.txt
  On the relay's machine, the first time:
    overlan relay serve --server \"$JOIN\" --token-file token.txt --address ams-1.example:443
  Without the right to open port 443:
    overlan relay serve --server \"$JOIN\" --listen 0.0.0.0:8444 --address ams-1.example:8444";

/// `overlan relay …`.
pub(crate) async fn run(command: RelayCommand) -> Result<(), Failure> {
    match command {
        RelayCommand::Serve(args) => serve(args).await,
    }
}

async fn serve(args: RelayServeArgs) -> Result<(), Failure> {
    let config = config(args)?;
    let mut signals = Signals::listen()?;
    let relay = tokio::select! {
        relay = Relay::bind(config) => relay?,
        () = signals.next() => return Ok(()),
    };
    output::greeting(&format!(
        "relay {} listens on {}, clients connect to {}",
        relay.name(),
        relay.local_addr(),
        relay.addresses().join(", ")
    ));
    if let Some(address) = relay.metrics_addr() {
        output::greeting(&format!("metrics on http://{address}/metrics"));
    }
    let stop = CancellationToken::new();
    signals.run(relay.run(stop.clone()), &stop).await;
    Ok(())
}

fn config(args: RelayServeArgs) -> Result<Config, Failure> {
    let token = match &args.token_file {
        Some(source) => Some(source.read("relay token")?),
        None => secret::from_environment(secret::Variable::RelayToken),
    };
    if let Some(address) = args.metrics
        && !address.ip().is_loopback()
    {
        return Err(Failure::usage(format!(
            "--metrics {address} is not a loopback address, and everybody who reaches it may read \
             it"
        ))
        .next(
            "Give --metrics 127.0.0.1:9464, and let the collector come by a proxy that asks who \
            it is, or by an SSH tunnel.",
        ));
    }
    let state_dir = match args.state_dir {
        Some(path) => path,
        None => default_dir("overlan-relay", "--state-dir")?,
    };
    Ok(Config {
        listen: args.listen,
        addresses: args.address,
        join: args.server,
        outgoing: upstream::outgoing(),
        token,
        state_dir,
        metrics: args.metrics,
    })
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let (code, next) = match &error {
            StartError::PortInUse { .. } => (Code::Other, "Give --listen another port."),
            StartError::Listen { .. } => (
                Code::Other,
                "Ports below 1024 need a privilege: give --listen 0.0.0.0:8444, for example.",
            ),
            StartError::AddressNeeded { .. } => (
                Code::Usage,
                "Give --address HOST:PORT, as clients reach it.",
            ),
            StartError::State(_) => (Code::Other, ""),
            StartError::NeedsToken => (
                Code::NeedsLogin,
                "`overlan admin relay-token create NAME > token.txt` makes one; give it by \
                 --token-file token.txt.",
            ),
            StartError::TokenRefused { .. } => (
                Code::NeedsLogin,
                "`overlan admin relay-token create NAME` makes a new one.",
            ),
            StartError::Controller { .. } => (Code::ControllerUnreachable, ""),
        };
        match next {
            "" => Self::new(code, error),
            next => Self::new(code, error).next(next),
        }
    }
}

#[cfg(test)]
mod tests;
