//! The node as doors see it, their `Overlay`. Decides the network to which a datagram goes, and the
//! peer that may come in by a port that was opened for it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Poll;

use overlan_netstack as netstack;
use overlan_protocol::key::{NetworkId, random_bytes};
use overlan_protocol::policy::Protocol;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::reach::Reached;
use super::{Inner, Node};
use crate::device::controller_session::Health;
use crate::doors::proxy::{self, Datagrams, Overlay, PeerPort, Proxied, ProxyConfig, check_listen};
use crate::host::accept::{Vacancies, Vacancy};
use crate::host::memory::Budget;
use crate::host::sockets::connections_max;
use crate::names::DialError;
use crate::names::lookup::DnsTransport;
use crate::names::{Destination, Way};
use overlan_plane::engine::Membership;

impl Node {
    /// Returns a token that is cancelled when doors close to new connections.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.inner.closing.clone()
    }

    /// Returns the number of connections that each door serves at once.
    pub(crate) fn connections_of_a_door(&self) -> usize {
        self.inner.connections_of_a_door()
    }

    /// Opens a door for so many connections. The status reports it while it has no free place.
    pub(crate) fn open_door(&self, door: String) -> Arc<Vacancy> {
        self.inner.open_door(door)
    }

    /// Returns this node as [`crate::doors::proxy::serve`] takes it, without keeping the node up.
    #[must_use]
    pub fn overlay(&self) -> NodeOverlay {
        NodeOverlay(self.inner.clone())
    }

    /// Opens a proxy for SOCKS5 and HTTP on `address` of this host, where port 0 chooses a free
    /// one, and returns its address. It serves until the node ends. Use it for libraries that dial
    /// by themselves: `reqwest::Proxy::all(format!("socks5h://{address}"))`.
    ///
    /// On Linux only programs of the same user may connect; on other systems every program of this
    /// host may.
    ///
    /// # Errors
    /// The address is not loopback ([`io::ErrorKind::InvalidInput`]), or it cannot be listened on.
    pub async fn listen_proxy(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        check_listen(address, false)
            .map_err(|refused| io::Error::new(io::ErrorKind::InvalidInput, refused))?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = self.inner.closing.clone();
        let serving = proxy::serve(listener, ProxyConfig::default(), self.overlay(), stop);
        self.inner.tasks.spawn(serving);
        Ok(address)
    }
}

impl Inner {
    /// Returns the number of connections that each door serves at once.
    fn connections_of_a_door(&self) -> usize {
        let max = connections_max();
        let within = self.options.memory.map_or(max, Budget::connections);
        max.min(within)
    }

    /// Opens a door, see [`Node::open_door`].
    pub(super) fn open_door(&self, door: String) -> Arc<Vacancy> {
        let max = self.connections_of_a_door();
        self.vacancies.open(door, max, self.options.memory)
    }
}

/// A node as doors see it.
#[derive(Debug, Clone)]
pub struct NodeOverlay(Arc<Inner>);

impl Overlay for NodeOverlay {
    type Stream = netstack::TcpStream;
    type Bound = BoundPort;
    type Datagrams = NodeDatagrams;

    fn memory(&self) -> Option<Budget> {
        self.0.options.memory
    }

    fn vacancies(&self) -> Vacancies {
        self.0.vacancies.clone()
    }

    fn proxied(&self) -> Proxied {
        Proxied::of(&self.0.control.netmap().borrow())
    }

    /// Waits until the device knows its networks, has a relay, and has heard once from the
    /// controller what changed.
    async fn ready(&self, destination: &Destination) {
        let inner = &self.0;
        let mut links = inner.links_changed.subscribe();
        let mut netmap = inner.control.netmap();
        let mut health = inner.control.health();
        loop {
            let answers = {
                let snapshot = inner.snapshot_of(netmap.borrow_and_update().clone());
                let way = snapshot.way(destination, None);
                let is_known = !matches!(way, Err(DialError::NotReady));
                let foreign = matches!(way, Ok(Way::Foreign(_)));
                match &*health.borrow_and_update() {
                    Health::Removed | Health::Barred { .. } => true,
                    // The netmap of an earlier run may not have what a short name means.
                    Health::Connecting => foreign && !snapshot.is_short(destination),
                    Health::Connected { .. } | Health::Unreachable { .. } | Health::Unknown => {
                        is_known && (foreign || inner.engine.is_attached())
                    }
                }
            };
            if answers {
                return;
            }
            tokio::select! {
                _ = links.changed() => {}
                _ = netmap.changed() => {}
                _ = health.changed() => {}
                () = inner.stop.cancelled() => return,
            }
        }
    }

