//! Decides the way to a destination: to a device, through a gateway, or first to the resolvers of a zone. Every connection asks here, so that
//! a name leads to one and the same place from every door.

use std::cmp::Reverse;
use std::fmt;

use overlan_protocol::dns::{self, Record, Via, Zone};
use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::{Netmap, Peer};

use super::{
    ALIASES_MAX, Destination, Missing, NameError, Resolved, in_overlay, network_of, resolve, short,
    zone_of,
};

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To this device.
    Device(Resolved),
    /// To a host behind a gateway.
    Behind(Behind),
    /// To what the resolvers of a zone say.
    Elsewhere {
        /// The name that they are asked for.
        name: String,
        network: NetworkId,
        zone: String,
        via: Vec<Via>,
    },
}

/// A device that leads to a destination outside the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) network: NetworkId,
    /// The gateway's host index.
    pub(crate) host: u32,
    pub(crate) online: bool,
    /// What the gateway is asked for.
    pub(crate) target: String,
}

/// A host to which a gateway leads, but not to the port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOffered {
    /// The host as the gateway knows it.
    host: String,
    wanted: u16,
    /// Ports that are offered, ascending.
    offered: Vec<u16>,
    /// Whole name of a device that leads there.
    gateway: String,
    is_foreign: bool,
}

impl NotOffered {
    /// Whether the host is one that others know, too: it was asked for by its own name or address.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// What to do.
    pub(super) fn next(&self) -> String {
        let Self {
            host,
            wanted,
            gateway,
            ..
        } = self;
        let device = gateway.split('.').next().unwrap_or(gateway);
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        format!(
            "On {gateway}, `overlan serve route {host}:{wanted}` offers it; an admin then runs `overlan admin route approve {device} {host}:{wanted}`."
        )
    }
}

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            wanted,
            offered,
            gateway,
            ..
        } = self;
        let ports: Vec<String> = offered.iter().take(SHOWN_MAX).map(u16::to_string).collect();
        write!(
            f,
            "port {wanted} of {host} is not offered by {gateway}; offered: {}",
            ports.join(", ")
        )?;
        match offered.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What has a name and is not a device, where only a device will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotADevice {
    what: What,
    is_foreign: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Behind { host: String, gateway: String },
    Elsewhere { zone: String },
}

impl NotADevice {
    /// Whether it is something that others know, too: it was asked for by its own name or address.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }
}

impl fmt::Display for NotADevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Behind { host, gateway } => write!(
                f,
                "{host} lies behind {gateway}, which leads there by TCP connections alone"
            ),
            What::Elsewhere { zone } => write!(
                f,
                "names of zone {zone}, which has resolvers, are for connections; give the address instead"
            ),
        }
    }
}

/// The way to `port` of a destination.
///
/// # Errors
/// See [`NameError`].
pub(crate) fn way(netmap: &Netmap, destination: &Destination, port: u16) -> Result<Way, NameError> {
    let nowhere = match resolve(netmap, destination) {
        Ok(device) => return Ok(Way::Device(device)),
        Err(nowhere @ (NameError::Foreign | NameError::Unknown)) => nowhere,
        Err(error) => return Err(error),
    };
    if let Some(behind) = behind(netmap, destination, Some(port), None) {
        return Ok(Way::Behind(behind));
    }
    if let Some((name, network, zone, settings)) = elsewhere(netmap, destination) {
        return Ok(Way::Elsewhere {
            name,
            network,
            zone: zone.to_owned(),
            via: settings.via.clone(),
        });
    }
    Err(match not_offered(netmap, destination, port) {
        Some(not_offered) => NameError::NotOffered(Box::new(not_offered)),
        None => why(netmap, destination, nowhere),
    })
}

