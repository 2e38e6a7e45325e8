//! Commands that ask a running `overlan up`: `status`, `down`, `ip`. Decides how the answer is
//! shown.

use std::io;
use std::net::IpAddr;

use clap::Args;
use overlan::program::node::Whois;
use overlan::program::socket::{CallError, Refusal, Request, Response, call, call_until_stopped};
use overlan::program::status::{Status, View};
use overlan_transport::clock::wall;

use crate::commands::exit::{Code, Failure};
use crate::commands::wait::{self, Check};
use crate::commands::{StateArgs, output, terminal};

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    /// Show the counters of packets, waits and drops, too
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    /// Show it again whenever it changes, until Ctrl-C; with --json one line each time
    #[arg(long)]
    watch: bool,
    /// Print nothing; exit with 0 if this is true
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["json", "watch"])]
    check: Option<Check>,
    #[command(flatten)]
    state: StateArgs,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  overlan status --json | jq -r '.networks[].peers[] | select(.online) | .name'
  overlan status
  overlan status --watch
  overlan status --check ready && deploy

Exit codes of --check: 0 true, 3 no `overlan up` runs, 4 not enrolled any more, 5 an admin has
to let it in, 8 no controller (control), 9 no relay (ready), 10 a door has been full for 10 s
(ready).";

#[derive(Debug, Args)]
#[command(after_help = IP_EXAMPLES)]
pub(crate) struct IpArgs {
    /// Label or full name of a peer [default: this device]
    peer: Option<String>,
    /// Only the IPv4 address
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// Only the IPv6 address
    #[arg(short = '6')]
    v6: bool,
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const IP_EXAMPLES: &str = "\
Examples:
  overlan ip -4
  overlan ip web
  overlan ip web.home.overlan.internal";

/// The network in which a peer is looked up.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Network of the peer, where several have that label or address
    #[arg(long, env = "OVERLAN_PEER_NETWORK", value_name = "NAME")]
    network: Option<String>,
}

impl NetworkArgs {
    /// Asks the running client for the device that a person calls `peer`.
    pub(crate) fn place(&self, peer: &str) -> String {
        match &self.network {
            Some(network) if peer.parse::<IpAddr>().is_ok() => format!("{peer}%{network}"),
            Some(network) if !peer.contains(['.', '%']) => format!("{peer}.{network}"),
            Some(_) | None => peer.to_owned(),
        }
    }
}

/// `overlan status`.
pub(crate) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    if let Some(check) = args.check {
        return wait::check(&args.state, check).await;
    }
    if args.watch {
        return wait::watch(&args.state, args.json, args.verbose).await;
    }
    let status = ask_status(&args.state).await?;
    if args.json {
        output::json(&status)
    } else {
        output::answer(&status.table(wall(), view(args.verbose)))
    }
}

/// Returns the form of a status on standard output.
pub(crate) fn view(verbose: bool) -> View {
    View {
        columns: terminal::columns(),
        verbose,
        colour: terminal::has_colours(&io::stdout()),
    }
}

/// `overlan down`. Returns when everything has stopped.
pub(crate) async fn down(args: &StateArgs) -> Result<(), Failure> {
    let path = args.open()?.socket_path();
    call_until_stopped(&path, &Request::Down).await?;
    output::note("Stopped. The device stays enrolled: `overlan up` brings it back.");
    Ok(())
}

/// `overlan ip`.
pub(crate) async fn ip(args: &IpArgs) -> Result<(), Failure> {
    let found = match &args.peer {
        Some(peer) => {
            let found = find(&args.state, peer).await?;
            found.map_err(CallError::Refused)?.addresses
        }
        None => own_addresses(&ask_status(&args.state).await?)?,
    };
    let wanted = found
        .iter()
        .filter(|address| (!args.v4 || address.is_ipv4()) && (!args.v6 || address.is_ipv6()))
        .map(IpAddr::to_string)
        .collect::<Vec<_>>();
    if args.json {
        let document = serde_json::json!({ "schema_version": 1, "addresses": wanted });
        return output::json(&document);
    }
    output::answer(&wanted.join("\n"))
}

/// Turns an answer of the wrong kind into the error that it is.
pub(crate) fn unexpected(response: &Response) -> Failure {
    tracing::debug!(?response, "unexpected answer");
    CallError::NotUnderstood("its answer does not fit the question".to_owned()).into()
}

pub(crate) async fn ask_status(args: &StateArgs) -> Result<Status, Failure> {
    let path = args.open()?.socket_path();
    match call(&path, &Request::Status).await? {
        Response::Status(status) => Ok(*status),
        other @ (Response::Done
        | Response::Version(_)
        | Response::Progress(_)
        | Response::Measured(_)
        | Response::SendSockets
        | Response::Happened(_)
        | Response::Pong(_)
        | Response::Whois(_)
        | Response::DnsAnswer(_)
        | Response::Refused(_)) => Err(unexpected(&other)),
    }
}

fn own_addresses(status: &Status) -> Result<Vec<IpAddr>, Failure> {
    let device = status.device.as_ref().ok_or_else(|| {
        Failure::new(Code::NeedsLogin, "this device is not enrolled yet")
            .next("See `overlan status`.")
    })?;
    Ok(device.addresses.clone())
}

/// The device that a person calls `peer`, as the running client finds it, or its refusal.
pub(crate) async fn find(args: &StateArgs, peer: &str) -> Result<Result<Whois, Refusal>, Failure> {
    let path = args.open()?.socket_path();
    let peer = peer.to_owned();
    match call(&path, &Request::Whois { peer }).await {
        Ok(Response::Whois(whois)) => Ok(Ok(*whois)),
        Err(CallError::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error.into()),
        Ok(
            other @ (Response::Done
            | Response::Status(_)
            | Response::Version(_)
            | Response::Progress(_)
            | Response::Measured(_)
            | Response::SendSockets
            | Response::Happened(_)
            | Response::Pong(_)
            | Response::DnsAnswer(_)
            | Response::Refused(_)),
        ) => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests;
