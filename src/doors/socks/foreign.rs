//! Datagrams to foreign destinations, from this host: decides which address a name has for one
//! association.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rustix::net::{SendFlags, sendto};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::host::direct::addresses;
use crate::names::Destination;

/// The sockets of one association towards the world, opened with its first datagram there.
pub(super) struct ForeignSockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    names: BTreeMap<(String, u16), (Instant, SocketAddr)>,
    lookups: FuturesUnordered<BoxFuture<'static, LookedUp>>,
}

/// A name that was looked up for one datagram.
struct LookedUp {
    name: (String, u16),
    address: Option<SocketAddr>,
    data: Vec<u8>,
}

/// An event of the sockets.
pub(super) enum ForeignEvent {
    /// A datagram of this length came from there.
    Received(usize, SocketAddr),
    /// A datagram that waited for its name was sent there, or not.
    Sent(Option<SocketAddr>),
}

impl ForeignSockets {
    pub(super) fn new() -> Self {
        Self {
            v4: None,
            v6: None,
            names: BTreeMap::new(),
            lookups: FuturesUnordered::new(),
        }
    }

    /// Sends a datagram, or looks its name up first and sends it in [`ForeignSockets::next`].
    /// Returns the address if it was sent, and an error if it never will be.
    pub(super) fn send(
        &mut self,
        data: &[u8],
        destination: Destination,
        port: u16,
    ) -> io::Result<Option<SocketAddr>> {
        let name = match destination {
            Destination::Address(address) | Destination::AddressIn(address, _) => {
                let to = SocketAddr::new(address.get(), port);
                return self.send_to(data, to).map(Some);
            }
            Destination::Name(name) => (name, port),
        };
        if let Some((since, address)) = self.names.get(&name)
            && since.elapsed() < NAME_LIFE
        {
            let address = *address;
            return self.send_to(data, address).map(Some);
        }
        if self.lookups.len() >= LOOKUPS_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let data = data.to_vec();
        self.lookups.push(Box::pin(async move {
            let destination = Destination::Name(name.0.clone());
            let found = timeout(LOOKUP_TIMEOUT, addresses(destination, name.1)).await;
            let address = match found {
                Ok(Ok(addresses)) => addresses.first().copied(),
                Ok(Err(_)) | Err(_) => None,
            };
            LookedUp {
                name,
                address,
                data,
            }
        }));
        Ok(None)
    }

    /// Returns the next event. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, data: &mut [u8]) -> ForeignEvent {
        loop {
            let Self {
                v4, v6, lookups, ..
            } = self;
            tokio::select! {
                () = readable(v4.as_ref()) => {}
                () = readable(v6.as_ref()) => {}
                Some(found) = lookups.next() => return ForeignEvent::Sent(self.found(found)),
            }
            for socket in [&self.v4, &self.v6].into_iter().flatten() {
                // Some systems report here that an earlier datagram found nobody, and SOCKS has no
                // word for it.
                if let Ok((len, from)) = socket.try_recv_from(data) {
                    return ForeignEvent::Received(len, from);
                }
            }
        }
    }

    fn found(&mut self, found: LookedUp) -> Option<SocketAddr> {
        let address = found.address?;
        if self.names.len() >= NAMES_MAX {
            self.names
                .retain(|_, (since, _)| since.elapsed() < NAME_LIFE);
        }
        if self.names.len() < NAMES_MAX {
            self.names.insert(found.name, (Instant::now(), address));
        }
        self.send_to(&found.data, address).ok()
    }

    fn send_to(&mut self, data: &[u8], to: SocketAddr) -> io::Result<SocketAddr> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let (socket, any) = match to {
            SocketAddr::V4(_) => (&mut self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&mut self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let socket = match socket {
            Some(socket) => socket,
            None => {
                let opened = std::net::UdpSocket::bind(any)?;
                opened.set_nonblocking(true)?;
                socket.insert(UdpSocket::from_std(opened)?)
            }
        };
        // Asked of the system itself: the runtime does not know yet that a new socket can send
        // (<https://github.com/tokio-rs/tokio/pull/8032>).
        sendto(socket, data, SendFlags::DONTWAIT, &to)?;
        Ok(to)
    }
}

async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error shows when it is read.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

/// Datagrams of one association that wait for their names; more are dropped, as a full network
/// would.
const LOOKUPS_MAX: usize = 16;

/// Names that one association remembers; others are looked up each time.
const NAMES_MAX: usize = 64;

/// Time for which a name keeps its address: one association talks to one server, and DNS entries
/// live about as long.
const NAME_LIFE: Duration = Duration::from_secs(60);

/// Time for the lookup of a name. A datagram that waited longer is of no use any more.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
