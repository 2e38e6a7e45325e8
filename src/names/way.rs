//! Decides the way to a destination: a device, a gateway, the resolvers of a delegated zone, or
//! foreign. Waiting, dialling, status and advice all ask here, and DNS answers from the same
//! `meaning.rs`, so that a name means the same at every door.

use std::cmp::Reverse;
use std::fmt;

use overlan_protocol::HostIndex;
use overlan_protocol::dns;
use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::{Netmap, Peer};

use super::meaning::{AliasEnd, Delegation, Meaning, zone_of};
use super::{Destination, Missing, NameError, Resolved, resolve, short};

/// The way to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is this device.
    Device(Resolved),
    /// It is a host that gateways reach.
    Gateway(GatewayHosts),
    /// The resolvers of a delegated zone know its address.
    Zone {
        /// The name to ask them for.
        name: String,
        /// Their zone.
        zone: Delegation,
    },
    /// It is foreign: a door with access to other networks may look for it there. Every other door
    /// answers with this error.
    Foreign(NameError),
}

/// A host outside the overlay, as one gateway reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayHost {
    pub(crate) network: NetworkId,
    /// The gateway's host index.
    pub(crate) host: HostIndex,
    /// True if the controller reports the gateway as online.
    pub(crate) online: bool,
    /// The name or address by which the gateway is asked for it.
    pub(crate) target: String,
}

/// All gateways that reach one host, at least one. Those with the closest route come first; equals
/// are in the order of the host's addresses, networks and host indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayHosts(Vec<GatewayHost>);

impl GatewayHosts {
    /// Returns `None` if there is no gateway.
    fn new(hosts: Vec<GatewayHost>) -> Option<Self> {
        (!hosts.is_empty()).then_some(Self(hosts))
    }

    /// Returns the closest one that is online, or the closest one if none is.
    pub(crate) fn preferred(&self) -> &GatewayHost {
        let online = self.0.iter().find(|it| it.online);
        online.unwrap_or(&self.0[0])
    }

    /// Returns all of them, in order.
    pub(crate) fn into_vec(self) -> Vec<GatewayHost> {
        self.0
    }
}

/// A gateway host that is not reached on the port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRouteToPort {
    /// The host as the gateway knows it.
    host: String,
    wanted: u16,
    /// Ports to which routes lead, ascending.
    offered: Vec<u16>,
    /// Whole name of the gateway.
    gateway: String,
    is_foreign: bool,
}

impl NoRouteToPort {
    /// Returns true if the host was asked for by a name or address of its own, which other networks
    /// know, too.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns the next step.
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
            "Run `overlan serve route {host}:{wanted}` on {gateway}; then an admin runs \
             `overlan admin route approve {device} {host}:{wanted}`."
        )
    }
}

impl fmt::Display for NoRouteToPort {
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
            "gateway {gateway} has no route to port {wanted} of {host}; ports with a route: {}",
            ports.join(", ")
        )?;
        match offered.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A name or address that is known, but is not a device's, where only a device will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotADevice {
    instead: Instead,
    is_foreign: bool,
}

/// The owner of a name or address that is not a device's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Instead {
    GatewayHost { host: String, gateway: String },
    Zone { zone: String },
}

impl NotADevice {
    /// Returns true if it was asked for by a name or address that other networks know, too.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }
}

impl fmt::Display for NotADevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instead {
            Instead::GatewayHost { host, gateway } => write!(
                f,
                "{host} is reached by gateway {gateway}, which takes TCP connections only"
            ),
            Instead::Zone { zone } => write!(
                f,
                "the name is in zone {zone}, which other resolvers answer; give the address instead"
            ),
        }
    }
}

/// Decides the way to a destination: to `port` of it, or, without one, to any port.
///
/// # Errors
/// See [`NameError`]. A foreign destination is not an error here but [`Way::Foreign`].
pub(crate) fn way(
    netmap: &Netmap,
    destination: &Destination,
    port: Option<u16>,
) -> Result<Way, NameError> {
    let nowhere = match resolve(netmap, destination) {
        Ok(device) => return Ok(Way::Device(device)),
        Err(nowhere @ (NameError::Foreign | NameError::Unknown)) => nowhere,
        Err(error) => return Err(error),
    };
    if let Some(hosts) = gateways(netmap, destination, port, None) {
        return Ok(Way::Gateway(hosts));
    }
    if let Some((name, zone)) = delegated(netmap, destination) {
        return Ok(Way::Zone { name, zone });
    }
    let no_route_to_port = port.and_then(|port| no_route_to_port(netmap, destination, port));
    let error = match no_route_to_port {
        Some(no_route_to_port) => NameError::NoRouteToPort(Box::new(no_route_to_port)),
        None => cause(netmap, destination, nowhere),
    };
    match error.is_foreign() {
        true => Ok(Way::Foreign(error)),
        false => Err(error),
    }
}

/// Finds the device that a destination means, where only a device will do.
///
/// # Errors
/// See [`NameError`].
pub(crate) fn device(netmap: &Netmap, destination: &Destination) -> Result<Resolved, NameError> {
    let (instead, is_foreign) = match way(netmap, destination, None)? {
        Way::Device(device) => return Ok(device),
        Way::Foreign(error) => return Err(error),
        Way::Gateway(hosts) => {
            let host = hosts.preferred();
            let instead = Instead::GatewayHost {
                gateway: gateway_name(netmap, host),
                host: host.target.clone(),
            };
            (instead, !is_ours(netmap, destination))
        }
        // The host's own resolver must never be asked for a name of a zone.
        Way::Zone { zone, .. } => (Instead::Zone { zone: zone.zone }, false),
    };
    Err(NameError::NotADevice(Box::new(NotADevice {
        is_foreign,
        instead,
    })))
}

