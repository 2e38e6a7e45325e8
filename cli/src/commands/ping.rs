//! `ping` and `whois`: the answers of a peer, and the device that has an address. Decides when to
//! stop asking; the running `overlan up` asks.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use overlan::program::node::{Pong, Whois};
use overlan::program::socket::{CallError, RefusalKind, Request, Response, call_and_follow};
use overlan::program::status::Presence;
use overlan_protocol::host_port;
use overlan_protocol::netmap::Owner;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::commands::exit::{Code, Failure};
use crate::commands::running::NetworkArgs;
use crate::commands::{StateArgs, duration, output, running, waiting};

#[derive(Debug, Args)]
#[command(after_help = PING_EXAMPLES)]
pub(crate) struct PingArgs {
    /// Label, full name or overlay address of a peer
    peer: String,
    #[command(flatten)]
    network: NetworkArgs,
    /// Number of requests; 0 = until Ctrl-C
    #[arg(short, long, default_value_t = 10, value_name = "N")]
    count: u32,
    /// Time to wait for each answer: seconds, or with a unit (1m)
    #[arg(
        long,
        env = "OVERLAN_PING_TIMEOUT",
        default_value_t = 5,
        value_name = "TIME",
        value_parser = duration::within::<u32>(1..=60),
    )]
    timeout: u32,
    /// End with the first answer
    #[arg(long)]
    until_answer: bool,
    /// Print one JSON document at the end; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const PING_EXAMPLES: &str = "\
Examples:
  overlan ping web
  overlan ping -c 1 --timeout 2 100.64.0.2
  overlan ping --network acme web              web.acme, where several networks have a web
  overlan ping -c 30 --until-answer web        wait for a peer in a script

Exit codes: 0 an answer came, 1 offline or unknown, 6 denied by policy, 7 no answer, 9 no relay
leads there.";

#[derive(Debug, Args)]
#[command(after_help = WHOIS_EXAMPLES)]
pub(crate) struct WhoisArgs {
    /// Overlay address, with or without a port, or label or full name
    address: String,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const WHOIS_EXAMPLES: &str = "\
Examples:
  overlan whois 100.64.0.2
  overlan whois 100.64.0.2:50312
  overlan whois --json web";

/// The document of `ping --json`.
#[derive(Debug, Serialize)]
struct PingReport<'a> {
    schema_version: u32,
    peer: &'a str,
    sent: u32,
    received: u32,
    pongs: &'a [Pong],
    /// The reason for which the last request without an answer had none.
    last_error: Option<String>,
}

/// The document of `whois --json`.
#[derive(Debug, Serialize)]
struct WhoisReport {
    schema_version: u32,
    #[serde(flatten)]
    whois: Whois,
}

const SCHEMA_VERSION: u32 = 1;

