//! `admin relay`: the relays of the deployment. Decides how they are shown.

use clap::Subcommand;
use overlan_protocol::api::RelaySummary;

use super::{LIST_RELAYS, ListArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// List relays
    #[command(after_help = LIST_RELAYS)]
    List(ListArgs),
}

pub(super) const HEAD: [&str; 5] = ["NAME", "STATE", "CLIENTS", "ADDRESSES", "ID"];

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