/// The device that a destination means, where no other thing will do.
///
/// # Errors
/// See [`NameError`].
pub(crate) fn device(netmap: &Netmap, destination: &Destination) -> Result<Resolved, NameError> {
    let nowhere = match resolve(netmap, destination) {
        Err(nowhere @ (NameError::Foreign | NameError::Unknown)) => nowhere,
        known => return known,
    };
    let what = if let Some(behind) = behind(netmap, destination, None, None) {
        What::Behind {
            gateway: gateway_name(netmap, &behind),
            host: behind.target,
        }
    } else if let Some((_, _, zone, _)) = elsewhere(netmap, destination) {
        What::Elsewhere {
            zone: zone.to_owned(),
        }
    } else {
        return Err(why(netmap, destination, nowhere));
    };
    Err(NameError::NotADevice(Box::new(NotADevice {
        // The resolver of this host never hears of a name of a zone.
        is_foreign: matches!(what, What::Behind { .. }) && !is_ours(netmap, destination),
        what,
    })))
}

/// Whether nobody here knows the destination, neither as a device nor behind one.
pub(crate) fn is_foreign(netmap: &Netmap, destination: &Destination) -> bool {
    resolve(netmap, destination) == Err(NameError::Foreign)
        && behind(netmap, destination, None, None).is_none()
        && elsewhere(netmap, destination).is_none()
}

/// The exact cause where a destination is neither a device nor led to.
fn why(netmap: &Netmap, destination: &Destination, nowhere: NameError) -> NameError {
    let text = match destination {
        Destination::Name(text) => text,
        Destination::Address(_) | Destination::AddressIn(..) => {
            return match nowhere == NameError::Unknown && netmap.networks.is_empty() {
                true => NameError::Missing(Box::new(Missing::NO_NETWORK)),
                false => nowhere,
            };
        }
    };
    if is_ours(netmap, destination) && !outside(netmap, text).is_empty() {
        return NameError::LedNowhere;
    }
    let is_known = short::whole_name(netmap, text).is_ok_and(|name| {
        network_of(netmap, &name).is_some_and(|(_, it)| it.dns.records.contains_key(&name))
    });
    match Missing::of(netmap, text) {
        Some(missing) if !is_known => NameError::Missing(Box::new(missing)),
        Some(_) | None => nowhere,
    }
}

/// Whether it is a name that no other resolver may hear of: one below our domain, in a private zone, or short for such a name.
fn is_ours(netmap: &Netmap, destination: &Destination) -> bool {
    let Destination::Name(text) = destination else {
        return false;
    };
    short::whole_name(netmap, text)
        .is_ok_and(|name| dns::is_in(&name, &netmap.domain) || zone_of(netmap, &name).is_some())
}

/// The gateway that leads to a destination outside the overlay, or to one that a record of ours stands for: one that is online,
/// with the closest route, and of several such the first by network and host index. Without `port`, for any port; with `within`, of
/// that network only.
pub(crate) fn behind(
    netmap: &Netmap,
    destination: &Destination,
    port: Option<u16>,
    within: Option<NetworkId>,
) -> Option<Behind> {
    let mut best: Option<((bool, u32), Behind)> = None;
    for target in targets(netmap, destination) {
        let wanted = host(&target);
        let closeness = |route: &GatewayRoute| match port {
            Some(port) => route.covers(wanted, port),
            None => route.covers_host(wanted).then_some(0),
        };
        let peers = peers(netmap).filter(|(id, ..)| within.is_none_or(|within| within == *id));
        for (id, index, peer) in peers {
            let Some(close) = peer.routes.iter().filter_map(closeness).max() else {
                continue;
            };
            let rank = (peer.online, close);
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                let behind = Behind {
                    network: id,
                    host: index,
                    online: peer.online,
                    target: target.clone(),
                };
                best = Some((rank, behind));
            }
        }
    }
    best.map(|(_, behind)| behind)
}

/// All gateways that lead to `port` of such a destination, of network `within` if that is given: those with the closest route first, and
/// of several such in the order of the destination's addresses, networks and host indexes.
pub(crate) fn gateways(
    netmap: &Netmap,
    destination: &Destination,
    port: u16,
    within: Option<NetworkId>,
) -> Vec<Behind> {
    let mut found = Vec::new();
    for target in targets(netmap, destination) {
        let wanted = host(&target);
        let peers = peers(netmap).filter(|(id, ..)| within.is_none_or(|within| within == *id));
        found.extend(peers.filter_map(|(network, index, peer)| {
            let routes = peer.routes.iter();
            let close = routes.filter_map(|it| it.covers(wanted, port)).max()?;
            let behind = Behind {
                network,
                host: index,
                online: peer.online,
                target: target.clone(),
            };
            Some((close, behind))
        }));
    }
    found.sort_by_key(|(close, _)| Reverse(*close));
    found.into_iter().map(|(_, behind)| behind).collect()
}

