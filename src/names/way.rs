//! Decides the way to a destination: to a device, through a gateway, to what the resolvers of a
//! zone say, or to none of ours. Waiting, dialling, status and advice all ask here, and DNS answers
//! from the same `meaning.rs`, so that a name leads to one and the same place from every door.

use std::cmp::Reverse;
use std::fmt;

use overlan_protocol::dns;
use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::{Netmap, Peer};

use super::meaning::{AliasEnd, Delegation, Meaning, zone_of};
use super::{Destination, Missing, NameError, Resolved, resolve, short};

/// The place where a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// At this device.
    Device(Resolved),
    /// At a host that gateways reach.
    Gateway(GatewayHosts),
    /// The place where the resolvers of a zone say.
    Zone {
        /// The name that they are asked for.
        name: String,
        /// Their zone.
        zone: Delegation,
    },
    /// Outside: nobody here has it, and a door that leads outside may look for it there. Every
    /// other door says this error.
    Foreign(NameError),
}

/// A host outside the overlay, as one gateway reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayHost {
    pub(crate) network: NetworkId,
    /// The gateway's host index.
    pub(crate) host: u32,
    /// True if the controller sees the gateway.
    pub(crate) online: bool,
    /// The name or address that the gateway is asked for.
    pub(crate) target: String,
}

/// All gateways that reach one host, at least one: those with the closest route first, and of
/// several such in the order of the host's addresses, networks and host indexes.
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
    /// Returns whether the host is one that others know, too: it was asked for by its own name or
    /// address.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns what to do.
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

/// A name or address that is known and is not a device's, where only a device will do.
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
    /// Returns whether it is something that others know, too: it was asked for by its own name or
    /// address.
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
                "{host} lies behind {gateway}, which leads there by TCP connections alone"
            ),
            Instead::Zone { zone } => write!(
                f,
                "names of zone {zone}, which has resolvers, are for connections; give the address instead"
            ),
        }
    }
}

/// Decides the way to a destination: to `port` of it, or, without one, to any port.
///
/// # Errors
/// See [`NameError`]; [`NameError::is_foreign`] is a way instead.
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
    let not_offered = port.and_then(|port| not_offered(netmap, destination, port));
    let error = match not_offered {
        Some(not_offered) => NameError::NotOffered(Box::new(not_offered)),
        None => cause(netmap, destination, nowhere),
    };
    match error.is_foreign() {
        true => Ok(Way::Foreign(error)),
        false => Err(error),
    }
}

/// Finds the device that a destination means, where nothing else will do.
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
        // The resolver of this host never hears of a name of a zone.
        Way::Zone { zone, .. } => (Instead::Zone { zone: zone.zone }, false),
    };
    Err(NameError::NotADevice(Box::new(NotADevice {
        is_foreign,
        instead,
    })))
}

/// The exact cause where a destination is neither a device nor led to.
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
        return NameError::LedNowhere;
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

/// Returns whether it is a name that no other resolver may hear of: one below our domain, in a
/// private zone, or short for such a name.
fn is_ours(netmap: &Netmap, destination: &Destination) -> bool {
    let Destination::Name(text) = destination else {
        return false;
    };
    short::whole_name(netmap, text)
        .is_ok_and(|name| dns::is_in(&name, &netmap.domain) || zone_of(netmap, &name).is_some())
}

/// Finds all gateways that reach `port` of a destination outside the overlay, or any port of it, or
/// of one that a record of ours stands for; those of network `within` alone if that is given.
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

/// The ports of a destination that gateways lead to, if they lead to it at all, but not to this
/// one.
fn not_offered(netmap: &Netmap, destination: &Destination, wanted: u16) -> Option<NotOffered> {
    let hosts = gateways(netmap, destination, None, None)?;
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
        gateway: gateway_name(netmap, hosts.preferred()),
        host: hosts.preferred().target.clone(),
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
pub(super) fn gateway_name(netmap: &Netmap, host: &GatewayHost) -> String {
    let device = Resolved {
        network: host.network,
        host: host.host,
        own: false,
        online: host.online,
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

/// Returns what gateways are asked for who are to lead to that destination, the preferred one
/// first.
pub(super) fn targets(netmap: &Netmap, destination: &Destination) -> Vec<String> {
    match destination {
        Destination::Name(name) => outside(netmap, name),
        Destination::Address(address) => vec![address.to_string()],
        Destination::AddressIn(..) => Vec::new(),
    }
}

/// Finds the name in a delegated zone that a destination means, itself or by records of ours.
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

/// Lists the hosts outside the overlay that a name means: itself, or what records of ours say that
/// it stands for.
fn outside(netmap: &Netmap, name: &str) -> Vec<String> {
    match end(netmap, name) {
        Some(AliasEnd::Delegated(name, _) | AliasEnd::Foreign(name)) => vec![name],
        Some(AliasEnd::Addresses(addresses)) => addresses.iter().map(ToString::to_string).collect(),
        Some(AliasEnd::Device(_) | AliasEnd::Nothing) | None => Vec::new(),
    }
}

/// Returns `None` for a name that DNS would not carry.
fn end(netmap: &Netmap, name: &str) -> Option<AliasEnd> {
    let whole = short::whole_name(netmap, name).ok()?;
    Some(AliasEnd::of(netmap, &dns::normal(&whole)?))
}

/// Ports that an error names.
const SHOWN_MAX: usize = 8;
