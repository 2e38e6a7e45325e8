//! Commands that ask a running `overlan up`: `status`, `down`, `ip`. Decides how the answer is shown.

use std::io;
use std::net::IpAddr;

use clap::Args;
use overlan::local::{CallError, Request, Response, call, call_until_stopped};
use overlan::names::Destination;
use overlan::status::{PeerStatus, Status, View};

use crate::cli::exit::{Code, Failure};
use crate::cli::wait::{self, Check};
use crate::cli::{StateArgs, now_unix, output, terminal};

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    /// Show counters of packets, waits and drops, too
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    /// Show it again whenever it changes, until Ctrl-C; with --json one line each time
    #[arg(long)]
    watch: bool,
    /// Print nothing; the exit code tells whether this is true
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

Exit codes of --check: 0 true, 3 no `overlan up` runs, 4 not enrolled any more, 5 an admin has to let it in, 8 no controller (control),
9 no relay (ready), 10 a door has had no free place for 10 s (ready).";

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

/// In which network a peer is.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Network of the peer, where several have that label or address
    #[arg(long, env = "OVERLAN_PEER_NETWORK", value_name = "NAME")]
    network: Option<String>,
}

impl NetworkArgs {
    /// What the running client calls the device that a person calls `peer`.
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
        output::answer(&status.table(now_unix(), view(args.verbose)))
    }
}

/// How a status is shown on standard output.
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
    let status = ask_status(&args.state).await?;
    let found = addresses(&status, args.peer.as_deref())?;
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
    CallError::NotUnderstood("it answers another question".to_owned()).into()
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

/// The full name of the device that a person calls `wanted`, or `wanted` itself if it is an address.
pub(crate) async fn full_name(state: &StateArgs, wanted: &str) -> Result<String, Failure> {
    if Destination::from_text(wanted).address().is_some() {
        return Ok(wanted.to_owned());
    }
    let status = ask_status(state).await?;
    match &status.device {
        Some(device) if is_called(&device.label, &device.name, wanted) => Ok(device.name.clone()),
        Some(_) | None => Ok(find_peer(&status, wanted)?.name.clone()),
    }
}

fn addresses(status: &Status, peer: Option<&str>) -> Result<Vec<IpAddr>, Failure> {
    let device = status.device.as_ref().ok_or_else(|| {
        Failure::new(Code::NeedsLogin, "this device is not enrolled yet")
            .next("See `overlan status`.")
    })?;
    let Some(wanted) = peer else {
        return Ok(device.addresses.clone());
    };
    if is_called(&device.label, &device.name, wanted) {
        return Ok(device.addresses.clone());
    }
    Ok(find_peer(status, wanted)?.addresses.clone())
}

fn find_peer<'a>(status: &'a Status, wanted: &str) -> Result<&'a PeerStatus, Failure> {
    let peers = status.networks.iter().flat_map(|network| &network.peers);
    let found: Vec<&PeerStatus> = peers
        .filter(|peer| is_called(&peer.label, &peer.name, wanted))
        .collect();
    match found.as_slice() {
        [peer] => Ok(peer),
        [] => Err(Failure::new(
            Code::Other,
            format!("no peer is called {wanted:?}; `overlan status` lists them"),
        )),
        [first, ..] => Err(Failure::usage(format!(
            "{wanted:?} is in several networks; give the full name, such as {}",
            first.name
        ))),
    }
}

/// Names have no case, may end with the root's dot, and may leave the domain out.
pub(crate) fn is_called(label: &str, name: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
    let ends: Vec<usize> = name.match_indices('.').map(|(at, _)| at).collect();
    let with_network = ends.get(1).map_or(name, |end| &name[..*end]);
    [label, with_network, name]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
