//! Renames networks and devices, each inside its caller's transaction: their records follow,
//! members learn of it, and a network's old name stays an alias for a while. [`crate::naming`]
//! gives new devices their names.

use std::collections::BTreeSet;

use overlan_protocol::UnixTime;
use overlan_protocol::api::FormerName;
use overlan_protocol::key::NetworkId;

use crate::netmaps::{Fact, OrgId};
use crate::roster;
use crate::store::accounts::NetworkRow;
use crate::store::devices::{self, Device};
use crate::store::names::Holder;
use crate::store::{StoreError, Tx, changes, former_names, names};

/// The new name of a network.
#[derive(Debug)]
pub(crate) struct NewName<'a> {
    /// The deployment's domain.
    pub(crate) domain: &'a str,
    /// A label that no network of the organisation has.
    pub(crate) name: &'a str,
    /// The time until which the old name is an alias; `None` if it ends now.
    pub(crate) keep_old: Option<UnixTime>,
}

/// Gives a network another name.
pub(crate) async fn network(
    tx: &mut Tx,
    org: OrgId,
    network: &NetworkRow,
    new: &NewName<'_>,
    now: UnixTime,
) -> Result<(), StoreError> {
    former_names::rename(tx, org, network.id, new.name).await?;
    if let Some(until) = new.keep_old {
        let former = FormerName {
            name: network.name.clone(),
            until,
        };
        former_names::keep(tx, org, network.id, &former).await?;
    }
    let old_end = format!("{}.{}", network.name, new.domain);
    let new_end = format!("{}.{}", new.name, new.domain);
    let moved = former_names::move_records(tx, org, &old_end, &new_end).await?;
    let changed: BTreeSet<NetworkId> = moved.into_iter().chain([network.id]).collect();
    for network in changed {
        changes::append(tx, org, Some(network), &Fact::Network, now).await?;
    }
    Ok(())
}

/// Ends the old names of networks whose time is over; says which.
pub(crate) async fn end_former(tx: &mut Tx, now: UnixTime) -> Result<Vec<String>, StoreError> {
    let mut ended = Vec::new();
    for (org, network, name) in former_names::free(tx, now).await? {
        changes::append(tx, org, Some(network), &Fact::Network, now).await?;
        ended.push(name);
    }
    Ok(ended)
}

/// The reason why a device does not get a name.
#[derive(Debug)]
pub(crate) enum RenameError {
    /// Something else has it in this network.
    Taken { network: String },
    /// The database failed.
    Store(StoreError),
}

impl From<StoreError> for RenameError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Gives a device another label in all its networks, and for those that it joins later.
pub(crate) async fn device(
    tx: &mut Tx,
    device: &mut Device,
    label: &str,
    now: UnixTime,
) -> Result<(), RenameError> {
    for place in &device.places {
        match names::holder(tx, place.network, label).await? {
            Some(Holder::Device(holder)) if holder == device.id => {}
            None => names::rename(tx, place.network, device.id, label).await?,
            Some(Holder::Device(_) | Holder::Records | Holder::Wish(_)) => {
                let network = place.name.clone();
                return Err(RenameError::Taken { network });
            }
        }
    }
    devices::set_hostname(tx, device.id, label).await?;
    device.hostname = label.to_owned();
    for place in &mut device.places {
        place.label = label.to_owned();
    }
    roster::introduce(tx, device, now).await?;
    Ok(())
}
