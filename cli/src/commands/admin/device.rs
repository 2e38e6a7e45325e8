//! `admin device`: the devices of the deployment. Decides how they are shown, and which one a
//! person means by a name. `changes` change them, `shown` is how they look.

use std::collections::BTreeSet;

use clap::{Args, Subcommand, ValueEnum};
use overlan::program::status::columns;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    DeviceQuery, DeviceSort, DeviceSummary, MembershipSummary, Removed, path,
};
use overlan_protocol::tag::Tag;
use overlan_transport::clock::wall;
use overlan_transport::https::Connection;

use super::{List, ListArgs, SHORT_ID, parse_label, show, versioned};
use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, duration, output};

mod changes;
mod shown;

use shown::{details, latency, or_nothing, owner_words, seen, state_words};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List devices
    #[command(after_help = LIST_EXAMPLES)]
    List(DeviceListArgs),
    /// Remove a device for good, or all of one owner; it has to be enrolled again
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(DeviceRemoveArgs),
    /// Approve a device that was enrolled by a key with --approval; `device remove` rejects it
    #[command(after_help = APPROVE_EXAMPLES)]
    Approve(ApproveArgs),
    /// Show all that is known of a device
    #[command(after_help = SHOW_EXAMPLES)]
    Show(DeviceShowArgs),
    #[command(flatten)]
    Change(changes::ChangeCommand),
}

#[derive(Debug, Args)]
pub(crate) struct DeviceListArgs {
    /// Only those in this network, or waiting for it
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    network: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<Tag>,
    /// Only those that this person enrolled, or an auth key with this id or note
    #[arg(long, value_name = "EMAIL|KEY|NOTE")]
    owner: Option<String>,
    /// Only those that are online
    #[arg(long, conflicts_with = "offline_for")]
    online: bool,
    /// Only those that are offline for this time at least: seconds, or with a unit, such as 30d
    #[arg(long, value_name = "TIME", value_parser = duration::within::<u64>(duration::ANY))]
    offline_for: Option<u64>,
    /// Only those with this version of the program, or one that begins with its numbers
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Only those whose home relay has this name
    #[arg(long, value_name = "NAME")]
    relay: Option<String>,
    /// The order
    #[arg(long, value_enum, default_value = "name")]
    sort: Sort,
    #[command(flatten)]
    list: ListArgs,
}

/// [`DeviceSort`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// By name
    Name,
    /// Those that were seen last come first
    LastSeen,
    /// The oldest version first
    Version,
    /// By the name of the home relay
    Relay,
    /// The longest round trip first
    Latency,
    /// The newest device first
    Created,
}

impl From<Sort> for DeviceSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Name => Self::Name,
            Sort::LastSeen => Self::LastSeen,
            Sort::Version => Self::Version,
            Sort::Relay => Self::Relay,
            Sort::Latency => Self::Latency,
            Sort::Created => Self::Created,
        }
    }
}

impl DeviceListArgs {
    fn query(&self) -> DeviceQuery {
        DeviceQuery {
            network: self.network.clone(),
            tag: self.tag.clone(),
            owner: self.owner.clone(),
            online: self.online.then_some(true),
            offline_for: self.offline_for,
            version: self.version.clone(),
            relay: self.relay.clone(),
            sort: self.sort.into(),
            limit: None,
            after: None,
        }
    }
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin device list
  overlan admin device list --verbose            versions, round trips and tags, too
  overlan admin device list --tag ci --online --sort latency
  overlan admin device list --offline-for 30d --owner anna@example.com
  overlan admin device list --version 0.2 --json | jq -r '.devices[].label'";

#[derive(Debug, Args)]
pub(crate) struct DeviceShowArgs {
    /// Its name, name.network, or id, as `overlan admin device list` shows them
    device: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  overlan admin device show web
  overlan admin device show web.acme --json | jq '.device.last_seen'";

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Its name or id, as `overlan admin device list` shows them
    device: String,
    #[command(flatten)]
    state: StateArgs,
}

const APPROVE_EXAMPLES: &str = "\
Examples:
  overlan admin device list                 its state is `waits for approval`
  overlan admin device approve build-7";

#[derive(Debug, Args)]
pub(crate) struct DeviceRemoveArgs {
    /// Its name, name.network, or id, as `overlan admin device list` shows them
    #[arg(required_unless_present = "owner", conflicts_with = "owner")]
    device: Option<String>,
    /// All that this person enrolled, or an auth key with this id or note
    #[arg(long, value_name = "EMAIL|KEY|NOTE")]
    owner: Option<String>,
    #[command(flatten)]
    state: StateArgs,
}

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin device remove old-laptop
  overlan admin device remove web.acme                  where several networks have a web
  overlan admin device remove --owner 3483819da319      all that this revoked auth key enrolled";

/// `overlan admin device …`.
pub(super) async fn run(command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::Remove(args) => remove(args).await,
        DeviceCommand::Approve(args) => approve(args).await,
        DeviceCommand::List(args) => list(args).await,
        DeviceCommand::Show(args) => show_one(args).await,
        DeviceCommand::Change(command) => changes::run(command).await,
    }
}

