//! Decides whether a packet that a peer sealed has that peer's source address and is meant for this
//! device. It holds no table and no policy; the policy judges ports, afterwards.

use std::net::IpAddr;

use thiserror::Error;

use super::packet::Packet;

/// The reason why an authentic, well-formed packet is dropped. Counted per peer, answered with
/// nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Drop {
    /// The source is not one of the peer's addresses: the peer pretends to be another host.
    #[error("the source address does not belong to the peer")]
    ForeignSource,
    /// The destination is not one of ours in this network. Nothing is forwarded.
    #[error("the destination address is not ours")]
    ForeignDestination,
}

impl Drop {
    /// Every reason, for registering one counter each.
    pub const ALL: [Self; 2] = [Self::ForeignSource, Self::ForeignDestination];

    /// The name for metrics. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ForeignSource => "foreign_source",
            Self::ForeignDestination => "foreign_destination",
        }
    }
}

/// Accepts a packet from exactly one of the peer's addresses to exactly one of ours.
///
/// Addresses are compared as they are: an IPv4 address mapped into IPv6 is another address.
///
/// # Errors
/// The reason to count.
pub fn check_source(
    packet: &Packet,
    peer_addrs: &[IpAddr],
    local_addrs: &[IpAddr],
) -> Result<(), Drop> {
    if !peer_addrs.contains(&packet.source) {
        return Err(Drop::ForeignSource);
    }
    if !local_addrs.contains(&packet.destination) {
        return Err(Drop::ForeignDestination);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
