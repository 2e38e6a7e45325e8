//! The members of networks: joining, leaving and removal, each inside its caller's transaction,
//! with its trace in the change log and, if a right ends, in the orders of relays.
//! [`crate::naming`] and [`crate::address`] choose labels and addresses.

use overlan_protocol::UnixTime;
use overlan_protocol::api::{Bar, Barred, NamePolicy};
use overlan_protocol::key::NetworkId;
use overlan_protocol::ticket::NETWORKS_MAX;

use crate::address::{NETWORK_DEVICES_MAX, QUARANTINE, next_free};
use crate::deployment::Deployment;
use crate::gateway_names;
use crate::naming::{self, LabelHolder, Naming};
use crate::netmaps::{Fact, OrgId};
use crate::store::accounts::NetworkRow;
use crate::store::devices::{self, Device};
use crate::store::members::{self, Membership};
use crate::store::{
    StoreError, Tx, accounts, changes, device_rights, names, relays, runs, waiting,
};

/// The reason why a device does not get into a network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The label is taken, and the policy is to refuse.
    #[error("the name {0} is in use")]
    NameTaken(String),
    /// All addresses are taken.
    #[error("the network has {NETWORK_DEVICES_MAX} devices, which is the most it may have")]
    NetworkFull,
    /// Its ticket would become too long.
    #[error("a device can be in {NETWORKS_MAX} networks at most")]
    TooManyNetworks,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts `device` into `network`, or finds it there already; returns its place.
pub(crate) async fn join(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &mut Device,
    network: &NetworkRow,
    on_name_taken: NamePolicy,
    now: UnixTime,
) -> Result<Membership, JoinError> {
    if let Some(place) = device.place(network.id) {
        return Ok(place.clone());
    }
    if device.places.len() >= NETWORKS_MAX {
        return Err(JoinError::TooManyNetworks);
    }
    let label = choose_label(deployment, tx, device, network.id, on_name_taken, now).await?;
    if members::count(tx, network.id).await? >= NETWORK_DEVICES_MAX {
        return Err(JoinError::NetworkFull);
    }
    let host = match members::reclaim_host(tx, network.id, device.id).await? {
        Some(host) => host,
        None => {
            let quarantined = now - QUARANTINE;
            let taken = members::taken_hosts(tx, network.id, quarantined).await?;
            next_free(deployment.runs.first_host(), &taken).ok_or(JoinError::NetworkFull)?
        }
    };
    let place = Membership {
        network: network.id,
        name: network.name.clone(),
        vni: network.vni,
        host,
        label,
        routes: Vec::new(),
        owner: devices::owner(tx, device).await?,
    };
    members::insert(tx, device.id, &place, now).await?;
    if runs::rewound(tx, now).await?.is_some() {
        // Relays must learn whose the address is.
        relays::bump_orders(tx).await?;
    }
    waiting::end(tx, device.id, Some(network.id)).await?;
    if device.barred.is_none() {
        let fact = Fact::Joined(Box::new(device.member(&place)));
        changes::append(tx, device.org, Some(network.id), &fact, now).await?;
    }
    device.places.push(place.clone());
    device.places.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(place)
}

/// Takes `device` out of a network: peers forget it, and relays refuse tickets that name the
/// network. Says whether it was a member.
pub(crate) async fn leave(
    tx: &mut Tx,
    device: &mut Device,
    network: NetworkId,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let Some(index) = device
        .places
        .iter()
        .position(|place| place.network == network)
    else {
        return Ok(false);
    };
    let place = device.places.remove(index);
    gateway_names::withdraw(tx, device.org, network, device.id, |_| false, now).await?;
    if !members::delete(tx, device.id, network).await? {
        return Ok(false);
    }
    members::release_host(tx, device.org, device.id, &place, now).await?;
    device.epoch = devices::bump_epoch(tx, device.id).await?;
    devices::revoke(tx, device, device.epoch, now).await?;
    let left = Fact::Left {
        device: device.id,
        host: place.host,
    };
    changes::append(tx, device.org, Some(network), &left, now).await?;
    Ok(true)
}

/// Tells the members of the device's networks that it changed, if it takes part.
pub(crate) async fn announce(
    tx: &mut Tx,
    device: &Device,
    now: UnixTime,
) -> Result<(), StoreError> {
    for place in device.places.iter().filter(|_| device.barred.is_none()) {
        let fact = Fact::Device(Box::new(device.member(place)));
        changes::append(tx, device.org, Some(place.network), &fact, now).await?;
    }
    Ok(())
}

/// Tells the members of the device's networks, and the device itself, that it takes part with these
/// names, if it does.
pub(crate) async fn introduce(
    tx: &mut Tx,
    device: &Device,
    now: UnixTime,
) -> Result<(), StoreError> {
    for place in device.places.iter().filter(|_| device.barred.is_none()) {
        // Peers replace what they know of it; the device itself reads its network again.
        let fact = Fact::Joined(Box::new(device.member(place)));
        changes::append(tx, device.org, Some(place.network), &fact, now).await?;
    }
    Ok(())
}

