//! `admin invitation`: invitations into the organisation. Decides how they are shown; the link is
//! printed once.

use clap::{Args, Subcommand};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    InvitationRequest, InvitationResponse, InvitationState, InvitationSummary, OneTimeLink, Role,
    path,
};
use overlan_transport::clock::wall;
use serde_json::json;

use super::{List, ListArgs, end};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum InvitationCommand {
    /// Invite somebody into the organisation and print the link; it is shown only once
    #[command(after_help = CREATE_EXAMPLES)]
    Create(InviteArgs),
    /// List invitations, without their secrets
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Revoke an invitation that nobody has accepted
    #[command(after_help = REVOKE_EXAMPLES, aliases = ["remove", "delete"])]
    Revoke(RevokeInvitationArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// The person's email, which the account has or will have
    email: String,
    /// owner, admin, auditor (reads everything, changes nothing) or member
    #[arg(long, default_value_t = Role::Member)]
    role: Role,
    /// Time for which it is valid: seconds, or with a unit, such as 12h, 7d [default: 7d]
    #[arg(long, value_parser = duration::within::<u64>(duration::SOME), value_name = "TIME")]
    expires: Option<u64>,
    /// Print one JSON document, the link included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeInvitationArgs {
    /// The invitation's id, as `overlan admin invitation list` shows it
    id: String,
    #[command(flatten)]
    state: StateArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  overlan admin invitation create anna@example.com > link.txt
  overlan admin invitation create ben@example.com --role admin --expires 1d
  The invited person, whose account may exist already:
    overlan login --invitation-file link.txt";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin invitation list
  overlan admin invitation list --json | jq -r '.invitations[] | select(.state == \"open\") | .id'";

const REVOKE_EXAMPLES: &str = "\
Examples:
  overlan admin invitation list                  shows the ids
  overlan admin invitation revoke 0011aabbccdd";

/// `overlan admin invitation …`, but the list.
pub(super) async fn run(command: InvitationCommand) -> Result<(), Failure> {
    match command {
        InvitationCommand::Create(args) => create(args).await,
        InvitationCommand::Revoke(args) => revoke(&args).await,
        // It is a list like the others.
        InvitationCommand::List(_) => Ok(()),
    }
}

async fn create(args: InviteArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let join = api::controller(&state)?;
    let mut connection = api::open_as_person(&state).await?;
    let request = InvitationRequest {
        email: args.email,
        role: args.role,
        expires_in_secs: args.expires,
    };
    let made: InvitationResponse = connection
        .post(path::INVITATIONS, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let token = made.token;
    let link = OneTimeLink { join, token }.text();
    if args.json {
        return output::json(&json!({
            "schema_version": 1,
            "invitation": made.summary,
            "link": link,
        }));
    }
    // The link alone is the answer, so that it can go straight into a file.
    output::note(&format!(
        "Invitation {} for {} as {}: one person, ends {}. Its link is shown only once; send it to \
         nobody else. Next, there: overlan login --invitation-file FILE",
        made.summary.id,
        made.summary.email,
        made.summary.role,
        end(made.summary.expires, wall()),
    ));
    output::answer(link.reveal())
}

async fn revoke(args: &RevokeInvitationArgs) -> Result<(), Failure> {
    // It becomes a part of the request's path.
    if args.id.is_empty() || !args.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let text = format!("{:?} is not the id of an invitation", args.id);
        return Err(Failure::usage(text).next("`overlan admin invitation list` shows them."));
    }
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    connection
        .delete(&format!("{}/{}", path::INVITATIONS, args.id), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("Revoked invitation {}.", args.id));
    Ok(())
}

pub(super) const LIST: List<6> = List {
    name: "invitations",
    head: ["ID", "EMAIL", "ROLE", "STATE", "ENDS", "BY"],
    if_empty: "No invitation yet. `overlan admin invitation create EMAIL` makes one.",
};

pub(super) fn row(invitation: &InvitationSummary, now: UnixTime) -> [String; 6] {
    let ends = match invitation.state {
        InvitationState::Open | InvitationState::Expired => end(invitation.expires, now),
        InvitationState::Accepted | InvitationState::Revoked => "-".to_owned(),
    };
    [
        invitation.id.clone(),
        invitation.email.clone(),
        invitation.role.to_string(),
        invitation.state.word().to_owned(),
        ends,
        invitation.by.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
