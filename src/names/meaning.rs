//! The meaning of one whole name, and the end of its aliases. Decides whether it is ours, delegated
//! or foreign; a dial (`way.rs`) and DNS (`lookup.rs`) both go on from here, so they cannot
//! disagree. Knows the netmap alone.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::IpAddr;

use overlan_protocol::HostIndex;
use overlan_protocol::dns::{self, Record, Via, Zone};
use overlan_protocol::key::NetworkId;
use overlan_protocol::name::OverlayName;
use overlan_protocol::netmap::{Netmap, Network};

use super::{Resolved, device_at, device_named, in_overlay};

/// The meaning of one whole name. Its aliases are not followed.
pub(crate) enum Meaning<'a> {
    /// It is in a network of this device, whether or not anything has it.
    Ours(OwnName<'a>),
    /// It is our domain itself, or below it and in no network of this device.
    NoNetwork,
    /// It is written with a name that its network had before.
    Former(FormerName<'a>),
    /// It is in a zone for which other resolvers answer.
    Delegated(Delegation),
    /// It is none of ours.
    Foreign,
}

/// A name whose network and records are known.
pub(crate) struct OwnName<'a> {
    /// The network that the name belongs to.
    pub(crate) network: NetworkId,
    /// Its members and records.
    pub(crate) members: &'a Network,
    /// The private zone of the name; `None` below our domain.
    pub(crate) zone: Option<&'a str>,
    /// The device with that name. It counts before addresses and aliases of the same name.
    pub(crate) device: Option<Resolved>,
}

/// A name whose network is called otherwise by now.
pub(crate) struct FormerName<'a> {
    /// The network.
    pub(crate) members: &'a Network,
    /// The whole name that it is an alias of.
    pub(crate) alias_of: String,
}

/// A zone for which other resolvers answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delegation {
    /// The network to which the zone belongs: its resolvers are reached in that network only.
    pub(crate) network: NetworkId,
    /// The zone's name.
    pub(crate) zone: String,
    /// Its resolvers, the first one preferred.
    pub(crate) via: Vec<Via>,
}

impl<'a> Meaning<'a> {
    /// Decides the meaning of `name`, which is in lower case and has no last dot.
    pub(crate) fn of(netmap: &'a Netmap, name: &str) -> Self {
        if let Some(inside) = OverlayName::parse(name, &netmap.domain) {
            let below = name.strip_suffix(&netmap.domain);
            let below = below.and_then(|below| below.strip_suffix('.'));
            let label = below.and_then(|below| below.rsplit('.').next());
            let found = label.and_then(|label| netmap.network_named(label));
            let Some((network, members)) = found else {
                return Self::NoNetwork;
            };
            if let (Some(below), Some(former)) = (below, label)
                && former != members.name
            {
                let host = below.strip_suffix(former).unwrap_or_default();
                return Self::Former(FormerName {
                    members,
                    alias_of: format!("{host}{}.{}", members.name, netmap.domain),
                });
            }
            let device = match inside {
                OverlayName::Host { host, .. } => device_named(network, members, host),
                OverlayName::Domain | OverlayName::Network { .. } | OverlayName::Deeper => None,
            };
            return Self::Ours(OwnName {
                network,
                members,
                zone: None,
                device,
            });
        }
        match zone_of(netmap, name) {
            None => Self::Foreign,
            Some((network, members, zone, settings)) if settings.via.is_empty() => {
                Self::Ours(OwnName {
                    network,
                    members,
                    zone: Some(zone),
                    device: None,
                })
            }
            Some((network, _, zone, settings)) => Self::Delegated(Delegation {
                network,
                zone: zone.to_owned(),
                via: settings.via.clone(),
            }),
        }
    }
}

/// The place where the aliases of a whole name end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AliasEnd {
    /// At a device.
    Device(Resolved),
    /// At records of ours with these addresses outside the overlay.
    Addresses(Vec<IpAddr>),
    /// At this name of a delegated zone.
    Delegated(String, Delegation),
    /// At this foreign name.
    Foreign(String),
    /// At a name of ours that nothing has, or nowhere.
    Nothing,
}

impl AliasEnd {
    /// Follows the aliases of `name`, which is in lower case and has no last dot.
    pub(super) fn of(netmap: &Netmap, name: &str) -> Self {
        let mut name = Cow::Borrowed(name);
        for _ in 0..=ALIASES_MAX {
            let own = match Meaning::of(netmap, &name) {
                Meaning::Ours(own) => own,
                Meaning::Former(former) => {
                    name = Cow::Owned(former.alias_of);
                    continue;
                }
                Meaning::NoNetwork => return Self::Nothing,
                Meaning::Delegated(zone) => return Self::Delegated(name.into_owned(), zone),
                Meaning::Foreign => return Self::Foreign(name.into_owned()),
            };
            if let Some(device) = own.device {
                return Self::Device(device);
            }
            let Some(records) = own.members.dns.records.get(&*name) else {
                return Self::Nothing;
            };
            if let Some(Record::Cname(target)) = records.first() {
                name = Cow::Borrowed(target);
                continue;
            }
            let addresses = || records.iter().filter_map(Record::address);
            let device = addresses()
                .filter_map(HostIndex::of_address)
                .find_map(|host| device_at(own.network, own.members, host));
            return match device {
                Some(device) => Self::Device(device),
                None => Self::Addresses(addresses().filter(|it| !in_overlay(*it)).collect()),
            };
        }
        Self::Nothing
    }
}

/// Finds the private zone of a name: the longest zone wins, then the network whose name is first in
/// the alphabet.
pub(crate) fn zone_of<'a>(
    netmap: &'a Netmap,
    name: &str,
) -> Option<(NetworkId, &'a Network, &'a str, &'a Zone)> {
    let zones = netmap.networks.iter().flat_map(|(id, network)| {
        let zones = network.dns.zones.iter();
        zones.map(move |(zone, settings)| (*id, network, zone.as_str(), settings))
    });
    zones
        .filter(|(_, _, zone, _)| dns::is_in(name, zone))
        .min_by_key(|(_, network, zone, _)| (Reverse(zone.len()), &network.name))
}

/// Aliases that are followed for one name, by a dial as by DNS: longer chains are mistakes, and
/// rings have no end.
pub(crate) const ALIASES_MAX: usize = 8;
