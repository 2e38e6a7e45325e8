//! Who is at the other end of a connection: what a proved key says of a device. It believes no
//! header and no name.

use std::fmt;
use std::net::SocketAddr;

use overlan_protocol::key::{DeviceId, IdentityKey};
use overlan_protocol::netmap::Owner;

/// The device at the other end of a connection. Nobody else can send from its address: packets are
/// opened by the session of the device's own key, and what carries another source is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Full name, `host.network.domain`.
    pub name: String,
    /// Host label.
    pub label: String,
    /// Label of the network.
    pub network: String,
    /// The device; a name may go to another one some day, this does not.
    pub device: DeviceId,
    /// The key that the device proved.
    pub key: IdentityKey,
    /// By what right the controller says that it was enrolled.
    pub owner: Owner,
    /// Its address in the network, and the port that it came from.
    pub address: SocketAddr,
    /// True if it is this very device, which talks to itself.
    pub this_device: bool,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