/// Finds the exact cause where a destination is neither a device nor reached by a gateway.
fn cause(netmap: &Netmap, destination: &Destination, nowhere: NameError) -> NameError {
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
        return NameError::NoRoute;
    }
    let is_known = short::whole_name(netmap, text).is_ok_and(|name| {
        let Meaning::Ours(own) = Meaning::of(netmap, &name) else {
            return false;
        };
        own.members.dns.records.contains_key(&name)
    });
    match Missing::of(netmap, text) {
        Some(missing) if !is_known => NameError::Missing(Box::new(missing)),
        Some(_) | None => nowhere,
    }
}

/// Returns true for a name that must not be sent to other resolvers: one below our domain, in a
/// private zone, or short for such a name.
fn is_ours(netmap: &Netmap, destination: &Destination) -> bool {
    let Destination::Name(text) = destination else {
        return false;
    };
    short::whole_name(netmap, text)
        .is_ok_and(|name| dns::is_in(&name, &netmap.domain) || zone_of(netmap, &name).is_some())
}

/// Finds all gateways that reach `port` of a destination outside the overlay, or any port without
/// one. A name of ours means the hosts that its records name. With `within`, gateways of other
/// networks are left out.
pub(crate) fn gateways(
    netmap: &Netmap,
    destination: &Destination,
    port: Option<u16>,
    within: Option<NetworkId>,
) -> Option<GatewayHosts> {
    let mut found = Vec::new();
    for target in targets(netmap, destination) {
        let wanted = host(&target);
        let closeness = |route: &GatewayRoute| match port {
            Some(port) => route.covers(wanted, port),
            None => route.covers_host(wanted).then_some(0),
        };
        let peers = peers(netmap).filter(|(id, ..)| within.is_none_or(|within| within == *id));
        found.extend(peers.filter_map(|(network, index, peer)| {
            let close = peer.routes.iter().filter_map(closeness).max()?;
            let host = GatewayHost {
                network,
                host: index,
                online: peer.online,
                target: target.clone(),
            };
            Some((close, host))
        }));
    }
    found.sort_by_key(|(close, _)| Reverse(*close));
    GatewayHosts::new(found.into_iter().map(|(_, host)| host).collect())
}

/// Lists the ports of a destination to which gateways have routes; `None` if they do not reach the
/// host at all. `wanted` is not among them.
fn no_route_to_port(
    netmap: &Netmap,
    destination: &Destination,
    wanted: u16,
) -> Option<NoRouteToPort> {
    let hosts = gateways(netmap, destination, None, None)?;
    let targets = targets(netmap, destination);
    let mut offered: Vec<u16> = peers(netmap)
        .flat_map(|(_, _, peer)| &peer.routes)
        .filter(|route| targets.iter().any(|target| route.covers_host(host(target))))
        .filter_map(GatewayRoute::port)
        .collect();
    offered.sort_unstable();
    offered.dedup();
    Some(NoRouteToPort {
        wanted,
        offered,
        gateway: gateway_name(netmap, hosts.preferred()),
        host: hosts.preferred().target.clone(),
        is_foreign: !is_ours(netmap, destination),
    })
}

fn peers(netmap: &Netmap) -> impl Iterator<Item = (NetworkId, HostIndex, &Peer)> {
    netmap.networks.iter().flat_map(|(id, network)| {
        let peers = network.peers.iter();
        peers.map(move |(index, peer)| (*id, *index, peer))
    })
}

/// Returns the whole name of a gateway.
pub(super) fn gateway_name(netmap: &Netmap, host: &GatewayHost) -> String {
    let device = Resolved {
        network: host.network,
        host: host.host,
        own: false,
        online: host.online,
    };
    device_name(netmap, &device)
}

/// Returns the whole name of a device.
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

/// Returns the host that a gateway is asked for by `target`.
pub(crate) fn host(target: &str) -> Host<'_> {
    match target.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(target),
    }
}

/// Lists the names or addresses by which gateways are asked for that destination, the preferred one
/// first.
pub(super) fn targets(netmap: &Netmap, destination: &Destination) -> Vec<String> {
    match destination {
        Destination::Name(name) => outside(netmap, name),
        Destination::Address(address) => vec![address.to_string()],
        Destination::AddressIn(..) => Vec::new(),
    }
}

/// Finds the name of a delegated zone that a destination means, directly or by records of ours.
fn delegated(netmap: &Netmap, destination: &Destination) -> Option<(String, Delegation)> {
    let Destination::Name(name) = destination else {
        return None;
    };
    match end(netmap, name)? {
        AliasEnd::Delegated(name, zone) => Some((name, zone)),
        AliasEnd::Device(_) | AliasEnd::Addresses(_) | AliasEnd::Foreign(_) | AliasEnd::Nothing => {
            None
        }
    }
}

/// Lists the hosts outside the overlay that a name means: the name itself, or the hosts that
/// records of ours give for it.
fn outside(netmap: &Netmap, name: &str) -> Vec<String> {
    match end(netmap, name) {
        Some(AliasEnd::Delegated(name, _) | AliasEnd::Foreign(name)) => vec![name],
        Some(AliasEnd::Addresses(addresses)) => addresses.iter().map(ToString::to_string).collect(),
        Some(AliasEnd::Device(_) | AliasEnd::Nothing) | None => Vec::new(),
    }
}

/// Follows the aliases of a name; `None` if DNS cannot carry it.
fn end(netmap: &Netmap, name: &str) -> Option<AliasEnd> {
    let whole = short::whole_name(netmap, name).ok()?;
    Some(AliasEnd::of(netmap, &dns::normal(&whole)?))
}

/// The number of ports that an error names.
const SHOWN_MAX: usize = 8;
