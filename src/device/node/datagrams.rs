//! UDP for a program that uses the library: one socket in all networks of the device. Decides the
//! network to which a datagram goes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Poll;

use overlan_netstack as netstack;
use overlan_protocol::key::NetworkId;
use overlan_protocol::policy::Protocol;
use parking_lot::Mutex;

use super::stream::host_port;
use super::{Closed, Node, PeerAddr};
use crate::names::DialError;
use overlan_plane::engine::Membership;

/// The reason why there is no UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindUdpError {
    /// Another socket of this node has the port.
    #[error("overlay UDP port {0} is taken in this node")]
    InUse(u16),
    /// Every port is taken in one of the networks.
    #[error("no overlay UDP port is free")]
    Exhausted,
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Sends and receives datagrams on one port of this device, in all its networks and in those that
/// it joins later.
///
/// Datagrams may be lost, as everywhere in UDP: up to 512 of them, 1 MiB, wait in each network to
/// be received, and then the oldest are dropped. A peer that got a datagram may answer; the
/// network's policy decides about all others. Dropping the socket closes the port. It keeps its
/// node up.
#[derive(Debug)]
pub struct UdpSocket {
    node: Node,
    port: u16,
    networks: Mutex<BTreeMap<NetworkId, NetworkSocket>>,
}

#[derive(Debug, Clone)]
struct NetworkSocket {
    membership: Weak<Membership>,
    socket: Arc<netstack::UdpSocket>,
}

impl Node {
    /// Opens a UDP socket on an overlay port; 0 chooses a free one.
    ///
    /// # Errors
    /// The port is taken, or the node has ended.
    ///
    /// ```no_run
    /// # async fn example(node: overlan::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = node.bind_udp(0)?;
    /// socket.send_to(b"ping", "web.acme:9")?;
    /// let mut answer = [0; 1500];
    /// let (len, from) = socket.recv_from(&mut answer).await?;
    /// println!("{len} bytes from {:?}", node.identify(from));
    /// socket.send_to_peer(&answer[..len], from)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, BindUdpError> {
        if self.inner.closing.is_cancelled() {
            return Err(Closed.into());
        }
        let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match UdpSocket::bind(self, port) {
                // It is free in the first network and taken in another.
                Err(BindUdpError::InUse(_)) if attempts > 0 => {}
                Err(BindUdpError::InUse(_)) if port == 0 => return Err(BindUdpError::Exhausted),
                bound => return bound,
            }
        }
    }
}

impl UdpSocket {
    fn bind(node: &Node, port: u16) -> Result<Self, BindUdpError> {
        let mut bound = Self {
            node: node.clone(),
            port,
            networks: Mutex::default(),
        };
        bound.follow(&mut bound.networks.lock())?;
        if port == 0
            && let Some(first) = bound.networks.lock().values().next()
        {
            bound.port = first.socket.port();
        }
        Ok(bound)
    }

    /// Returns the port; 0 while the device is in no network.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends one datagram to `host:port`, written as for [`Node::dial`]. Returns its length.
    ///
    /// # Errors
    /// [`DialError`] as for a connection, as far as the cause is known at once. A datagram that is
    /// too long is [`DialError::Internal`].
    pub fn send_to(&self, data: &[u8], to: &str) -> Result<usize, DialError> {
        let to = host_port(to)?;
        let port = to.port();
        let inner = &self.node.inner;
        let destination = self.node.find(to.host())?;
        let reached = inner.reach(&inner.snapshot(), &destination, Protocol::Udp, port)?;
        let peer = PeerAddr {
            network: reached.membership.id(),
            address: SocketAddr::new(reached.address, port),
        };
        Ok(self.send_to_peer(data, peer)?)
    }

    /// Sends one datagram to the peer of another one. Returns its length.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit into one packet, of [`UdpSocket::max_payload`] bytes;
    /// `AddrNotAvailable` if the device is not in that network any more; `ConnectionAborted` if the
    /// node has ended.
    pub fn send_to_peer(&self, data: &[u8], to: PeerAddr) -> io::Result<usize> {
        if self.node.inner.closing.is_cancelled() {
            return Err(closed());
        }
        let socket = {
            let mut networks = self.networks.lock();
            self.try_follow(&mut networks);
            networks.get(&to.network).map(|bound| bound.socket.clone())
        };
        socket
            .ok_or(io::ErrorKind::AddrNotAvailable)?
            .send_to(data, to.address)
    }

    /// Returns the longest datagram to `peer`, bytes; 0 if this device is not in that network.
    #[must_use]
    pub fn max_payload(&self, peer: PeerAddr) -> usize {
        let networks = self.networks.lock();
        let bound = networks.get(&peer.network);
        bound.map_or(0, |bound| bound.socket.max_payload(peer.address))
    }

    /// Receives the next datagram. Returns its length and its peer, which [`Node::identify`] knows.
    /// The part that does not fit into `data` is lost. It is cancel safe; of several waiting tasks
    /// the last one is woken.
    ///
    /// # Errors
    /// `ConnectionRefused` if a peer answered that its port is closed; the socket goes on.
    /// `ConnectionAborted` if the node has ended.
    pub async fn recv_from(&self, data: &mut [u8]) -> io::Result<(usize, PeerAddr)> {
        let closing = &self.node.inner.closing;
        let mut changes = self.node.inner.links_changed.subscribe();
        loop {
            let sockets: Vec<(NetworkId, Arc<netstack::UdpSocket>)> = {
                let mut networks = self.networks.lock();
                self.try_follow(&mut networks);
                let socket =
                    |(id, bound): (&NetworkId, &NetworkSocket)| (*id, bound.socket.clone());
                networks.iter().map(socket).collect()
            };
            let next = poll_fn(|cx| {
                for (network, socket) in &sockets {
                    if let Poll::Ready(received) = socket.poll_recv_from(cx, data) {
                        return Poll::Ready((*network, received));
                    }
                }
                Poll::Pending
            });
            tokio::select! {
                biased;
                () = closing.cancelled() => return Err(closed()),
                (network, received) = next => {
                    let (len, address) = received?;
                    return Ok((len, PeerAddr { network, address }));
                }
                _ = changes.changed() => {}
            }
        }
    }

    /// Binds in networks that are new, except where the port is already taken.
    fn try_follow(&self, networks: &mut BTreeMap<NetworkId, NetworkSocket>) {
        if let Err(error) = self.follow(networks) {
            tracing::debug!(port = self.port, %error, "cannot bind a UDP socket in a new network");
        }
    }

    fn follow(
        &self,
        networks: &mut BTreeMap<NetworkId, NetworkSocket>,
    ) -> Result<(), BindUdpError> {
        let memberships = self.node.inner.engine.memberships();
        networks.retain(|id, bound| {
            let current = memberships.get(id);
            current.is_some_and(|current| {
                std::ptr::eq(bound.membership.as_ptr(), Arc::as_ptr(current))
            })
        });
        let mut port = self.port;
        for (id, membership) in memberships.iter() {
            if networks.contains_key(id) {
                continue;
            }
            let socket = membership.stack().bind_udp(port);
            let socket = socket.map_err(|error| match error {
                netstack::BindError::InUse => BindUdpError::InUse(port),
                netstack::BindError::PortsExhausted => BindUdpError::Exhausted,
            })?;
            port = socket.port();
            let bound = NetworkSocket {
                membership: Arc::downgrade(membership),
                socket: Arc::new(socket),
            };
            networks.insert(*id, bound);
        }
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, Closed)
}

/// The number of chosen ports that are tried, since one has to be free in every network.
const PORT_ATTEMPTS: u32 = 16;