/// `overlan ping`.
pub(crate) async fn ping(args: PingArgs) -> Result<(), Failure> {
    let socket = args.state.open()?.socket_path();
    let mut pongs = Vec::new();
    let mut sent = 0_u32;
    let mut last_error = None;
    loop {
        let next = Instant::now() + INTERVAL;
        sent = sent.saturating_add(1);
        match waiting::saying(&args.peer, ask(&socket, &args)).await {
            Ok(pong) => {
                if !args.json {
                    output::answer(&line(&pong))?;
                }
                if pongs.len() < PONGS_MAX {
                    pongs.push(pong);
                }
                if args.until_answer {
                    break;
                }
            }
            Err(error) if may_pass(&error, &args) => {
                if !args.json {
                    output::note(&format!("no answer: {error}"));
                }
                last_error = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        if sent == args.count {
            break;
        }
        sleep_until(next).await;
    }
    if args.json {
        output::json(&PingReport {
            schema_version: SCHEMA_VERSION,
            peer: &args.peer,
            sent,
            received: u32::try_from(pongs.len()).unwrap_or(u32::MAX),
            pongs: &pongs,
            last_error: last_error.as_ref().map(CallError::to_string),
        })?;
    }
    match last_error {
        Some(error) if pongs.is_empty() => Err(gave_up(error, &args.peer, sent)),
        Some(_) | None => Ok(()),
    }
}

/// `overlan whois`.
pub(crate) async fn whois(args: WhoisArgs) -> Result<(), Failure> {
    let peer = args.network.place(without_port(&args.address));
    let found = running::find(&args.state, &peer).await?;
    let whois = found.map_err(CallError::Refused)?;
    if args.json {
        output::json(&WhoisReport {
            schema_version: SCHEMA_VERSION,
            whois,
        })
    } else {
        output::answer(&card(&whois))
    }
}

async fn ask(socket: &Path, args: &PingArgs) -> Result<Pong, CallError> {
    let request = Request::Ping {
        peer: args.network.place(&args.peer),
        within_ms: args.timeout.saturating_mul(1_000),
    };
    let answer = call_and_follow(socket, &request, std::future::pending(), |_| {}).await?;
    if let Response::Pong(pong) = answer {
        return Ok(pong);
    }
    Err(CallError::NotUnderstood(
        "its answer does not fit the question".to_owned(),
    ))
}

/// Returns true if the next request may have an answer though this one had none. With
/// `--until-answer` a peer that is away may come.
fn may_pass(error: &CallError, args: &PingArgs) -> bool {
    match error {
        CallError::Refused(refusal) => match refusal.kind {
            RefusalKind::TimedOut | RefusalKind::RelayUnreachable => true,
            RefusalKind::Failed => args.until_answer,
            RefusalKind::NotUnderstood
            | RefusalKind::Conflict
            | RefusalKind::ControllerUnreachable
            | RefusalKind::Denied
            | RefusalKind::Stopping => false,
        },
        CallError::NotRunning(_)
        | CallError::NotOurs(_)
        | CallError::TimedOut(_)
        | CallError::Ended
        | CallError::NotUnderstood(_)
        | CallError::Io { .. } => false,
    }
}

fn gave_up(error: CallError, peer: &str, sent: u32) -> Failure {
    let text = error.to_string();
    let known = Failure::from(error);
    let code = known.code();
    let failure = Failure::new(
        code,
        format!("{peer} answered none of {sent} requests: {text}"),
    );
    if code != Code::TimedOut {
        return match known.hint() {
            Some(next) => failure.next(next),
            None => failure,
        };
    }
    failure.next(
        "Is `overlan up` there still running, and does policy let it answer? See `overlan status` \
         on both.",
    )
}

fn line(pong: &Pong) -> String {
    let via = match &pong.relay {
        Some(relay) => format!(" via relay({relay})"),
        None => String::new(),
    };
    let label = pong.name.split('.').next().unwrap_or(&pong.name);
    format!(
        "pong from {label} ({}){via} in {}",
        pong.address,
        milliseconds(pong.round_trip_us)
    )
}

/// Whole milliseconds are enough, but not for what is on the same host.
fn milliseconds(us: u64) -> String {
    if us < 10_000 {
        format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
    } else {
        format!("{} ms", us / 1_000)
    }
}

fn card(whois: &Whois) -> String {
    let mut text = String::new();
    let mut row = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{what:<10} {value}");
    };
    row("name", &whois.name);
    row("network", &whois.network);
    let addresses: Vec<String> = whois.addresses.iter().map(IpAddr::to_string).collect();
    row("addresses", &addresses.join(", "));
    row("device", &whois.device.to_string());
    if let Some(identity) = &whois.identity {
        row("identity", &identity.to_string());
    }
    match &whois.owner {
        Owner::Person(email) => row("user", email),
        Owner::AuthKey(id) => row("auth key", id),
        Owner::Unknown => {}
    }
    row("relays", &whois.relays.join(", "));
    let state = match (whois.this_device, whois.presence) {
        (true, _) => "this device",
        (false, Presence::Online) => "online",
        (false, Presence::Offline) => "offline",
        (false, Presence::Unknown) => "unknown",
    };
    row("state", state);
    text
}

/// Returns `100.64.0.2:50312`, `[fd7a::2]:22` and `web:22` without the port.
fn without_port(text: &str) -> &str {
    host_port::split(text).map_or(text, |(host, _)| host)
}

/// From one request to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Answers that a report holds: a day of them.
const PONGS_MAX: usize = 86_400;

#[cfg(test)]
mod tests;
