//! `admin relay`: the relays of the deployment. Decides how they are shown.

use clap::Subcommand;
use overlan_protocol::api::RelaySummary;

use super::{LIST_RELAYS, List, ListArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// List relays
    #[command(after_help = LIST_RELAYS)]
    List(ListArgs),
}

pub(super) const LIST: List<5> = List {
    name: "relays",
    head: ["NAME", "STATE", "CLIENTS", "ADDRESSES", "ID"],
    if_empty: "No relay yet. `overlan admin relay-token create NAME > token.txt` makes a token for the first one.",
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
