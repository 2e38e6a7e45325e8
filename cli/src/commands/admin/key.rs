//! `admin key`: the keys of the whole deployment, for its operator. Decides how they are shown, and
//! what to do after a rotation.

use std::ops::RangeInclusive;

use clap::{Args, Subcommand, ValueEnum};
use overlan::program::status::columns;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    CA_GRACE_MAX_SECS, CA_GRACE_MIN_SECS, DeploymentKey, DeploymentKeySummary, JoinString,
    PreviousKey, RotateRequest, path,
};
use overlan_transport::clock::wall;

use super::{end, versioned};
use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the keys of the deployment, and who does not know a new one yet
    #[command(after_help = LIST_EXAMPLES)]
    List(KeyListArgs),
    /// Replace a key of the deployment; connections stay, and the one before counts for a while
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// The key to replace
    #[arg(value_enum)]
    key: Which,
    /// Time for which the CA before counts as well, 1 to 365 days [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = duration::within::<u64>(GRACE))]
    grace: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The key that signs the tickets of devices
    Ticket,
    /// The CA by which everybody recognises the controller
    Ca,
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin key list
  overlan admin key list --json | jq '.keys[] | select(.key == \"ca\").previous'";

const ROTATE_EXAMPLES: &str = "\
Examples:
  overlan admin key rotate ticket
  overlan admin key rotate ca --grace 60d

Owners of the organisation that the setup made may do this. Devices and relays that run learn a new
CA within seconds, the others when they connect, as long as the CA before counts. Join strings with
the CA before work for as long. Make a backup afterwards.";

/// `overlan admin key …`.
pub(super) async fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::List(args) => list(&args).await,
        KeyCommand::Rotate(args) => rotate(&args).await,
    }
}

async fn list(args: &KeyListArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let keys: Vec<DeploymentKeySummary> = connection
        .get(path::KEYS, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("keys", &keys));
    }
    if keys.is_empty() {
        let text = "the keys of this deployment belong to its operator";
        return Err(Failure::new(Code::Denied, text));
    }
    let now = wall();
    let head = ["KEY", "ID", "BEFORE IT", "NOT LEARNT BY"].map(str::to_owned);
    let rows = keys.iter().map(|key| row(key, now));
    let table: Vec<[String; 4]> = [head].into_iter().chain(rows).collect();
    output::answer(columns(&table).trim_end())
}

fn row(key: &DeploymentKeySummary, now: UnixTime) -> [String; 4] {
    let short = |id: &str| id.chars().take(SHORT).collect::<String>();
    let before = key.previous.as_ref();
    [
        name(key.key).to_owned(),
        short(&key.id),
        before.map_or_else(String::new, |before| {
            format!("{}, ends {}", short(&before.id), end(before.ends, now))
        }),
        match (key.key, before) {
            (DeploymentKey::Ca, Some(before)) => without(before),
            _ => String::new(),
        },
    ]
}

fn without(before: &PreviousKey) -> String {
    format!(
        "{} of {} devices, {} of {} relays",
        before.devices_without, before.devices_of, before.relays_without, before.relays_of
    )
}

fn name(key: DeploymentKey) -> &'static str {
    match key {
        DeploymentKey::Ticket => "ticket",
        DeploymentKey::Ca => "ca",
    }
}

async fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let mut connection = api::open_as_person(&state).await?;
    let request = RotateRequest {
        key: match args.key {
            Which::Ticket => DeploymentKey::Ticket,
            Which::Ca => DeploymentKey::Ca,
        },
        grace_secs: args.grace,
    };
    let rotated: DeploymentKeySummary = connection
        .post(path::KEYS_ROTATE, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let join = match args.key {
        Which::Ticket => None,
        Which::Ca => Some(JoinString {
            server: api::controller(&state)?.server,
            ca: rotated.id.parse().ok(),
            former: Default::default(),
        }),
    };
    if args.json {
        let mut document = versioned("key", &rotated);
        document["join"] = join.map(|join| join.to_string()).into();
        return output::json(&document);
    }
    output::note(&sentences(&rotated, wall()));
    match join {
        Some(join) => output::answer(&join.to_string()),
        None => Ok(()),
    }
}

fn sentences(rotated: &DeploymentKeySummary, now: UnixTime) -> String {
    let ends = rotated.previous.as_ref();
    let ends = ends.map_or_else(String::new, |before| end(before.ends, now));
    match rotated.key {
        DeploymentKey::Ticket => format!(
            "The ticket key is {} from now on. The one before ends {ends}, with its last ticket; \
             no device notices.",
            rotated.id
        ),
        DeploymentKey::Ca => format!(
            "The controller has a new CA. The one before ends {ends}; until then devices and \
             relays learn the new one by themselves, and `overlan admin key list` shows how many \
             have not. Give new ones this join string, and make a backup now:"
        ),
    }
}

const GRACE: RangeInclusive<u64> = CA_GRACE_MIN_SECS..=CA_GRACE_MAX_SECS;

/// Letters of an id that lists show; `--json` has all of them.
const SHORT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_does_not_know_the_new_ca() {
        let now = UnixTime::from_secs(1_800_000_000);
        let mut key = DeploymentKeySummary {
            key: DeploymentKey::Ca,
            id: "abcdefghijklmnop".to_owned(),
            made: now,
            previous: None,
        };
        assert_eq!(row(&key, now), ["ca", "abcdefghijkl", "", ""]);
        key.previous = Some(PreviousKey {
            id: "zyx".to_owned(),
            ends: UnixTime::from_secs(now.as_secs() + CA_GRACE_MIN_SECS),
            devices_without: 2,
            devices_of: 17,
            relays_without: 0,
            relays_of: 1,
        });
        let row = row(&key, now);
        assert!(row[2].starts_with("zyx, ends "), "{row:?}");
        assert_eq!(row[3], "2 of 17 devices, 0 of 1 relays");
    }
}
