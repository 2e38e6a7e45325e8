//! Takes a person out of an organisation: decides what ends, what another person gets and what
//! stays, and says all of it. [`crate::people::rank`] decides who may ask for it.

use std::collections::BTreeSet;

use overlan_protocol::UnixTime;
use overlan_protocol::api::PersonRemoved;
use overlan_protocol::key::DeviceId;

use crate::netmaps::{Fact, OrgId};
use crate::roster;
use crate::store::devices::Device;
use crate::store::people::{self, Colleague};
use crate::store::{StoreError, Tx, api_tokens, changes, devices, invitations, sessions};

/// The fate of a person's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// They stay, and still name the person.
    Keep,
    /// They are removed for good.
    Remove,
    /// They are this account's from now on.
    HandTo(i64),
}

/// A person who was taken out.
#[derive(Debug)]
pub(crate) struct Offboarded {
    pub(crate) answer: PersonRemoved,
    /// The devices that were removed.
    pub(crate) devices: BTreeSet<DeviceId>,
}

/// Ends the place of a person in an organisation, and everything that the person could come back
/// by. The answer names what stays.
pub(crate) async fn remove_person(
    tx: &mut Tx,
    org: OrgId,
    person: &Colleague,
    fate: Devices,
    now: UnixTime,
) -> Result<Offboarded, StoreError> {
    let account = person.account;
    let own = people::devices(tx, org, account).await?;
    let own = loaded(tx, own).await?;
    let by_keys = people::devices_by_keys(tx, org, account).await?;
    let by_keys = loaded(tx, by_keys).await?;
    let mut removed = PersonRemoved {
        email: person.email.clone(),
        logins: sessions::end_in(tx, org, account).await?,
        api_tokens: api_tokens::remove_all(tx, org, account).await?,
        auth_keys: people::revoke_auth_keys(tx, org, account, now).await?,
        relay_tokens: people::remove_relay_tokens(tx, org, account).await?,
        invitations: invitations::revoke_of(tx, org, account, now).await?,
        devices_removed: Vec::new(),
        devices_handed: Vec::new(),
        devices_kept: Vec::new(),
        devices_by_keys: by_keys.iter().map(Device::called).collect(),
        still_connected: Vec::new(),
        account_deleted: false,
        applied: None,
    };
    let mut gone = BTreeSet::new();
    let mut connected: BTreeSet<String> = online(&by_keys);
    match fate {
        Devices::Keep => {
            removed.devices_kept = own.iter().map(Device::called).collect();
            connected.extend(online(&own));
        }
        Devices::Remove => {
            for device in &own {
                roster::remove_device(tx, device, now).await?;
                removed.devices_removed.push(device.called());
                gone.insert(device.id);
            }
        }
        Devices::HandTo(heir) => {
            for device in &own {
                hand_over(tx, device, heir, now).await?;
                removed.devices_handed.push(device.called());
            }
            connected.extend(online(&own));
        }
    }
    removed.still_connected = connected.into_iter().collect();
    people::delete(tx, org, account).await?;
    changes::append(tx, org, None, &Fact::Policy, now).await?;
    removed.account_deleted = people::forget_account(tx, account).await?;
    Ok(Offboarded {
        answer: removed,
        devices: gone,
    })
}

/// Gives a device to another person, and tells the members of its networks.
async fn hand_over(
    tx: &mut Tx,
    device: &Device,
    heir: i64,
    now: UnixTime,
) -> Result<(), StoreError> {
    people::hand_device(tx, device.org, device.id, heir).await?;
    let Some(device) = devices::get(tx, device.id).await? else {
        return Ok(());
    };
    for place in &device.places {
        let fact = Fact::Device(Box::new(device.member(place)));
        changes::append(tx, device.org, Some(place.network), &fact, now).await?;
    }
    Ok(())
}

async fn loaded(tx: &mut Tx, ids: Vec<DeviceId>) -> Result<Vec<Device>, StoreError> {
    let mut loaded = Vec::with_capacity(ids.len());
    for id in ids {
        loaded.extend(devices::get(tx, id).await?);
    }
    loaded.sort_by_key(Device::called);
    Ok(loaded)
}

fn online(devices: &[Device]) -> BTreeSet<String> {
    let online = devices.iter().filter(|device| device.online);
    online.map(Device::called).collect()
}
