//! Decides which device of which network a destination means, or who knows more. Holds no connection and asks no resolver: the
//! netmap is all it knows.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use overlan_protocol::address;
use overlan_protocol::dns::{self, Record, Zone};
use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::key::NetworkId;
use overlan_protocol::name::{LABEL_MAX, OverlayName};
use overlan_protocol::netmap::{Netmap, Network};

/// Where a program wants to go, as it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A name, not looked at yet.
    Name(String),
    /// An address. Made from one in any form by `From`, which knows the form that all others compare with.
    Address(IpAddr),
    /// An overlay address of the network with this label: several networks use the same addresses.
    AddressIn(IpAddr, String),
}

impl Destination {
    /// An address if the text is one, since some programs send an address as a name; `100.64.0.2%acme` is that address in
    /// network `acme`; otherwise a name.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        if let Ok(address) = text.parse::<IpAddr>() {
            return address.into();
        }
        if let Some((address, network)) = text.split_once('%')
            && let Ok(address) = address.parse::<IpAddr>()
            && in_overlay(address.to_canonical())
        {
            return Self::AddressIn(address.to_canonical(), network.to_ascii_lowercase());
        }
        Self::Name(text.to_owned())
    }

    /// The address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Address(address) | Self::AddressIn(address, _) => Some(*address),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::AddressIn(address, network) => write!(f, "{address}%{network}"),
        }
    }
}

/// In its one form: an IPv4 address that is written as one of IPv6 (`::ffff:100.64.0.1`) is the IPv4 address.
impl From<IpAddr> for Destination {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

/// The device that a destination means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Its network.
    pub network: NetworkId,
    /// Its host index there.
    pub host: u32,
    /// Whether it is this very device.
    pub own: bool,
    /// Whether the controller sees it. This device sees itself.
    pub online: bool,
}

/// Why a destination means no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not below our domain, or not an overlay address.
    #[error("the destination is outside the overlay")]
    Foreign,
    /// Inside the overlay, or not a name at all; nothing has that name or address.
    #[error("no device has that name or address")]
    Unknown,
    /// An overlay address, while this device is in several networks that all use it.
    #[error("several networks use that address; use host.network.domain, or ADDRESS%NETWORK")]
    AmbiguousAddress,
}

/// Finds the device that `destination` means.
///
/// # Errors
/// See [`NameError`]. What has not the form of a name is [`NameError::Unknown`], so that nobody hands it on to another
/// resolver.
pub fn resolve(netmap: &Netmap, destination: &Destination) -> Result<Resolved, NameError> {
    match destination {
        Destination::Name(name) => resolve_name(netmap, name),
        Destination::Address(address) => resolve_address(netmap, *address, None),
        Destination::AddressIn(address, network) => {
            resolve_address(netmap, *address, Some(network))
        }
    }
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

/// The gateway that leads to a destination outside the overlay, or to one that a record of ours stands for: one that is online,
/// with the closest route, and of several such the first by network and host index. Without `port`, for any port; with `within`, of
/// that network only.
pub(crate) fn behind(
    netmap: &Netmap,
    destination: &Destination,
    port: Option<u16>,
    within: Option<NetworkId>,
) -> Option<Behind> {
    let target = match destination {
        Destination::Name(name) => outside(netmap, name)?,
        Destination::Address(address) => address.to_canonical().to_string(),
        Destination::AddressIn(..) => return None,
    };
    let wanted = match target.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(&target),
    };
    let closeness = |route: &GatewayRoute| match port {
        Some(port) => route.covers(wanted, port),
        None => route.covers_host(wanted).then_some(0),
    };
    let mut best: Option<((bool, u32), NetworkId, u32)> = None;
    let networks = netmap.networks.iter();
    for (id, network) in networks.filter(|(id, _)| within.is_none_or(|within| within == **id)) {
        for (host, peer) in &network.peers {
            let Some(close) = peer.routes.iter().filter_map(closeness).max() else {
                continue;
            };
            let rank = (peer.online, close);
            if best.as_ref().is_none_or(|(known, _, _)| rank > *known) {
                best = Some((rank, *id, *host));
            }
        }
    }
    let ((online, _), network, host) = best?;
    Some(Behind {
        network,
        host,
        online,
        target,
    })
}

/// The name in a zone with resolvers that a destination means, itself or by records of ours, and that zone.
pub(crate) fn elsewhere<'a>(
    netmap: &'a Netmap,
    destination: &Destination,
) -> Option<(String, NetworkId, &'a str, &'a Zone)> {
    let Destination::Name(name) = destination else {
        return None;
    };
    let name = outside(netmap, name)?;
    let (network, _, zone, settings) = zone_of(netmap, &name)?;
    (!settings.via.is_empty()).then_some((name, network, zone, settings))
}

/// What a name means outside the overlay: itself, or what records of ours say that it stands for.
fn outside(netmap: &Netmap, name: &str) -> Option<String> {
    let mut name = dns::normal(name)?;
    for _ in 0..=ALIASES_MAX {
        let Some((_, network)) = network_of(netmap, &name) else {
            return (!dns::is_in(&name, &netmap.domain)).then_some(name);
        };
        match network.dns.records.get(&name)?.first()? {
            Record::Cname(target) => name.clone_from(target),
            Record::A(address) => return Some(address.to_string()),
            Record::Aaaa(address) => return Some(address.to_string()),
            Record::Txt(_) | Record::Srv(_) => return None,
        }
    }
    None
}

