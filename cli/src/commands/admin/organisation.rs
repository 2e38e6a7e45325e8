//! `admin organisation`: the organisation of the login. Decides how it is shown.

use std::time::Duration;

use clap::{Args, Subcommand};
use overlan::program::status::age;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    DevicesOfPerson, OrganisationDelete, OrganisationDeleted, OrganisationRequest,
    OrganisationSummary, PersonRemoved, RemovePersonRequest, path,
};
use overlan_transport::clock::wall;

use super::{arrived, person, versioned};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum OrganisationCommand {
    /// Show the organisation, and your role in it
    #[command(after_help = SHOW_EXAMPLES)]
    Show(OrganisationShowArgs),
    /// Rename the organisation; networks and devices keep their names
    #[command(after_help = RENAME_EXAMPLES)]
    Rename(OrganisationRenameArgs),
    /// Delete the organisation, with its networks, devices and relays
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(OrganisationDeleteArgs),
    /// Leave the organisation; your devices, keys and tokens in it end
    #[command(after_help = LEAVE_EXAMPLES)]
    Leave(LeaveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OrganisationShowArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OrganisationRenameArgs {
    /// The new name
    name: String,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OrganisationDeleteArgs {
    /// Its name, as `overlan admin organisation show` shows it
    name: String,
    /// The name once more: nothing brings the organisation back
    #[arg(long, value_name = "NAME")]
    confirm: String,
    /// Also if other people are in it
    #[arg(long)]
    with_everybody: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const DELETE_EXAMPLES: &str = "\
Examples:
  overlan admin organisation delete 'Acme Ltd' --confirm 'Acme Ltd'

Its devices are removed, its relays refuse them, and its keys, tokens, networks and policies go.
People who are in no other organisation lose their accounts. The operator's organisation stays.";

const LEAVE_EXAMPLES: &str = "\
Examples:
  overlan admin organisation leave";

const SHOW_EXAMPLES: &str = "\
Examples:
  overlan admin organisation show
  overlan admin organisation show --json | jq -r .organisation.role";

const RENAME_EXAMPLES: &str = "\
Examples:
  overlan admin organisation rename 'Acme Ltd'";

/// `overlan admin organisation …`.
pub(super) async fn run(command: OrganisationCommand) -> Result<(), Failure> {
    match command {
        OrganisationCommand::Show(args) => show(&args).await,
        OrganisationCommand::Rename(args) => rename(args).await,
        OrganisationCommand::Delete(args) => delete(&args).await,
        OrganisationCommand::Leave(args) => leave(&args).await,
    }
}

async fn show(args: &OrganisationShowArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let organisation: OrganisationSummary = connection
        .get(path::ORGANISATION, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("organisation", &organisation));
    }
    output::answer(&described(&organisation, wall()))
}

fn described(organisation: &OrganisationSummary, now: UnixTime) -> String {
    format!(
        "name:      {}\nnumber:    {}\nyour role: {}\nowners:    {}\npeople:    {}\n\
         networks:  {}\ndevices:   {}\nmade:      {} ago",
        organisation.name,
        organisation.id,
        organisation.role,
        organisation.owners.join(", "),
        organisation.people,
        organisation.networks,
        organisation.devices,
        age(now.since(organisation.created).as_secs()),
    )
}

async fn delete(args: &OrganisationDeleteArgs) -> Result<(), Failure> {
    if args.name != args.confirm {
        let text = format!(
            "{:?} is not {:?}; nothing was deleted",
            args.confirm, args.name
        );
        return Err(Failure::usage(text).next("Give --confirm the same name."));
    }
    let state = args.state.open()?;
    let mut connection = api::open_as_person(&state).await?;
    let request = OrganisationDelete {
        name: args.name.clone(),
        with_everybody: args.with_everybody,
    };
    let deleted: OrganisationDeleted = connection
        .post(path::ORGANISATION_DELETE, &request, DELETED_WITHIN)
        .await
        .map_err(api::as_person)?;
    // The session ended with the organisation.
    state.remove_login()?;
    if args.json {
        return output::json(&versioned("deleted", &deleted));
    }
    output::note(&format!(
        "Deleted organisation {}{}: people {} (accounts {}), networks {}, devices {}, relays {}.",
        deleted.name,
        arrived(deleted.applied.as_ref()),
        deleted.people,
        deleted.accounts_deleted,
        deleted.networks,
        deleted.devices,
        deleted.relays,
    ));
    Ok(())
}

/// Time for the deletion: the controller waits for devices and relays in between.
const DELETED_WITHIN: Duration = Duration::from_secs(30);

async fn leave(args: &LeaveArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let mut connection = api::open_as_person(&state).await?;
    let path = format!("{}/leave", path::ORGANISATION);
    let request = RemovePersonRequest {
        devices: DevicesOfPerson::Remove,
    };
    let left: PersonRemoved = connection
        .post(&path, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    // The session ended with the place.
    state.remove_login()?;
    if args.json {
        return output::json(&versioned("left", &left));
    }
    output::answer(&person::sentences(&left, &person::Fate::Remove))
}

async fn rename(args: OrganisationRenameArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = OrganisationRequest { name: args.name };
    let renamed: OrganisationSummary = connection
        .post(path::ORGANISATION, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("The organisation is called {} now.", renamed.name));
    Ok(())
}
