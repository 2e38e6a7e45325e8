//! `netcheck`: connects from this host to the controller and each relay, and measures how far away
//! they are. Decides nothing about which relay is used; works without a running `overlan up`.

use std::time::Duration;

use clap::Args;
use overlan::program::link::{self, AttachError};
use overlan::program::status::columns;
use overlan_protocol::netmap::Relay;
use overlan_transport::clock::now;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output, upstream};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NetcheckArgs {
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan netcheck
  overlan netcheck --json | jq '.relays[] | select(.error)'

It opens TCP and TLS to the controller and to every relay that this device knows, with their
pinned keys, and needs no running `overlan up`. Exit codes: 0 the controller and a relay answer, 4
not enrolled, 8 no controller, 9 no relay.";

/// The document of `netcheck --json`.
#[derive(Debug, Serialize)]
struct NetcheckReport {
    schema_version: u32,
    controller: ReachedServer,
    /// The nearest first, then those that were not reached.
    relays: Vec<ReachedServer>,
}

/// One server.
#[derive(Debug, Serialize)]
struct ReachedServer {
    name: String,
    /// The address at which it was reached, or should have been.
    address: String,
    /// True if the TLS handshake with its pinned key succeeded.
    reached: bool,
    /// Over TCP and back, microseconds.
    round_trip_us: Option<u64>,
    /// Until TLS was ready, microseconds: names, TCP and keys.
    ready_us: Option<u64>,
    /// The reason for which it was not reached.
    error: Option<String>,
}

/// `overlan netcheck`.
pub(crate) async fn run(args: NetcheckArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let device = state.load_device()?.ok_or_else(|| {
        Failure::new(Code::NeedsLogin, "this device is not enrolled yet")
            .next("The first `overlan up` enrols it.")
    })?;
    let relays = state.load_netmap()?.map(|netmap| netmap.relays);
    let mut probes = JoinSet::new();
    for relay in relays.unwrap_or_default().into_values().take(RELAYS_MAX) {
        probes.spawn(probe(relay));
    }
    let began = now();
    let opened = api::open(&device.join).await;
    let took = micros(now().saturating_duration_since(began));
    let controller = ReachedServer {
        name: "controller".to_owned(),
        address: device.join.server.to_string(),
        reached: opened.is_ok(),
        round_trip_us: None,
        ready_us: opened.is_ok().then_some(took),
        error: opened.err().map(|failure| failure.to_string()),
    };
    let mut relays = probes.join_all().await;
    relays.sort_by_key(|relay| (!relay.reached, relay.round_trip_us, relay.name.clone()));
    let report = NetcheckReport {
        schema_version: 1,
        controller,
        relays,
    };
    if args.json {
        output::json(&report)?;
    } else {
        output::answer(&table(&report))?;
    }
    verdict(&report)
}

async fn probe(relay: Relay) -> ReachedServer {
    let name = relay.name.clone();
    match link::probe(&relay, &upstream::outgoing()).await {
        Ok(probed) => ReachedServer {
            name,
            address: probed.address,
            reached: true,
            round_trip_us: probed.round_trip.map(micros),
            ready_us: Some(micros(probed.ready)),
            error: None,
        },
        Err(error) => ReachedServer {
            name,
            address: relay.addresses.join(", "),
            reached: false,
            round_trip_us: None,
            ready_us: None,
            error: Some(explain(&error)),
        },
    }
}

/// Returns the error with its causes.
fn explain(error: &AttachError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

fn verdict(report: &NetcheckReport) -> Result<(), Failure> {
    if report.relays.is_empty() {
        let text = "this device knows no relay";
        return Err(Failure::new(Code::RelayUnreachable, text)
            .next("`overlan up` learns them from the controller; see `overlan status`."));
    }
    if !report.relays.iter().any(|relay| relay.reached) {
        let text = "no relay was reached";
        return Err(Failure::new(Code::RelayUnreachable, text)
            .next("Does a firewall let this host open TCP connections to those addresses?"));
    }
    if !report.controller.reached {
        let text = "the controller was not reached";
        return Err(Failure::new(Code::ControllerUnreachable, text)
            .next("Traffic flows on without it; changes of members do not arrive."));
    }
    Ok(())
}

fn table(report: &NetcheckReport) -> String {
    let mut rows = vec![["SERVER", "ADDRESS", "RESULT"].map(str::to_owned)];
    for server in std::iter::once(&report.controller).chain(&report.relays) {
        let result = match (&server.error, server.round_trip_us, server.ready_us) {
            (Some(error), _, _) => error.clone(),
            (None, Some(trip), Some(ready)) => {
                format!(
                    "round trip {}, TLS after {}",
                    milliseconds(trip),
                    milliseconds(ready)
                )
            }
            (None, _, Some(ready)) => format!("TLS after {}", milliseconds(ready)),
            (None, _, None) => "reached".to_owned(),
        };
        rows.push([server.name.clone(), server.address.clone(), result]);
    }
    columns(&rows)
}

fn milliseconds(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Relays that are asked at the same time.
const RELAYS_MAX: usize = 64;