fn resolve_name(netmap: &Netmap, name: &str) -> Result<Resolved, NameError> {
    if !is_host_name(name) {
        return Err(NameError::Unknown);
    }
    let name = name.to_ascii_lowercase();
    let mut name = name.strip_suffix('.').unwrap_or(&name);
    for _ in 0..=ALIASES_MAX {
        let parsed = OverlayName::parse(name, &netmap.domain);
        if let Some(OverlayName::Host { host, network }) = &parsed
            && let Some((id, network)) = netmap.network_named(network)
            && let Some(device) = device_named(id, network, host)
        {
            return Ok(device);
        }
        let Some((id, network)) = network_of(netmap, name) else {
            return Err(match parsed {
                Some(_) => NameError::Unknown,
                None => NameError::Foreign,
            });
        };
        let records = network.dns.records.get(name).ok_or(NameError::Unknown)?;
        if let Some(Record::Cname(target)) = records.first() {
            name = target;
            continue;
        }
        // An address outside the overlay is no device, and is not dialled under a name of ours.
        let addresses = records.iter().filter_map(|record| match record {
            Record::A(address) => Some(IpAddr::V4(*address)),
            Record::Aaaa(address) => Some(IpAddr::V6(*address)),
            Record::Cname(_) | Record::Txt(_) | Record::Srv(_) => None,
        });
        return addresses
            .filter_map(address::host_index)
            .find_map(|host| device_at(id, network, host))
            .ok_or(NameError::Unknown);
    }
    Err(NameError::Unknown)
}

/// The network whose records say what `name` is: the one that it lies below, or the one of its private zone; none if that zone's
/// names live elsewhere.
fn network_of<'a>(netmap: &'a Netmap, name: &str) -> Option<(NetworkId, &'a Network)> {
    if dns::is_in(name, &netmap.domain) {
        let below = name.strip_suffix(&netmap.domain)?.strip_suffix('.')?;
        return netmap.network_named(below.rsplit('.').next()?);
    }
    let (id, network, _, settings) = zone_of(netmap, name)?;
    settings.via.is_empty().then_some((id, network))
}

/// The private zone that a name lies in: the longest one wins, then the network that is first by name.
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

fn resolve_address(
    netmap: &Netmap,
    address: IpAddr,
    label: Option<&str>,
) -> Result<Resolved, NameError> {
    let address = address.to_canonical();
    if !in_overlay(address) {
        return Err(NameError::Foreign);
    }
    let mut networks = netmap.networks.iter();
    let (id, network) = match (label, networks.next(), networks.next()) {
        (Some(label), _, _) => netmap.network_named(label).ok_or(NameError::Unknown)?,
        (None, Some((id, network)), None) => (*id, network),
        (None, None, _) => return Err(NameError::Unknown),
        (None, Some(_), Some(_)) => return Err(NameError::AmbiguousAddress),
    };
    address::host_index(address)
        .and_then(|host| device_at(id, network, host))
        .ok_or(NameError::Unknown)
}

/// The device with this label, this one included.
pub(crate) fn device_named(id: NetworkId, network: &Network, label: &str) -> Option<Resolved> {
    if network.label == label {
        return Some(own(id, network));
    }
    let (host, peer) = network.peer_named(label)?;
    Some(Resolved {
        network: id,
        host,
        own: false,
        online: peer.online,
    })
}

fn device_at(id: NetworkId, network: &Network, host: u32) -> Option<Resolved> {
    if network.host == host {
        return Some(own(id, network));
    }
    let peer = network.peers.get(&host)?;
    Some(Resolved {
        network: id,
        host,
        own: false,
        online: peer.online,
    })
}

fn own(id: NetworkId, network: &Network) -> Resolved {
    Resolved {
        network: id,
        host: network.host,
        own: true,
        online: true,
    }
}

/// Whether the address lies in a range of the overlay, even one that no device can have.
#[must_use]
pub fn in_overlay(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shift = u32::BITS - u32::from(address::V4_PREFIX_LEN);
            v4.to_bits() >> shift == address::V4_PREFIX.to_bits() >> shift
        }
        IpAddr::V6(v6) => {
            let shift = u128::BITS - u32::from(address::V6_PREFIX_LEN);
            v6.to_bits() >> shift == address::V6_PREFIX.to_bits() >> shift
        }
    }
}

/// Whether the text has the form of a host name: dotted labels of letters, digits, hyphens and, since names outside the
/// overlay have them, underscores; one dot may end it.
pub(crate) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= NAME_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_MAX).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

/// Aliases that are followed for one name.
const ALIASES_MAX: usize = 8;

/// Longest host name, bytes, without the last dot (RFC 1035: 255 on the wire).
pub const NAME_MAX: usize = 253;

#[cfg(test)]
pub(crate) mod tests;