async fn list(args: DeviceListArgs) -> Result<(), Failure> {
    let query = args.query();
    let mut connection = api::open_as_person(&args.list.state.open()?).await?;
    let devices = ask(&mut connection, &query).await?;
    if devices.is_empty() && !args.list.json && query != DeviceQuery::default() {
        output::note("No device is like that.");
        return Ok(());
    }
    let now = wall();
    match args.list.verbose || args.list.json {
        true => show(&args.list, &devices, &LIST, |device| rows(device, now)),
        false => show(&args.list, &devices, &SHORT_LIST, |device| {
            let rows = rows(device, now).into_iter();
            rows.map(short).collect::<Vec<_>>()
        }),
    }
}

async fn show_one(args: DeviceShowArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = find(&mut connection, &args.device).await?;
    if args.json {
        return output::json(&versioned("device", &device));
    }
    let mut lines = details(&device, wall());
    lines.retain(|[_, words]| words != NOTHING);
    output::answer(&columns(&lines))
}

async fn approve(args: ApproveArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = find(&mut connection, &args.device).await?;
    let path = format!("{}/{}/approve", path::DEVICES, device.id);
    let places: Vec<MembershipSummary> = connection
        .post(&path, &serde_json::json!({}), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let names = places
        .iter()
        .map(|place| format!("{}.{}", place.label, place.network));
    let names: Vec<String> = names.collect();
    output::note(&format!(
        "Approved device {}: peers reach it as {}.",
        args.device,
        names.join(", ")
    ));
    Ok(())
}

async fn remove(args: DeviceRemoveArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let devices = match (&args.device, &args.owner) {
        (Some(wanted), _) => vec![find(&mut connection, wanted).await?],
        (None, owner) => {
            let query = DeviceQuery {
                owner: Some(owner.clone().unwrap_or_default()),
                ..DeviceQuery::default()
            };
            let devices = ask(&mut connection, &query).await?;
            if devices.is_empty() {
                let text = format!(
                    "{:?} enrolled none of the devices",
                    query.owner.unwrap_or_default()
                );
                return Err(Failure::new(Code::Other, text)
                    .next("`overlan admin device list` shows the owner of each."));
            }
            devices
        }
    };
    for device in devices {
        let path = format!("{}/{}", path::DEVICES, device.id);
        let removed: Removed = connection
            .remove(&path, api::WITHIN)
            .await
            .map_err(api::as_person)?;
        let name = args.device.clone().unwrap_or_else(|| called(&device));
        let applied = removed.applied.map(|applied| format!(": {applied}"));
        let applied = applied.unwrap_or_default();
        output::note(&format!("Removed device {name}{applied}."));
    }
    Ok(())
}

/// Returns tags for one cell of a list.
pub(super) fn tag_list(tags: &BTreeSet<Tag>) -> String {
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    match tags.is_empty() {
        true => NOTHING.to_owned(),
        false => tags.join(","),
    }
}

fn called(device: &DeviceSummary) -> String {
    match device.networks.first() {
        Some(place) => format!("{}.{}", place.label, place.network),
        None => device.label.clone(),
    }
}

async fn ask(
    connection: &mut Connection,
    query: &DeviceQuery,
) -> Result<Vec<DeviceSummary>, Failure> {
    let path = format!("{}?{}", path::DEVICES, query_text(query)?);
    let listed = connection.get(&path, api::WITHIN).await;
    listed.map_err(api::as_person)
}

/// Writes a query as a part of a request's path.
fn query_text(query: &DeviceQuery) -> Result<String, Failure> {
    let fields = serde_json::to_value(query).map_err(std::io::Error::from)?;
    let fields = fields.as_object().into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={}", percent_encoded(&text))
        })
        .collect();
    Ok(fields.join("&"))
}

