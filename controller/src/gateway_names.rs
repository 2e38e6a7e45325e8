//! Names of gateway hosts: records of the network that exist while a route with that wish is
//! approved. [`crate::records`] decides which records a network may have.

use std::net::IpAddr;

use overlan_protocol::UnixTime;
use overlan_protocol::dns::Record;
use overlan_protocol::gateway::{GatewayRoute, Host, OfferedRoute};
use overlan_protocol::key::{DeviceId, NetworkId};

use crate::netmaps::OrgId;
use crate::store::{StoreError, Tx, dns, routes};

/// Returns the record that names the host of a route; `None` for a route to many hosts.
pub(crate) fn record(route: &GatewayRoute) -> Option<Record> {
    Some(match route.one_host()? {
        Host::Address(IpAddr::V4(address)) => Record::A(address),
        Host::Address(IpAddr::V6(address)) => Record::Aaaa(address),
        Host::Name(name) => Record::Cname(name.to_owned()),
    })
}

/// Withdraws the names that the network has by routes of `device` which are not `kept`.
pub(crate) async fn withdraw(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    device: DeviceId,
    kept: impl Fn(&OfferedRoute) -> bool,
    now: UnixTime,
) -> Result<(), StoreError> {
    for (offer, name) in routes::recorded(tx, device, network).await? {
        if kept(&offer) || !routes::release_record(tx, device, network, &offer, &name).await? {
            continue;
        }
        let settings = dns::settings(tx, org, network).await?;
        let mut records = settings.records.get(&name).cloned().unwrap_or_default();
        let before = records.len();
        // Records that people added meanwhile stay.
        records.retain(|known| Some(known) != record(offer.route()).as_ref());
        if records.len() < before {
            dns::set_records(tx, org, network, &name, &records, now).await?;
        }
    }
    Ok(())
}
