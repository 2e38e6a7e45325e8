//! `admin relay`: the relays of the deployment. Decides how they are shown.

use clap::{Args, Subcommand};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{RelaySummary, RelayTokenSummary, path};

use super::{LIST_RELAYS, List, ListArgs, path_part};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum AdminRelayCommand {
    /// List relays
    #[command(after_help = LIST_RELAYS)]
    List(ListArgs),
    /// Remove a relay for good; its devices move to others
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(RelayRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RelayRemoveArgs {
    /// Its name, as `overlan admin relay list` shows it
    name: String,
    #[command(flatten)]
    state: StateArgs,
}

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin relay remove ams-1        then stop it

To register it again, make a token and empty its --state-dir.";

pub(super) async fn remove(args: RelayRemoveArgs) -> Result<(), Failure> {
    let path = format!("{}/{}", path::RELAYS, path_part("relay", &args.name)?);
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let removed = connection.delete(&path, api::WITHIN).await;
    removed.map_err(api::as_person)?;
    output::note(&format!("Relay {} is removed.", args.name));
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct RevokeTokenArgs {
    /// The token's id, as `overlan admin relay-token list` shows it
    id: String,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn revoke_token(args: RevokeTokenArgs) -> Result<(), Failure> {
    let path = format!(
        "{}/{}",
        path::RELAY_TOKENS,
        path_part("relay token", &args.id)?
    );
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let revoked = connection.delete(&path, api::WITHIN).await;
    revoked.map_err(api::as_person)?;
    output::note(&format!("Relay token {} is revoked.", args.id));
    Ok(())
}

pub(super) const TOKENS: List<4> = List {
    name: "relay_tokens",
    head: ["TOKEN", "RELAY", "ENDS", "USED"],
    if_empty: "No relay token. `overlan admin relay-token create NAME > token.txt` makes one.",
};

pub(super) fn token_row(token: &RelayTokenSummary, now: UnixTime) -> [String; 4] {
    [
        token.id.clone(),
        token.name.clone(),
        super::end(token.expires, now),
        match token.used {
            true => "yes".to_owned(),
            false => "no".to_owned(),
        },
    ]
}

pub(super) const LIST: List<5> = List {
    name: "relays",
    head: ["NAME", "STATE", "CLIENTS", "ADDRESSES", "ID"],
    if_empty: "No relay yet. `overlan admin relay-token create NAME > token.txt` makes a token \
        for the first one.",
};

pub(super) fn row(relay: &RelaySummary) -> [String; 5] {
    let state = match relay.online {
        true => "online",
        false => "offline",
    };
    [
        relay.name.clone(),
        state.to_owned(),
        relay.clients.to_string(),
        relay.addresses.join(", "),
        relay.id.to_string(),
    ]
}
