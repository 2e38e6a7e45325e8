//! `admin device`: the devices of the deployment. Decides how they are shown, and which one a
//! person means by a name.

use clap::{Args, Subcommand};
use overlan_protocol::api::{DeviceSummary, MembershipSummary, path};
use overlan_protocol::netmap::Owner;
use overlan_transport::https::Connection;

use super::{List, ListArgs, SHORT_ID, show};
use crate::cli::exit::{Code, Failure};
use crate::cli::{StateArgs, api, output};

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
}

#[derive(Debug, Args)]
pub(crate) struct DeviceListArgs {
    /// Only those that this person enrolled, or an auth key with this id or note
    #[arg(long, value_name = "EMAIL|KEY|NOTE")]
    owner: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin device list
  overlan admin device list --owner anna@example.com
  overlan admin device list --json | jq -r '.devices[] | select(.online) | .label'";

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
    }
}

async fn list(args: DeviceListArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.list.state.open()?).await?;
    let mut devices = all(&mut connection).await?;
    if let Some(owner) = &args.owner {
        devices.retain(|device| is_of(device, owner));
        if devices.is_empty() && !args.list.json {
            output::note(&format!("{owner:?} enrolled none of the devices."));
            return Ok(());
        }
    }
    show(&args.list, &devices, &LIST, rows)
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
    let mut devices = all(&mut connection).await?;
    let devices = match (&args.device, &args.owner) {
        (Some(wanted), _) => vec![choose(devices, wanted)?],
        (None, owner) => {
            let owner = owner.as_deref().unwrap_or_default();
            devices.retain(|device| is_of(device, owner));
            if devices.is_empty() {
                let text = format!("{owner:?} enrolled none of the devices");
                return Err(Failure::new(Code::Other, text)
                    .next("`overlan admin device list` shows the owner of each."));
            }
            devices
        }
    };
    for device in devices {
        connection
            .delete(&format!("{}/{}", path::DEVICES, device.id), api::WITHIN)
            .await
            .map_err(api::as_person)?;
        let name = args.device.clone().unwrap_or_else(|| called(&device));
        output::note(&format!("Removed device {name}."));
    }
    Ok(())
}

fn called(device: &DeviceSummary) -> String {
    match device.networks.first() {
        Some(place) => format!("{}.{}", place.label, place.network),
        None => device.label.clone(),
    }
}

/// Returns true if this person, or an auth key with this id or note, enrolled the device.
fn is_of(device: &DeviceSummary, owner: &str) -> bool {
    match &device.owner {
        Owner::Person(email) => email.eq_ignore_ascii_case(owner),
        Owner::AuthKey(id) => {
            id == owner || (device.owner_note == owner && !device.owner_note.is_empty())
        }
        Owner::Unknown => false,
    }
}

async fn all(connection: &mut Connection) -> Result<Vec<DeviceSummary>, Failure> {
    let listed = connection.get(path::DEVICES, api::WITHIN).await;
    listed.map_err(api::as_person)
}

/// The one device that a person calls `wanted`.
pub(super) async fn find(
    connection: &mut Connection,
    wanted: &str,
) -> Result<DeviceSummary, Failure> {
    choose(all(connection).await?, wanted)
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

const LIST: List<7> = List {
    name: "devices",
    head: [
        "NAME", "NETWORK", "ADDRESS", "STATE", "RELAY", "OWNER", "ID",
    ],
    if_empty: "No device yet. `overlan admin auth-key create > key.txt` makes a key for the first \
        one.",
};

/// A row for each network that the device is in.
fn rows(device: &DeviceSummary) -> Vec<[String; 7]> {
    let words = [
        Some(if device.online { "online" } else { "offline" }),
        device.ephemeral.then_some("ephemeral"),
        (!device.waiting.is_empty()).then_some("waits for approval"),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let state = words.join(", ");
    let owner = match &device.owner {
        Owner::Person(email) => email.clone(),
        Owner::AuthKey(id) if device.owner_note.is_empty() => format!("key {id}"),
        Owner::AuthKey(_) => device.owner_note.clone(),
        Owner::Unknown => NOTHING.to_owned(),
    };
    let row = |label: &str, network: &str, address: &str| {
        [
            label.to_owned(),
            network.to_owned(),
            address.to_owned(),
            state.clone(),
            device.relay.clone().unwrap_or_else(|| NOTHING.to_owned()),
            owner.clone(),
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
    use overlan_protocol::key::DeviceId;

    use super::*;
    use crate::cli::exit::Code;

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
        let rows_of = rows(&device(1, &[("web", "home"), ("web-1", "acme")]));
        assert_eq!(rows_of.len(), 2);
        assert_eq!(rows_of[1][..2], ["web-1", "acme"]);
        assert_eq!(rows_of[1][5], "key k1");
        assert_eq!(rows(&device(3, &[]))[0][1], "-");
        let noted = DeviceSummary {
            owner_note: "CI runners".to_owned(),
            ..device(4, &[])
        };
        assert_eq!(rows(&noted)[0][5], "CI runners");
    }

    #[test]
    fn an_owner_is_meant_by_email_or_by_the_id_or_note_of_a_key() {
        let by_key = DeviceSummary {
            owner_note: "CI".to_owned(),
            ..device(1, &[])
        };
        assert!(is_of(&by_key, "k1") && is_of(&by_key, "CI"));
        for other in ["", "k", "k2", "ci", "CI "] {
            assert!(!is_of(&by_key, other), "{other:?}");
        }
        assert!(!is_of(&device(1, &[]), ""), "no note is nobody's");
        let by_person = DeviceSummary {
            owner: Owner::Person("anna@example.com".to_owned()),
            ..device(2, &[])
        };
        assert!(is_of(&by_person, "Anna@example.com") && !is_of(&by_person, "anna"));
    }
}
