//! Decides which device of which network a destination means, or who knows more. Holds no
//! connection and asks no resolver: the netmap is all it knows.

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

use overlan_protocol::address;
use overlan_protocol::key::NetworkId;
use overlan_protocol::name::LABEL_MAX;
use overlan_protocol::netmap::{Netmap, Network};

pub(crate) use destination::Destination;
pub use dial_error::DialError;
pub use identity::PeerIdentity;
pub use missing::Missing;
pub use short::Several;
pub use way::{NotADevice, NotOffered};

pub(crate) use meaning::{ALIASES_MAX, Delegation, Meaning, OwnName, zone_of};
pub(crate) use short::whole_name;
pub(crate) use snapshot::Snapshot;
pub(crate) use way::{GatewayHost, GatewayHosts, Way, gateways};

use meaning::AliasEnd;

/// The device that a destination means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Its network.
    pub network: NetworkId,
    /// Its host index there.
    pub host: u32,
    /// True if it is this very device.
    pub own: bool,
    /// True if the controller sees it. This device sees itself.
    pub online: bool,
}

/// The reason why a destination means no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not below our domain, or not an overlay address.
    #[error("the destination is outside the overlay")]
    Foreign,
    /// Not a name at all, an address of the overlay that nobody has, or a name that stands for
    /// nothing that is reached.
    #[error("no device has that name or address")]
    Unknown,
    /// Written like a name of ours, and nothing is called so.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// An overlay address, while this device is in several networks that all use it.
    #[error("several networks use that address; use host.network.domain, or ADDRESS%NETWORK")]
    AmbiguousAddress,
    /// A short name of different things in several networks.
    #[error("{0}")]
    AmbiguousName(Box<Several>),
    /// A gateway leads to that host, but not to that port.
    #[error("{0}")]
    NotOffered(Box<NotOffered>),
    /// The name or address is not a device's.
    #[error("{0}")]
    NotADevice(Box<NotADevice>),
    /// A name of ours that stands for something outside, to which no gateway leads.
    #[error("the name's address lies neither in the overlay nor behind a gateway")]
    LedNowhere,
}

impl NameError {
    /// Returns whether nobody in the overlay has the destination, so that a door that leads outside
    /// may look for it there. Names of our domain and of private zones never are foreign.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Foreign => true,
            Self::Missing(missing) => missing.is_foreign(),
            Self::NotOffered(not_offered) => not_offered.is_foreign(),
            Self::NotADevice(not_a_device) => not_a_device.is_foreign(),
            Self::Unknown | Self::AmbiguousAddress | Self::AmbiguousName(_) | Self::LedNowhere => {
                false
            }
        }
    }
}

/// Finds the device that `destination` means.
///
/// # Errors
/// See [`NameError`]. What has not the form of a name is [`NameError::Unknown`], so that nobody
/// hands it on to another resolver.
pub(crate) fn resolve(netmap: &Netmap, destination: &Destination) -> Result<Resolved, NameError> {
    match destination {
        Destination::Name(name) => match AliasEnd::of(netmap, &whole_name(netmap, name)?) {
            AliasEnd::Device(device) => Ok(device),
            AliasEnd::Delegated(..) | AliasEnd::Foreign(_) => Err(NameError::Foreign),
            // An address outside the overlay is no device, and is not dialled under a name of ours.
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

/// Returns whether the address lies in a range of the overlay, even one that no device can have.
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

/// Returns whether the text has the form of a host name: dotted labels of letters, digits, hyphens
/// and, since names outside the overlay have them, underscores; one dot may end it.
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
