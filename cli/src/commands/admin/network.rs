//! `admin network`: networks, and which devices are in them. The controller carries out joining and
//! leaving.

use clap::{Args, Subcommand};
use overlan_protocol::api::{
    MemberRequest, MembershipSummary, NetworkRename, NetworkRequest, NetworkSummary, path,
};
use overlan_protocol::name;
use overlan_transport::clock::wall;

use super::{List, ListArgs, device, end};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum AdminNetworkCommand {
    /// Make a network
    #[command(after_help = CREATE_EXAMPLES)]
    Create(NetworkCreateArgs),
    /// Rename a network; names with the old name work on for a while
    #[command(after_help = RENAME_EXAMPLES)]
    Rename(RenameArgs),
    /// List networks
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Delete a network
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArgs),
    /// Add a device to a network; it takes part at once
    #[command(after_help = MEMBER_EXAMPLES)]
    Add(MemberArgs),
    /// Remove a device from a network; relays drop it at once, and it cannot come back by itself
    #[command(after_help = MEMBER_EXAMPLES)]
    Remove(MemberArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// Its name, a label of the names in it: host.NAME.overlan.internal
    #[arg(value_parser = parse_label)]
    name: String,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Its present name
    #[arg(value_parser = parse_label)]
    old: String,
    /// Its new name
    #[arg(value_parser = parse_label)]
    new: String,
    /// Time for which names with the old name are aliases, and no other network can have it:
    /// seconds, or with a unit, such as 12h or 30d; 0 = none [default: 7d]
    #[arg(long, value_parser = duration::within::<u64>(duration::ANY), value_name = "TIME")]
    keep_old: Option<u64>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    #[arg(value_parser = parse_label)]
    name: String,
    /// Delete it even if devices are in it: they leave it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// The network
    #[arg(value_parser = parse_label)]
    network: String,
    /// The device: its name, name.network, or id, as `overlan admin device list` shows them
    device: String,
    #[command(flatten)]
    state: StateArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  overlan admin network create acme
  overlan admin auth-key create --network acme > key.txt     a key for new devices of it
  overlan admin network add acme laptop                      a device that is there already";

const RENAME_EXAMPLES: &str = "\
Examples:
  overlan admin network rename home office
  overlan admin network rename home office --keep-old 30d";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin network list
  overlan admin network list --json | jq -r '.networks[].name'";

const DELETE_EXAMPLES: &str = "\
Examples:
  overlan admin network delete acme
  overlan admin network delete acme --force    devices that are in it leave it";

const MEMBER_EXAMPLES: &str = "\
Examples:
  overlan admin network add acme laptop
  overlan admin network remove acme laptop.home";

/// `overlan admin network …`, but the list.
pub(super) async fn run(command: AdminNetworkCommand) -> Result<(), Failure> {
    match command {
        AdminNetworkCommand::Create(args) => create(args).await,
        AdminNetworkCommand::Rename(args) => rename(args).await,
        AdminNetworkCommand::Delete(args) => delete(&args).await,
        AdminNetworkCommand::Add(args) => add(&args).await,
        AdminNetworkCommand::Remove(args) => remove(&args).await,
        // It is a list like the others.
        AdminNetworkCommand::List(_) => Ok(()),
    }
}

async fn create(args: NetworkCreateArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = NetworkRequest { name: args.name };
    let made: NetworkSummary = connection
        .post(path::NETWORKS, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("Created network {}.", made.name));
    Ok(())
}

async fn rename(args: RenameArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = NetworkRename {
        name: args.new,
        keep_old_secs: args.keep_old,
    };
    let path = format!("{}/{}/rename", path::NETWORKS, args.old);
    let renamed: NetworkSummary = connection
        .post(&path, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let (old, new) = (args.old, renamed.name);
    let kept = renamed.former.iter().find(|former| former.name == old);
    output::note(&match kept {
        Some(former) => format!(
            "Renamed network {old} to {new}. Names in {old} are aliases; that ends {}.",
            end(former.until, wall())
        ),
        None => format!("Renamed network {old} to {new}. Nothing answers to {old} any more."),
    });
    Ok(())
}

async fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let force = if args.force { "?force" } else { "" };
    let path = format!("{}/{}{force}", path::NETWORKS, args.name);
    connection
        .delete(&path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("Deleted network {}.", args.name));
    Ok(())
}

async fn add(args: &MemberArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = device::find(&mut connection, &args.device).await?.id;
    let path = format!("{}/{}/devices", path::NETWORKS, args.network);
    let place: MembershipSummary = connection
        .post(&path, &MemberRequest { device }, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!(
        "{} joined network {} as {}, {}.",
        args.device, place.network, place.label, place.address
    ));
    Ok(())
}

async fn remove(args: &MemberArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = device::find(&mut connection, &args.device).await?.id;
    let path = format!("{}/{}/devices/{device}", path::NETWORKS, args.network);
    connection
        .delete(&path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!(
        "{} is no longer in network {}.",
        args.device, args.network
    ));
    Ok(())
}

/// A network's name; it becomes a part of a request's path.
pub(crate) fn parse_label(text: &str) -> Result<String, String> {
    match name::is_label(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("a network's name is 1 to 63 lower-case letters, digits and hyphens".to_owned())
        }
    }
}

pub(super) const LIST: List<5> = List {
    name: "networks",
    head: ["NAME", "DEVICES", "ONLINE", "DEFAULT", "ID"],
    if_empty: "No network yet. `overlan admin network create NAME` makes one.",
};

pub(super) fn row(network: &NetworkSummary) -> [String; 5] {
    let default = match network.default {
        true => "yes",
        false => "no",
    };
    [
        network.name.clone(),
        network.devices.to_string(),
        network.online.to_string(),
        default.to_owned(),
        network.id.to_string(),
    ]
}