/// Writes all bytes but the unreserved ones of RFC 3986 as percent codes.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The one device that a person calls `wanted`.
pub(super) async fn find(
    connection: &mut Connection,
    wanted: &str,
) -> Result<DeviceSummary, Failure> {
    choose(ask(connection, &DeviceQuery::default()).await?, wanted)
}

fn choose(devices: Vec<DeviceSummary>, wanted: &str) -> Result<DeviceSummary, Failure> {
    let mut found: Vec<DeviceSummary> = devices
        .into_iter()
        .filter(|device| is_called(device, wanted))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(device), true) => Ok(device),
        (None, _) => Err(Failure::usage(format!("no device is called {wanted:?}"))
            .next("`overlan admin device list` lists them.")),
        (Some(last), false) => {
            found.push(last);
            let ids: Vec<String> = found.iter().map(|device| device.id.to_string()).collect();
            Err(Failure::usage(format!(
                "{} devices are called {wanted:?}: {}",
                ids.len(),
                ids.join(", ")
            ))
            .next("Give NAME.NETWORK, or an id."))
        }
    }
}

fn is_called(device: &DeviceSummary, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    is_id(&device.id.to_string(), &wanted)
        || (device.networks.is_empty() && device.label == wanted)
        || device.networks.iter().any(|place| {
            place.label == wanted || format!("{}.{}", place.label, place.network) == wanted
        })
}

/// An id is meant by its beginning, too.
fn is_id(id: &str, wanted: &str) -> bool {
    wanted.len() >= SHORT_ID && id.starts_with(wanted)
}

const LIST: List<11> = List {
    name: "devices",
    head: [
        "NAME", "NETWORK", "ADDRESS", "STATE", "SEEN", "VERSION", "RELAY", "LATENCY", "OWNER",
        "TAGS", "ID",
    ],
    if_empty: "No device yet. `overlan admin auth-key create > key.txt` makes a key for the first \
        one.",
};

/// The columns that fit on a terminal; `--verbose` has all.
const SHORT_LIST: List<7> = List {
    name: LIST.name,
    head: [
        "NAME", "NETWORK", "ADDRESS", "STATE", "RELAY", "OWNER", "ID",
    ],
    if_empty: LIST.if_empty,
};

/// Leaves the columns of the short list in a row; the state says when an offline device was seen.
fn short(row: [String; 11]) -> [String; 7] {
    let [
        name,
        network,
        address,
        mut state,
        seen,
        _,
        relay,
        _,
        owner,
        _,
        id,
    ] = row;
    if seen.ends_with("ago") {
        state = format!("{state}, {seen}");
    }
    [name, network, address, state, relay, owner, id]
}

/// A row for each network that the device is in.
fn rows(device: &DeviceSummary, now: UnixTime) -> Vec<[String; 11]> {
    let row = |label: &str, network: &str, address: &str| {
        [
            label.to_owned(),
            network.to_owned(),
            address.to_owned(),
            state_words(device),
            seen(device, now),
            or_nothing(&device.version),
            or_nothing(device.relay.as_deref().unwrap_or_default()),
            latency(device),
            owner_words(device),
            tag_list(&device.tags),
            device.id.to_string(),
        ]
    };
    let place = |place: &MembershipSummary| row(&place.label, &place.network, &place.address);
    match device.networks.as_slice() {
        [] if device.waiting.is_empty() => vec![row(&device.label, NOTHING, NOTHING)],
        [] => vec![row(&device.label, &device.waiting.join(","), NOTHING)],
        places => places.iter().map(place).collect(),
    }
}

const NOTHING: &str = "-";

#[cfg(test)]
mod tests {
    use overlan_protocol::api::{Bar, Barred};
    use overlan_protocol::key::DeviceId;

    use overlan_protocol::netmap::Owner;

    use super::*;
    use crate::commands::exit::Code;

