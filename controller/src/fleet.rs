//! Changes of relays that are more than one row: each runs inside its caller's transaction and
//! leaves its trace in the change log. [`crate::placement`] decides; [`crate::roster`] has the
//! members of networks.

use std::time::Duration;

use std::collections::BTreeMap;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{HOLDERS_MAX, RelayOrders};
use overlan_protocol::key::{Fingerprint, IdentityKey, RelayId};
use overlan_protocol::ticket::{CLOCK_SKEW_SECS, KeyId, TICKET_LIFE_SECS};
use parking_lot::Mutex;

use crate::deployment::Deployment;
use crate::netmaps::{Fact, OrgId};
use crate::placement::Placement;
use crate::report::Reports;
use crate::roster;
use crate::store::relays::{self, RelayRow};
use crate::store::{StoreError, Tx, changes, devices, put_setting, runs, setting};
use crate::tickets::TicketSigner;

/// Writes a new or changed relay, and tells devices. If it came online or went offline, devices are
/// placed again.
pub(crate) async fn put_relay(
    tx: &mut Tx,
    relay: &RelayRow,
    before: Option<&RelayRow>,
    reports: &Mutex<Reports>,
    now: UnixTime,
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

/// Marks a silent relay as offline; returns its name if it was online.
pub(crate) async fn lose_relay(
    tx: &mut Tx,
    id: RelayId,
    reports: &Mutex<Reports>,
    now: UnixTime,
) -> Result<Option<String>, StoreError> {
    let Some(before) = relays::get(tx, id).await?.filter(|relay| relay.online) else {
        return Ok(None);
    };
    let after = RelayRow {
        online: false,
        ..before.clone()
    };
    put_relay(tx, &after, Some(&before), reports, now).await?;
    Ok(Some(after.name))
}

/// Removes a relay for good: devices forget it and move, and the relay learns of it when it asks.
pub(crate) async fn remove_relay(
    tx: &mut Tx,
    relay: &RelayRow,
    reports: &Mutex<Reports>,
    now: UnixTime,
) -> Result<(), StoreError> {
    relays::delete(tx, relay.org, relay.id).await?;
    place_all(tx, relay.org, reports, now).await?;
    let fact = Fact::RelayGone { id: relay.id };
    changes::append(tx, relay.org, None, &fact, now).await
}

/// Returns the orders for the relays of an organisation.
pub(crate) async fn orders(
    deployment: &Deployment,
    tx: &mut Tx,
    org: OrgId,
    now: UnixTime,
) -> Result<RelayOrders, StoreError> {
    let live = Duration::from_secs(TICKET_LIFE_SECS + CLOCK_SKEW_SECS);
    Ok(RelayOrders {
        version: relays::orders_version(tx, org).await?,
        lineage: Some(deployment.runs.present()),
        holders: match runs::rewound(tx, now).await? {
            None => Vec::new(),
            Some(at) => runs::holders(tx, org, at, HOLDERS_MAX).await?,
        },
        ticket_keys: deployment.keys.signer().keys(now),
        revoked: relays::revoked(tx, org, now - live).await?,
        cas: deployment.keys.server().identity.cas(),
    })
}

/// Renews the orders if the ticket keys differ from those that relays know.
pub(crate) async fn announce_keys(
    tx: &mut Tx,
    signer: &TicketSigner,
    now: UnixTime,
) -> Result<(), StoreError> {
    let keys = announcement(signer, now);
    if setting(tx, TICKET_KEYS).await?.as_deref() != Some(keys.as_bytes()) {
        put_setting(tx, TICKET_KEYS, keys.as_bytes()).await?;
        relays::bump_orders(tx).await?;
    }
    Ok(())
}

/// Notes the CA that devices pin, and renews the orders if it is a new one.
pub(crate) async fn announce_ca(tx: &mut Tx, ca: Fingerprint) -> Result<(), StoreError> {
    if announced_ca(tx).await? != Some(ca) {
        put_setting(tx, CA, &ca.0).await?;
        relays::bump_orders(tx).await?;
    }
    Ok(())
}

/// Returns the CA that devices pin, once there is one.
pub(crate) async fn announced_ca(tx: &mut Tx) -> Result<Option<Fingerprint>, StoreError> {
    let known = setting(tx, CA).await?;
    Ok(known
        .and_then(|known| known.try_into().ok())
        .map(Fingerprint))
}

/// Setting that holds the SHA-256 of the CA's certificate.
const CA: &str = "ca";

/// Says whether no key has the id of another one that relays know.
pub(crate) async fn announced_keys_fit(
    tx: &mut Tx,
    signer: &TicketSigner,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let announced = setting(tx, TICKET_KEYS).await?.unwrap_or_default();
    let announced = String::from_utf8_lossy(&announced);
    let announced: BTreeMap<&str, &str> = announced
        .split(' ')
        .filter_map(|key| key.split_once(':'))
        .collect();
    let keys = signer.keys(now);
    let differs = |(id, key): (&KeyId, &IdentityKey)| {
        announced
            .get(id.0.as_str())
            .is_some_and(|announced| *announced != key.to_string())
    };
    Ok(!keys.iter().any(differs))
}

fn announcement(signer: &TicketSigner, now: UnixTime) -> String {
    let keys = signer.keys(now);
    let keys: Vec<String> = keys
        .iter()
        .map(|(id, key)| format!("{}:{key}", id.0))
        .collect();
    keys.join(" ")
}

/// Setting that holds the ticket keys that relays know, each as `id:key`.
const TICKET_KEYS: &str = "ticket-key";

async fn place_all(
    tx: &mut Tx,
    org: OrgId,
    reports: &Mutex<Reports>,
    now: UnixTime,
) -> Result<(), StoreError> {
    let mut placement = Placement::new(relays::candidates(tx, org).await?);
    for mut device in devices::of_org(tx, org).await? {
        let round_trips = reports.lock().round_trips(device.id);
        if let Some(list) = placement.place(device.id, &device.relays, &round_trips) {
            devices::set_relays(tx, org, device.id, &list).await?;
            device.relays = list;
            roster::announce(tx, &device, now).await?;
        }
    }
    Ok(())
}
