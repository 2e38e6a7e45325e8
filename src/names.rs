//! The meaning of names and addresses: a device, a host of a gateway, a name of a delegated zone,
//! or foreign. Decides from the netmap alone; holds no connection and asks no resolver.

mod advice;
mod destination;
mod dial_error;
mod identity;
pub(crate) mod lookup;
mod meaning;
mod missing;
mod short;
mod snapshot;
mod way;

use std::net::IpAddr;

use overlan_protocol::key::NetworkId;
use overlan_protocol::name::LABEL_MAX;
use overlan_protocol::netmap::{Netmap, Network};
use overlan_protocol::{HostIndex, address};

pub(crate) use destination::Destination;
pub use dial_error::DialError;
pub use identity::PeerIdentity;
pub use missing::Missing;
pub use short::Several;
pub use way::{NoRouteToPort, NotADevice};

pub(crate) use meaning::{ALIASES_MAX, Delegation, Meaning, OwnName, zone_of};
pub(crate) use short::whole_name;
pub(crate) use snapshot::Snapshot;
pub(crate) use way::{GatewayHost, GatewayHosts, Way, gateways, host as host_of};

use meaning::AliasEnd;

/// The device that a destination means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Its network.
    pub network: NetworkId,
    /// Its host index there.
    pub host: HostIndex,
    /// True if it is this device itself.
    pub own: bool,
    /// True if the controller reports it as online. This device always is.
    pub online: bool,
}

/// The reason why a destination means no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is not below our domain, or the address is not in the overlay.
    #[error("the destination is outside the overlay")]
    Foreign,
    /// The text is not a name, no device has that overlay address, or the name has no address that
    /// can be reached.
    #[error("no device has that name or address")]
    Unknown,
    /// The name is written like one of the overlay, and nothing has it.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// The overlay address is used in several networks of this device.
    #[error("several networks use that address; use host.network.domain, or ADDRESS%NETWORK")]
    AmbiguousAddress,
    /// Several networks have the short name, for different devices or records.
    #[error("{0}")]
    AmbiguousName(Box<Several>),
    /// A gateway has a route to the host, but not to that port.
    #[error("{0}")]
    NoRouteToPort(Box<NoRouteToPort>),
    /// The name or address is a gateway host's or a delegated zone's, where only a device will do.
    #[error("{0}")]
    NotADevice(Box<NotADevice>),
    /// A record of ours names a host outside the overlay, and no gateway has a route to it.
    #[error("the name's address is not in the overlay, and no gateway has a route to it")]
    NoRoute,
}

impl NameError {
    /// Returns true if the destination is foreign: nothing in the overlay has it, so a door with
    /// access to other networks may look for it there. Names below our domain and in private zones
    /// are never foreign.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Foreign => true,
            Self::Missing(missing) => missing.is_foreign(),
            Self::NoRouteToPort(no_route_to_port) => no_route_to_port.is_foreign(),
            Self::NotADevice(not_a_device) => not_a_device.is_foreign(),
            Self::Unknown | Self::AmbiguousAddress | Self::AmbiguousName(_) | Self::NoRoute => {
                false
            }
        }
    }
}

/// Finds the device that `destination` means.
///
/// # Errors
/// See [`NameError`]. Text that is not written like a name is [`NameError::Unknown`], not foreign,
/// so that it is not sent to another resolver.
pub(crate) fn resolve(netmap: &Netmap, destination: &Destination) -> Result<Resolved, NameError> {
    match destination {
        Destination::Name(name) => match AliasEnd::of(netmap, &whole_name(netmap, name)?) {
            AliasEnd::Device(device) => Ok(device),
            AliasEnd::Delegated(..) | AliasEnd::Foreign(_) => Err(NameError::Foreign),
            // An address outside the overlay is not a device's, and a name of ours never leads
            // there without a gateway.
            AliasEnd::Addresses(_) | AliasEnd::Nothing => Err(NameError::Unknown),
        },
        Destination::Address(address) => resolve_address(netmap, address.get(), None),
        Destination::AddressIn(address, network) => {
            resolve_address(netmap, address.get(), Some(network))
        }
    }
}

fn resolve_address(
    netmap: &Netmap,
    address: IpAddr,
    label: Option<&str>,
) -> Result<Resolved, NameError> {
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
    HostIndex::of_address(address)
        .and_then(|host| device_at(id, network, host))
        .ok_or(NameError::Unknown)
}

/// Finds the device with this label; it may be this device itself.
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

fn device_at(id: NetworkId, network: &Network, host: HostIndex) -> Option<Resolved> {
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

/// Returns true for an address in a range of the overlay, also for those that no device can have.
#[must_use]
pub(crate) fn in_overlay(address: IpAddr) -> bool {
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

/// Returns true for text that is written like a host name: labels of letters, digits and hyphens
/// with dots between them, and perhaps one at the end. Underscores are allowed, since foreign names
/// have them.
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

/// Longest host name, bytes, without the last dot (RFC 1035: 255 on the wire).
pub(crate) const NAME_MAX: usize = 253;

#[cfg(test)]
pub(crate) mod tests;
