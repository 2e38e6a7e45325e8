//! Changes of one device: tags, its name, and whether it takes part. The controller carries them
//! out.

use clap::{Args, Subcommand, ValueEnum};
use overlan_protocol::api::{DeviceExpiry, DeviceRename, DeviceSummary, TagRequest, path};
use overlan_protocol::name::is_label;
use overlan_protocol::tag::Tag;
use overlan_transport::clock::wall;
use serde::Serialize;

use super::super::{arrived, end};
use super::{called, find, tag_list};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// Add tags to a device, or remove some; policies and lists mean devices by them
    #[command(after_help = TAG_EXAMPLES)]
    Tag(TagArgs),
    /// Give a device another name in all its networks
    #[command(after_help = RENAME_EXAMPLES)]
    Rename(DeviceRenameArgs),
    /// Disable a device: peers forget it at once, but it keeps its names and addresses
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(WhichArgs),
    /// Let a disabled or expired device take part again
    #[command(after_help = DISABLE_EXAMPLES)]
    Enable(WhichArgs),
    /// Set the time by which a device must prove its right again, by a login or an auth key
    #[command(after_help = EXPIRE_EXAMPLES)]
    Expire(ExpireArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Its name, name.network, or id, as `overlan admin device list` shows them
    device: String,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Add the tags, or remove them
    #[arg(value_enum)]
    action: TagAction,
    /// The tags: lower-case letters, digits and hyphens
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<Tag>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TagAction {
    Add,
    Remove,
}

const TAG_EXAMPLES: &str = "\
Examples:
  overlan admin device tag build-7 add ci linux
  overlan admin device tag build-7 remove linux";

#[derive(Debug, Args)]
pub(crate) struct DeviceRenameArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Its new name: lower-case letters, digits and hyphens
    #[arg(value_name = "NEW", value_parser = parse_host)]
    name: String,
}

const RENAME_EXAMPLES: &str = "\
Examples:
  overlan admin device rename web-1 web";

const DISABLE_EXAMPLES: &str = "\
Examples:
  overlan admin device disable lost-laptop
  overlan admin device enable lost-laptop";

#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Time from now: seconds, or with a unit, such as 12h or 90d; 0 = at once
    #[arg(
        long = "in",
        value_name = "TIME",
        value_parser = duration::within::<u64>(duration::ANY),
        required_unless_present = "never"
    )]
    within: Option<u64>,
    /// Never
    #[arg(long, conflicts_with = "within")]
    never: bool,
}

const EXPIRE_EXAMPLES: &str = "\
Examples:
  overlan admin device expire contractor --in 30d
  overlan admin device expire contractor --in 0        at once
  overlan admin device expire contractor --never
  Then, on the device:
    overlan login && overlan up";

/// `overlan admin device tag`, `rename`, `disable`, `enable`, `expire`.
pub(super) async fn run(command: ChangeCommand) -> Result<(), Failure> {
    match command {
        ChangeCommand::Tag(args) => tag(args).await,
        ChangeCommand::Rename(args) => rename(args).await,
        ChangeCommand::Disable(which) => {
            let device = change(&which, "disable", &serde_json::json!({})).await?;
            output::note(&format!(
                "Disabled device {}{}. It keeps its place: `overlan admin device enable {}` lets \
                 it in again.",
                called(&device),
                arrived(device.applied.as_ref()),
                which.device
            ));
            Ok(())
        }
        ChangeCommand::Enable(which) => {
            let device = change(&which, "enable", &serde_json::json!({})).await?;
            let name = called(&device);
            output::note(&format!(
                "Device {name} takes part{}; it comes back within a minute.",
                arrived(device.applied.as_ref())
            ));
            Ok(())
        }
        ChangeCommand::Expire(args) => expire(args).await,
    }
}

async fn tag(args: TagArgs) -> Result<(), Failure> {
    let tags = args.tags.into_iter().collect();
    let request = match args.action {
        TagAction::Add => TagRequest {
            add: tags,
            ..TagRequest::default()
        },
        TagAction::Remove => TagRequest {
            remove: tags,
            ..TagRequest::default()
        },
    };
    let device = change(&args.which, "tags", &request).await?;
    output::note(&format!(
        "Tags of {}: {}{}.",
        called(&device),
        tag_list(&device.tags),
        arrived(device.applied.as_ref())
    ));
    Ok(())
}

async fn rename(args: DeviceRenameArgs) -> Result<(), Failure> {
    let request = DeviceRename { label: args.name };
    let device = change(&args.which, "rename", &request).await?;
    let places = device.networks.iter();
    let names: Vec<String> = places
        .map(|place| format!("{}.{}", place.label, place.network))
        .collect();
    output::note(&match names.is_empty() {
        true => format!("Renamed device {} to {}.", args.which.device, device.label),
        false => format!(
            "Renamed device {}: peers reach it as {}.",
            args.which.device,
            names.join(", ")
        ),
    });
    Ok(())
}

async fn expire(args: ExpireArgs) -> Result<(), Failure> {
    let request = DeviceExpiry {
        in_secs: args.within,
    };
    let device = change(&args.which, "expire", &request).await?;
    let name = called(&device);
    output::note(&match device.expires {
        None => format!("Device {name} does not expire."),
        Some(at) => format!(
            "Device {name} must prove its right again: {}{}.",
            end(at, wall()),
            arrived(device.applied.as_ref())
        ),
    });
    Ok(())
}

async fn change<T: Serialize + Sync>(
    which: &WhichArgs,
    what: &str,
    request: &T,
) -> Result<DeviceSummary, Failure> {
    let mut connection = api::open_as_person(&which.state.open()?).await?;
    let device = find(&mut connection, &which.device).await?;
    let path = format!("{}/{}/{what}", path::DEVICES, device.id);
    connection
        .post(&path, request, api::WITHIN)
        .await
        .map_err(api::as_person)
}

fn parse_host(text: &str) -> Result<String, String> {
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("a device's name is 1 to 63 lower-case letters, digits and hyphens".to_owned())
        }
    }
}