/// Lets a device take no part from here on: relays refuse its tickets and peers forget it. It keeps
/// its places.
pub(crate) async fn bar(
    tx: &mut Tx,
    device: &mut Device,
    why: Bar,
    now: UnixTime,
) -> Result<(), StoreError> {
    let barred = Some(Barred { why, since: now });
    device_rights::set_barred(tx, device.id, barred).await?;
    device.barred = barred;
    device.epoch = devices::bump_epoch(tx, device.id).await?;
    devices::revoke(tx, device, device.epoch, now).await?;
    let fact = |host| Fact::Barred {
        device: device.id,
        host,
    };
    for place in &device.places {
        let network = Some(place.network);
        changes::append(tx, device.org, network, &fact(place.host.get()), now).await?;
    }
    if device.places.is_empty() {
        changes::append(tx, device.org, None, &fact(0), now).await?;
    }
    Ok(())
}

/// Lets a barred device take part again.
pub(crate) async fn admit(
    tx: &mut Tx,
    device: &mut Device,
    now: UnixTime,
) -> Result<(), StoreError> {
    device_rights::set_barred(tx, device.id, None).await?;
    device.barred = None;
    introduce(tx, device, now).await
}

/// Removes a device for good unless it attached since the caller read it; says whether it was
/// removed.
pub(crate) async fn remove_device(
    tx: &mut Tx,
    device: &Device,
    now: UnixTime,
) -> Result<bool, StoreError> {
    // Checked before anything changes: the caller commits the transaction also if the device stays.
    if !devices::is_unattached_since(tx, device).await? {
        return Ok(false);
    }
    // It may have joined another network since it was read.
    let places = members::of_device(tx, device.id).await?;
    for place in &places {
        gateway_names::withdraw(tx, device.org, place.network, device.id, |_| false, now).await?;
    }
    let Some(epoch) = devices::delete(tx, device).await? else {
        return Ok(false);
    };
    for place in &places {
        members::release_host(tx, device.org, device.id, place, now).await?;
    }
    devices::revoke(tx, device, epoch + 1, now).await?;
    let gone = |host| Fact::Gone {
        device: device.id,
        host,
    };
    for place in &places {
        let network = Some(place.network);
        changes::append(tx, device.org, network, &gone(place.host.get()), now).await?;
    }
    if places.is_empty() {
        changes::append(tx, device.org, None, &gone(0), now).await?;
    }
    Ok(true)
}

/// Removes a network; its members leave it first.
pub(crate) async fn delete_network(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    now: UnixTime,
) -> Result<(), StoreError> {
    for member in members::of_network(tx, org, network).await? {
        if let Some(mut device) = devices::get(tx, member.device).await? {
            leave(tx, &mut device, network, now).await?;
        }
    }
    accounts::delete_network(tx, org, network).await
}

/// Says whether a device may join a network by itself: by the auth key that enrolled it, because a
/// person put it there, or because a person enrolled it into that network. Taking it out ends the
/// right.
pub(crate) async fn may_join(
    tx: &mut Tx,
    device: &Device,
    network: &NetworkRow,
) -> Result<bool, StoreError> {
    Ok(members::grants(tx, device.id).await?.contains(&network.id))
}

async fn choose_label(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &Device,
    network: NetworkId,
    policy: NamePolicy,
    now: UnixTime,
) -> Result<String, JoinError> {
    let wanted = device.hostname.clone();
    let holder = match names::holder(tx, network, &wanted).await? {
        Some(names::Holder::Device(id)) => devices::get(tx, id).await?,
        Some(names::Holder::Records | names::Holder::Wish(_)) | None => None,
    };
    // A key may replace a device that it enrolled itself, and no other. A stream that opened just
    // now is not written yet.
    let is_replaceable = |other: &Device| {
        let same_key = other.auth_key.is_some() && other.auth_key == device.auth_key;
        same_key && !other.online && !deployment.presence.lock().is_attached(other.id)
    };
    let taken = names::like(tx, network, &wanted).await?;
    let held = match &holder {
        Some(device) if is_replaceable(device) => LabelHolder::Replaceable,
        None if !taken.contains(&wanted) => LabelHolder::Nobody,
        Some(_) | None => LabelHolder::Other,
    };
    let naming = naming::decide(&wanted, policy, held, &taken);
    let (label, replaced) = match (naming, holder) {
        (Naming::Give(label), _) => (label, None),
        (Naming::TakeOver, holder) => (wanted, holder),
        (Naming::Refuse, _) => return Err(JoinError::NameTaken(wanted)),
    };
    if let Some(mut replaced) = replaced {
        // Its places in other networks are not for this key to take.
        if replaced.places.len() > 1 {
            leave(tx, &mut replaced, network, now).await?;
            members::ungrant(tx, replaced.id, network).await?;
        } else {
            remove_device(tx, &replaced, now).await?;
        }
    }
    Ok(label)
}
