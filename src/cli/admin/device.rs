//! `admin device`, and how they are shown. Decides which device a person means by a name.

use clap::{Args, Subcommand};
use overlan_protocol::api::{DeviceSummary, MembershipSummary, path};
use overlan_protocol::netmap::Owner;
use overlan_transport::https::Connection;

use super::{List, ListArgs, SHORT_ID};
use crate::cli::exit::Failure;
use crate::cli::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List devices
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Remove a device for good; it has to be enrolled again
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(RemoveArgs),
    /// Let a device in that was enrolled by a key with --approval; `device remove` turns it away
    #[command(after_help = APPROVE_EXAMPLES)]
    Approve(ApproveArgs),
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin device list
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
pub(crate) struct RemoveArgs {
    /// Its name, name.network, or id, as `overlan admin device list` shows them
    device: String,
    #[command(flatten)]
    state: StateArgs,
}

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin device remove old-laptop
  overlan admin device remove web.acme        where several networks have a web";

/// `overlan admin device …`, but the list.
pub(super) async fn run(command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::Remove(args) => remove(args).await,
        DeviceCommand::Approve(args) => approve(args).await,
        // It is a list like the others.
        DeviceCommand::List(_) => Ok(()),
    }
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

async fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = find(&mut connection, &args.device).await?;
    connection
        .delete(&format!("{}/{}", path::DEVICES, device.id), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("Removed device {}.", args.device));
    Ok(())
}

/// The one device that a person calls `wanted`.
pub(super) async fn find(
    connection: &mut Connection,
    wanted: &str,
) -> Result<DeviceSummary, Failure> {
    let devices: Vec<DeviceSummary> = connection
        .get(path::DEVICES, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    choose(devices, wanted)
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

pub(super) const LIST: List<7> = List {
    name: "devices",
    head: [
        "NAME", "NETWORK", "ADDRESS", "STATE", "RELAY", "OWNER", "ID",
    ],
    if_empty: "No device yet. `overlan admin auth-key create > key.txt` makes a key for the first one.",
};

/// A row for each network that the device is in.
pub(super) fn rows(device: &DeviceSummary) -> Vec<[String; 7]> {
    let words = [
        Some(if device.online { "online" } else { "offline" }),
        device.ephemeral.then_some("ephemeral"),
        (!device.waiting.is_empty()).then_some("waits for approval"),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let state = words.join(", ");
    let owner = match &device.owner {
        Owner::Person(email) => email.clone(),
        Owner::AuthKey(id) => format!("key {id}"),
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
    }
}