    fn device(id: u8, places: &[(&str, &str)]) -> DeviceSummary {
        let place = |(label, network): &(&str, &str)| MembershipSummary {
            network: (*network).to_owned(),
            label: (*label).to_owned(),
            address: "100.64.0.2".to_owned(),
        };
        DeviceSummary {
            waiting: Vec::new(),
            id: DeviceId([id; 16]),
            label: "asked".to_owned(),
            networks: places.iter().map(place).collect(),
            owner: Owner::AuthKey("k1".to_owned()),
            owner_note: String::new(),
            online: true,
            ephemeral: false,
            relay: None,
            tags: BTreeSet::new(),
            barred: None,
            expires: None,
            last_seen: None,
            created: UnixTime::EPOCH,
            version: "0.2.0".to_owned(),
            round_trip_ms: None,
            applied: None,
        }
    }

    #[test]
    fn a_device_is_meant_by_label_by_place_or_by_id_and_never_by_chance() {
        let all = || {
            vec![
                device(1, &[("web", "home"), ("web-1", "acme")]),
                device(2, &[("web", "acme")]),
                device(3, &[]),
            ]
        };
        let id = |wanted: &str| choose(all(), wanted).unwrap().id.0[0];
        assert_eq!(id("web-1"), 1);
        assert_eq!(id("Web.acme"), 2);
        assert_eq!(id("asked"), 3);
        assert_eq!(id(&DeviceId([2; 16]).to_string()), 2);
        let begin = DeviceId([2; 16]).to_string();
        assert_eq!(id(&begin[..SHORT_ID]), 2);
        assert!(choose(all(), &begin[..SHORT_ID - 1]).is_err());
        let several = choose(all(), "web").unwrap_err();
        assert_eq!(several.code(), Code::Usage);
        assert!(several.to_string().contains("NAME.NETWORK"), "{several}");
        assert_eq!(choose(all(), "db").unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn a_device_has_a_row_in_each_of_its_networks() {
        let rows_of = rows(
            &device(1, &[("web", "home"), ("web-1", "acme")]),
            UnixTime::EPOCH,
        );
        assert_eq!(rows_of.len(), 2);
        assert_eq!(rows_of[1][..2], ["web-1", "acme"]);
        assert_eq!(rows_of[1][8], "key k1");
        assert_eq!(rows(&device(3, &[]), UnixTime::EPOCH)[0][1], "-");
        let noted = DeviceSummary {
            owner_note: "CI runners".to_owned(),
            ..device(4, &[])
        };
        assert_eq!(rows(&noted, UnixTime::EPOCH)[0][8], "CI runners");
    }

    #[test]
    fn a_query_keeps_what_a_person_wrote_from_the_rest_of_the_path() {
        assert_eq!(query_text(&DeviceQuery::default()).unwrap(), "sort=name");
        let query = DeviceQuery {
            owner: Some("CI & co?#/\u{e4}".to_owned()),
            online: Some(true),
            offline_for: Some(60),
            tag: Some("ci".parse().unwrap()),
            ..DeviceQuery::default()
        };
        let text = query_text(&query).unwrap();
        let mut fields: Vec<&str> = text.split('&').collect();
        fields.sort_unstable();
        let wanted = [
            "offline_for=60",
            "online=true",
            "owner=CI%20%26%20co%3F%23%2F%C3%A4",
            "sort=name",
            "tag=ci",
        ];
        assert_eq!(fields, wanted);
    }

    #[test]
    fn a_barred_device_says_since_when_and_nothing_that_is_not_known() {
        let now = UnixTime::from_secs(1_000);
        let device = DeviceSummary {
            online: false,
            last_seen: Some(UnixTime::from_secs(880)),
            barred: Some(Barred {
                why: Bar::Disabled,
                since: UnixTime::from_secs(940),
            }),
            ..device(1, &[("web", "home")])
        };
        let row = &rows(&device, now)[0];
        assert_eq!(row[3], "offline, disabled");
        assert_eq!(row[4], "2 min ago");
        assert_eq!(short(row.clone())[3], "offline, disabled, 2 min ago");
        let lines = details(&device, now);
        assert!(lines.contains(&["takes no part".to_owned(), "disabled 60 s ago".to_owned()]));
        assert!(lines.contains(&["latency".to_owned(), NOTHING.to_owned()]));
    }
}
