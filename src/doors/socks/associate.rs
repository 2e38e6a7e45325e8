//! The sockets of a UDP association: carries datagrams between a client, the overlay, our resolver
//! and, where the door is direct, the world. [`super::datagram`] decides whose datagrams pass. It
//! ends with its control connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::debug;

use super::datagram::{Association, Outgoing};
use super::foreign::{ForeignEvent, ForeignSockets};
use super::{SUCCEEDED, reply};
use crate::doors::client::Client;
use crate::doors::door::{ClientEnds, ProxyDoor};
use crate::doors::moves::Moves;
use crate::doors::overlay::{Datagrams, Overlay};
use crate::names::Destination;
use crate::names::lookup::DnsTransport;

/// Opens the socket, tells the client, and serves until the client closes its connection or nothing
/// has moved for the door's idle time.
pub(super) async fn run<O: Overlay>(
    mut client: Client,
    ends: ClientEnds,
    door: &ProxyDoor<O>,
) -> io::Result<()> {
    // The address at which the client reached us is one that it can send to.
    let socket = UdpSocket::bind(SocketAddr::new(ends.own, 0)).await?;
    client
        .write_all(&reply(SUCCEEDED, socket.local_addr()?))
        .await?;
    let mut relay = Relay {
        association: Association::new(ends.client),
        overlay: door.overlay.datagrams(),
        foreign: ForeignSockets::new(),
        door,
        socket: &socket,
        ends,
        admitted: None,
        lookups: FuturesUnordered::new(),
        wrapped: Vec::new(),
    };
    let moves = Moves::new();
    tokio::select! {
        () = relay.run(&moves) => {}
        () = closed(&mut client) => {}
        () = idle(&moves, door.config.idle_timeout) => {}
    }
    debug!(counts = ?relay.association.counts(), "a UDP association ended");
    Ok(())
}

/// Returns when the control connection ends. Bytes that the client sends on it have no meaning.
async fn closed(client: &mut Client) {
    let mut ignored = [0; 64];
    while let Ok(1..) = client.read(&mut ignored).await {}
}

async fn idle(moves: &Moves, idle: Option<Duration>) {
    match idle {
        Some(idle) => moves.idle_for(idle).await,
        None => std::future::pending().await,
    }
}

struct Relay<'a, O: Overlay> {
    association: Association,
    overlay: O::Datagrams,
    foreign: ForeignSockets,
    door: &'a ProxyDoor<O>,
    socket: &'a UdpSocket,
    ends: ClientEnds,
    /// The sender that was admitted last, and the moment of that.
    admitted: Option<(SocketAddr, Instant)>,
    /// Questions to our resolver that wait for an answer.
    lookups: FuturesUnordered<BoxFuture<'static, (SocketAddr, Option<Vec<u8>>)>>,
    /// A datagram with its header, for the client.
    wrapped: Vec<u8>,
}

impl<O: Overlay> Relay<'_, O> {
    async fn run(&mut self, moves: &Moves) {
        // The system hands these out as zeros: unused parts cost no memory.
        let (mut sent, mut inside, mut beyond) = (
            vec![0; DATAGRAM_MAX],
            vec![0; DATAGRAM_MAX],
            vec![0; DATAGRAM_MAX],
        );
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut sent) => {
                    // Some systems report here that an earlier datagram found nobody.
                    if let Ok((len, from)) = received {
                        self.handle_client(from, &sent[..len]).await;
                    }
                }
                (len, from) = self.overlay.recv_from(&mut inside) => {
                    self.deliver(from, &inside[..len]).await;
                }
                Some((resolver, answer)) = self.lookups.next() => {
                    if let Some(answer) = answer {
                        self.deliver(resolver, &answer).await;
                    }
                }
                event = self.foreign.next(&mut beyond) => match event {
                    ForeignEvent::Received(len, from) => self.deliver(from, &beyond[..len]).await,
                    ForeignEvent::Sent(Some(to)) => self.association.handle_sent(to),
                    ForeignEvent::Sent(None) => self.association.handle_unsent(),
                },
            }
            moves.note();
        }
    }

    /// Returns whether `from` may send. Another program may get the port of one that has closed its
    /// socket, so its owner is looked up again and again.
    async fn may_send(&mut self, from: SocketAddr) -> bool {
        let now = Instant::now();
        if let Some((known, last)) = self.admitted
            && known == from
            && now < last + ASK_AGAIN
        {
            return true;
        }
        let may = self.door.may_send(from, self.ends).await;
        self.admitted = may.then_some((from, now));
        may
    }

    async fn handle_client(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !self.association.admits(from)
            || self.door.closed().is_cancelled() && self.association.is_new()
        {
            return;
        }
        if !self.may_send(from).await {
            return;
        }
        let Some(outgoing) = self.association.handle_client_datagram(from, datagram) else {
            return;
        };
        let Outgoing {
            destination,
            port,
            data,
        } = outgoing;
        if self.door.is_resolver(&destination, port) {
            return self.resolve(&destination, port, data);
        }
        if self.door.settle(&destination).await.is_err() {
            return self.association.handle_unsent();
        }
        match self.overlay.send_to(data, &destination, port) {
            Ok(remote) => self.association.handle_sent(remote),
            Err(error) if error.is_foreign() && self.door.config.direct => {
                match self.foreign.send(data, destination, port) {
                    Ok(Some(remote)) => self.association.handle_sent(remote),
                    // It waits for its name.
                    Ok(None) => {}
                    Err(_) => self.association.handle_unsent(),
                }
            }
            Err(error) => {
                debug!(?destination, port, %error, "a client's datagram was not sent");
                self.association.handle_unsent();
            }
        }
    }

    /// Asks our own resolver, without any socket between.
    fn resolve(&mut self, resolver: &Destination, port: u16, query: &[u8]) {
        let address = match resolver {
            Destination::Address(address) if self.lookups.len() < LOOKUPS_MAX => address.get(),
            Destination::Address(_) | Destination::AddressIn(..) | Destination::Name(_) => {
                return self.association.handle_unsent();
            }
        };
        let resolver = SocketAddr::new(address, port);
        self.association.handle_sent(resolver);
        let answer = self.door.overlay.resolve(query.to_vec(), DnsTransport::Udp);
        self.lookups
            .push(Box::pin(async move { (resolver, answer.await) }));
    }

    async fn deliver(&mut self, from: SocketAddr, data: &[u8]) {
        let client = self
            .association
            .handle_network_datagram(from, data, &mut self.wrapped);
        if let Some(client) = client {
            let to = match self.socket.local_addr() {
                // A socket of IPv6 knows IPv4 in its own form only.
                Ok(SocketAddr::V6(_)) => mapped(client),
                Ok(SocketAddr::V4(_)) | Err(_) => client,
            };
            if let Err(error) = self.socket.send_to(&self.wrapped, to).await {
                debug!(%error, "a datagram did not reach its client");
            }
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

/// Time for which the owner of a client's socket is believed to be the same.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Questions of one association that wait at our resolver; more are dropped, as a full network
/// would.
const LOOKUPS_MAX: usize = 16;

/// Longest datagram with its header, bytes: what UDP itself can carry.
const DATAGRAM_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
