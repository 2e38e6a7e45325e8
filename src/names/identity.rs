//! The identity of the peer of a connection, as the key that it proved shows it. Holds nothing that
//! comes from a header or from a name that the peer gave.

use std::fmt;
use std::net::SocketAddr;

use overlan_protocol::key::{DeviceId, IdentityKey};
use overlan_protocol::netmap::Owner;

/// The device at the other end of a connection. No other device can send from its address: the
/// session that opens its packets belongs to its key, and a packet with another source is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Full name, `host.network.domain`.
    pub name: String,
    /// Host label.
    pub label: String,
    /// Label of the network.
    pub network: String,
    /// The device's id. A name may go to another device later; an id does not.
    pub device: DeviceId,
    /// The key that the device proved.
    pub key: IdentityKey,
    /// The person or auth key that enrolled it, as the controller reports it.
    pub owner: Owner,
    /// Its address in the network, and the port of the connection.
    pub address: SocketAddr,
    /// True if it is this device itself: a connection to its own address.
    pub this_device: bool,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