    async fn dial(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        self.0.dial(destination, port).await
    }

    fn next_step(&self, destination: &Destination, port: u16, error: &DialError) -> Option<String> {
        self.0.snapshot().next_step(destination, port, error)
    }

    fn bind(&self, peer: &Destination) -> Result<BoundPort, DialError> {
        let resolved = self.0.snapshot().device(peer)?;
        let membership = self.0.membership(&resolved)?;
        let addresses = resolved.host.addresses();
        let is_v6 = peer.address().is_some_and(|address| address.is_ipv6());
        let own = *membership
            .addresses()
            .iter()
            .find(|own| own.is_ipv6() == is_v6)
            .ok_or(DialError::UnknownName)?;
        let mut failed = None;
        for _ in 0..PORT_ATTEMPTS {
            let port = FIRST_PORT | u16::from_be_bytes(random_bytes());
            let filter = membership.filter();
            if !resolved.own && !filter.allows_inbound(resolved.host, Protocol::Tcp, port) {
                failed = Some(DialError::DeniedByPolicy);
                continue;
            }
            match membership.stack().listen(port) {
                Ok(listener) => {
                    return Ok(BoundPort {
                        listener,
                        local: SocketAddr::new(own, port),
                        peer: addresses,
                    });
                }
                Err(error) => failed = Some(DialError::Internal(error.to_string())),
            }
        }
        Err(failed.unwrap_or(DialError::DeniedByPolicy))
    }

    fn datagrams(&self) -> NodeDatagrams {
        NodeDatagrams {
            inner: self.0.clone(),
            sockets: BTreeMap::new(),
        }
    }

    fn resolve(
        &self,
        query: Vec<u8>,
        transport: DnsTransport,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send + use<> {
        let inner = Arc::clone(&self.0);
        async move { inner.answer_dns(&query, transport).await }
    }
}

/// An overlay port that is open for one peer.
#[derive(Debug)]
pub struct BoundPort {
    listener: netstack::TcpListener,
    local: SocketAddr,
    peer: [std::net::IpAddr; 2],
}

impl PeerPort for BoundPort {
    type Stream = netstack::TcpStream;

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&mut self) -> (netstack::TcpStream, SocketAddr) {
        loop {
            let incoming = self.listener.accept().await;
            let remote = incoming.remote();
            if self.peer.contains(&remote.ip()) {
                return (incoming.accept(), remote);
            }
            incoming.refuse();
        }
    }
}

/// A UDP socket in every network to which a datagram was sent.
#[derive(Debug)]
pub struct NodeDatagrams {
    inner: Arc<Inner>,
    sockets: BTreeMap<NetworkId, (Weak<Membership>, netstack::UdpSocket)>,
}

impl Datagrams for NodeDatagrams {
    fn send_to(
        &mut self,
        data: &[u8],
        destination: &Destination,
        port: u16,
    ) -> Result<SocketAddr, DialError> {
        let inner = &self.inner;
        let Reached {
            membership,
            network,
            address,
            ..
        } = inner.reach(&inner.snapshot(), destination, Protocol::Udp, port)?;
        let remote = SocketAddr::new(address, port);
        // A network that was left and joined again has another stack.
        let is_current =
            |known: &Weak<Membership>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&membership));
        self.sockets
            .retain(|known_network, (known, _)| *known_network != network || is_current(known));
        let (_, socket) = match self.sockets.entry(network) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let socket = membership
                    .stack()
                    .bind_udp(0)
                    .map_err(|error| DialError::Internal(error.to_string()))?;
                place.insert((Arc::downgrade(&membership), socket))
            }
        };
        socket.send_to(data, remote)?;
        Ok(remote)
    }

    async fn recv_from(&mut self, data: &mut [u8]) -> (usize, SocketAddr) {
        poll_fn(|cx| {
            for (_, socket) in self.sockets.values() {
                // The error about a closed port comes once, and SOCKS has no word for it; the next
                // call registers the waker.
                while let Poll::Ready(received) = socket.poll_recv_from(cx, data) {
                    if let Ok(received) = received {
                        return Poll::Ready(received);
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The number of ports that a bind tries: the chance that all are taken is negligible.
const PORT_ATTEMPTS: usize = 16;

/// The bits that chosen ports have, so that they are 49,152 or above (RFC 6335).
const FIRST_PORT: u16 = 0xc000;