/// The ports of a destination that gateways lead to, if they lead to it at all, but not to this one.
fn not_offered(netmap: &Netmap, destination: &Destination, wanted: u16) -> Option<NotOffered> {
    let behind = behind(netmap, destination, None, None)?;
    let targets = targets(netmap, destination);
    let mut offered: Vec<u16> = peers(netmap)
        .flat_map(|(_, _, peer)| &peer.routes)
        .filter(|route| targets.iter().any(|target| route.covers_host(host(target))))
        .filter_map(GatewayRoute::port)
        .collect();
    offered.sort_unstable();
    offered.dedup();
    Some(NotOffered {
        wanted,
        offered,
        gateway: gateway_name(netmap, &behind),
        host: behind.target,
        is_foreign: !is_ours(netmap, destination),
    })
}

fn peers(netmap: &Netmap) -> impl Iterator<Item = (NetworkId, u32, &Peer)> {
    netmap.networks.iter().flat_map(|(id, network)| {
        let peers = network.peers.iter();
        peers.map(move |(index, peer)| (*id, *index, peer))
    })
}

/// The whole name of a gateway.
pub(super) fn gateway_name(netmap: &Netmap, behind: &Behind) -> String {
    let device = Resolved {
        network: behind.network,
        host: behind.host,
        own: false,
        online: behind.online,
    };
    device_name(netmap, &device)
}

/// The whole name of a device.
pub(super) fn device_name(netmap: &Netmap, device: &Resolved) -> String {
    let Some(members) = netmap.networks.get(&device.network) else {
        return String::new();
    };
    let peer = members.peers.get(&device.host);
    short::whole(
        netmap,
        members,
        peer.map_or(&members.label, |peer| &peer.label),
    )
}

pub(super) fn host(target: &str) -> Host<'_> {
    match target.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(target),
    }
}

/// What gateways are asked for who are to lead to that destination, the preferred one first.
pub(super) fn targets(netmap: &Netmap, destination: &Destination) -> Vec<String> {
    match destination {
        Destination::Name(name) => outside(netmap, name),
        Destination::Address(address) => vec![address.to_string()],
        Destination::AddressIn(..) => Vec::new(),
    }
}

/// The name in a zone with resolvers that a destination means, itself or by records of ours, and that zone.
pub(crate) fn elsewhere<'a>(
    netmap: &'a Netmap,
    destination: &Destination,
) -> Option<(String, NetworkId, &'a str, &'a Zone)> {
    let Destination::Name(name) = destination else {
        return None;
    };
    let name = outside(netmap, name).into_iter().next()?;
    let (network, _, zone, settings) = zone_of(netmap, &name)?;
    (!settings.via.is_empty()).then_some((name, network, zone, settings))
}

/// What a name means outside the overlay: itself, or what records of ours say that it stands for.
fn outside(netmap: &Netmap, name: &str) -> Vec<String> {
    let Some(mut name) = short::whole_name(netmap, name)
        .ok()
        .and_then(|name| dns::normal(&name))
    else {
        return Vec::new();
    };
    for _ in 0..=ALIASES_MAX {
        let Some((_, network)) = network_of(netmap, &name) else {
            return match dns::is_in(&name, &netmap.domain) {
                true => Vec::new(),
                false => vec![name],
            };
        };
        let records = network.dns.records.get(&name).map_or(&[][..], |it| it);
        if let Some(Record::Cname(target)) = records.first() {
            name.clone_from(target);
            continue;
        }
        let addresses = records.iter().filter_map(Record::address);
        return addresses
            .filter(|address| !in_overlay(*address))
            .map(|address| address.to_string())
            .collect();
    }
    Vec::new()
}

/// Ports that an error names.
const SHOWN_MAX: usize = 8;
