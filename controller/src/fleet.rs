//! Changes of relays that are more than one row: each runs inside its caller's transaction and leaves its trace in the change
//! log. The decisions are [`crate::placement`]'s; who is in which network is [`crate::roster`]'s.

use std::sync::Mutex;

use overlan_protocol::api::RelayOrders;
use overlan_protocol::key::RelayId;
use overlan_protocol::ticket::{CLOCK_SKEW_SECS, TICKET_LIFE_SECS, TicketKeys};

use crate::placement::Placement;
use crate::registry::{Fact, OrgId};
use crate::report::Reports;
use crate::shared::lock;
use crate::store::relays::{self, RelayRow};
use crate::store::{StoreError, Tx, changes, devices};

/// Writes a relay, new or changed, and tells devices. If it came online or went, devices are placed anew.
pub(crate) async fn put_relay(
    tx: &mut Tx,
    relay: &RelayRow,
    before: Option<&RelayRow>,
    reports: &Mutex<Reports>,
    now: u64,
) -> Result<(), StoreError> {
    relays::put(tx, relay, now).await?;
    if before.is_none_or(|before| before.public() != relay.public()) {
        let fact = Fact::Relay {
            id: relay.id,
            relay: relay.public(),
        };
        changes::append(tx, relay.org, None, &fact, now).await?;
    }
    if before.is_none_or(|before| before.online != relay.online) {
        place_all(tx, relay.org, reports, now).await?;
    }
    Ok(())
}

/// Marks a relay that is silent as offline.
pub(crate) async fn lose_relay(
    tx: &mut Tx,
    id: RelayId,
    reports: &Mutex<Reports>,
    now: u64,
) -> Result<(), StoreError> {
    let Some(before) = relays::get(tx, id).await?.filter(|relay| relay.online) else {
        return Ok(());
    };
    let after = RelayRow {
        online: false,
        ..before.clone()
    };
    put_relay(tx, &after, Some(&before), reports, now).await
}

/// What the relays of an organisation must know.
pub(crate) async fn orders(
    tx: &mut Tx,
    org: OrgId,
    ticket_keys: TicketKeys,
    now: u64,
) -> Result<RelayOrders, StoreError> {
    let live = TICKET_LIFE_SECS + CLOCK_SKEW_SECS;
    Ok(RelayOrders {
        version: relays::orders_version(tx, org).await?,
        lineage: None,
        holders: Vec::new(),
        ticket_keys,
        revoked: relays::revoked(tx, org, now.saturating_sub(live)).await?,
    })
}

async fn place_all(
    tx: &mut Tx,
    org: OrgId,
    reports: &Mutex<Reports>,
    now: u64,
) -> Result<(), StoreError> {
    let mut placement = Placement::new(relays::candidates(tx, org).await?);
    for mut device in devices::of_org(tx, org).await? {
        let round_trips = lock(reports).round_trips(device.id);
        if let Some(list) = placement.place(device.id, &device.relays, &round_trips) {
            devices::set_relays(tx, org, device.id, &list).await?;
            device.relays = list;
            for place in &device.places {
                let fact = Fact::Device(Box::new(device.member(place)));
                changes::append(tx, org, Some(place.network), &fact, now).await?;
            }
        }
    }
    Ok(())
}
