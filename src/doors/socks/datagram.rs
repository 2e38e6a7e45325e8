//! One UDP association: decides whose datagrams pass, in both directions, and how they are wrapped
//! (RFC 1928, section 7). Owns no socket; addresses and bytes come in and go out.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use fast_socks5::parse_udp_request;
use futures_util::FutureExt;

use super::handshake;
use crate::names::{Destination, is_host_name};

/// The state of one association.
#[derive(Debug)]
pub(super) struct Association {
    /// The address from which the control connection comes: nobody else may send.
    client_ip: IpAddr,
    /// The address from which the client's first datagram came.
    client: Option<SocketAddr>,
    /// The remotes that the client has sent to, and the same in order of first use.
    known: BTreeSet<SocketAddr>,
    known_in_order: VecDeque<SocketAddr>,
    counts: AssociationCounts,
}

/// The datagrams that an association has counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct AssociationCounts {
    /// Datagrams of the client that were sent on.
    pub(super) sent: u64,
    /// Datagrams that the client was given.
    pub(super) received: u64,
    /// Datagrams from another address than the client's, or from a remote that the client has not
    /// sent to.
    pub(super) strangers: u64,
    /// Parts of larger datagrams, which RFC 1928 lets a server drop.
    pub(super) fragments: u64,
    /// Datagrams that do not have the form of RFC 1928, or have an impossible destination.
    pub(super) malformed: u64,
    /// Datagrams that were refused, too large, or not taken by a socket.
    pub(super) unsent: u64,
}

/// A datagram that a client wants to have sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing<'a> {
    pub(super) destination: Destination,
    pub(super) port: u16,
    pub(super) data: &'a [u8],
}

impl Association {
    /// For the client whose control connection comes from `client_ip`.
    pub(super) fn new(client_ip: IpAddr) -> Self {
        Self {
            client_ip,
            client: None,
            known: BTreeSet::new(),
            known_in_order: VecDeque::new(),
            counts: AssociationCounts::default(),
        }
    }

    /// Returns whether nobody has sent anything yet.
    pub(super) fn is_new(&self) -> bool {
        self.client.is_none()
    }

    /// Returns whether `from` may send. The first one that may becomes the only one.
    pub(super) fn admits(&mut self, from: SocketAddr) -> bool {
        let from = canonical(from);
        let admits = match self.client {
            Some(client) => client == from,
            None => self.client_ip == from.ip(),
        };
        if !admits {
            self.counts.strangers += 1;
        }
        admits
    }

    /// Returns whether the client's own address is known yet.
    #[cfg(test)]
    pub(super) fn is_pinned(&self) -> bool {
        self.client.is_some()
    }

    /// Takes one datagram from a sender that [`Association::admits`].
    pub(super) fn handle_client_datagram<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a [u8],
    ) -> Option<Outgoing<'a>> {
        // Reading from memory never waits.
        let Some(Ok((fragment, target, data))) = parse_udp_request(datagram).now_or_never() else {
            self.counts.malformed += 1;
            return None;
        };
        if fragment != 0 {
            self.counts.fragments += 1;
            return None;
        }
        let (destination, port) = handshake::destination(target);
        let is_name = match &destination {
            Destination::Name(name) => is_host_name(name),
            Destination::Address(_) | Destination::AddressIn(..) => true,
        };
        if !is_name || port == 0 {
            self.counts.malformed += 1;
            return None;
        }
        self.client.get_or_insert(canonical(from));
        Some(Outgoing {
            destination,
            port,
            data,
        })
    }

    /// A datagram went to `remote`: its answers may come in.
    pub(super) fn handle_sent(&mut self, remote: SocketAddr) {
        self.counts.sent += 1;
        let remote = canonical(remote);
        if self.known.insert(remote) {
            self.known_in_order.push_back(remote);
        }
        if self.known_in_order.len() > KNOWN_MAX
            && let Some(oldest) = self.known_in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// A datagram was not sent on.
    pub(super) fn handle_unsent(&mut self) {
        self.counts.unsent += 1;
    }

    /// Takes one datagram from the network. Wraps it into `wrapped` and returns the client's
    /// address, if it may have it.
    pub(super) fn handle_network_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        wrapped: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let from = canonical(from);
        let client = self.client.filter(|_| self.known.contains(&from));
        if client.is_none() {
            self.counts.strangers += 1;
            return None;
        }
        self.counts.received += 1;
        wrapped.clear();
        wrapped.extend_from_slice(&UNFRAGMENTED);
        push_address(wrapped, from);
        wrapped.extend_from_slice(data);
        client
    }

    pub(super) fn counts(&self) -> AssociationCounts {
        self.counts
    }
}

/// Appends kind, address and port, as replies and datagrams have them.
pub(super) fn push_address(to: &mut Vec<u8>, address: SocketAddr) {
    match canonical(address) {
        SocketAddr::V4(v4) => {
            to.push(ADDRESS_V4);
            to.extend_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            to.push(ADDRESS_V6);
            to.extend_from_slice(&v6.ip().octets());
        }
    }
    to.extend_from_slice(&address.port().to_be_bytes());
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Two reserved bytes, and the number of the part: 0 is a whole datagram.
const UNFRAGMENTED: [u8; 3] = [0; 3];

/// RFC 1928, section 5.
const ADDRESS_V4: u8 = 1;
const ADDRESS_V6: u8 = 4;

/// Remotes of one association whose datagrams pass. A program talks to hundreds; the oldest have to
/// be asked again.
const KNOWN_MAX: usize = 1024;

#[cfg(test)]
mod tests;
