//! Overlay ports of a program that uses the library: one listener over all networks of the device.
//! Decides nothing about who may come in; that is decided before, where packets come in.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;

use overlan_netstack as netstack;
use overlan_protocol::key::NetworkId;
use tokio::sync::watch;

use super::{Node, PeerAddr, Stream};
use crate::names::PeerIdentity;
use overlan_plane::engine::Membership;

/// The reason why a port is not listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Something of this node has the port: another listener, or a published service.
    #[error("overlay port {0} is taken in this node")]
    InUse(u16),
    /// Peers must know where to connect to.
    #[error("port 0 cannot be listened on")]
    NoPort,
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// The node has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node was closed")]
pub struct Closed;

/// Takes connections to one port of this device, in every network that it is in, and in those that
/// it joins later.
///
/// Up to 1,024 connections wait in each network until they are accepted; their senders wait with
/// them. Dropping it closes the port, and refuses who waits. It keeps its node up.
#[derive(Debug)]
pub struct Listener {
    node: Node,
    port: u16,
    networks: BTreeMap<NetworkId, (Weak<Membership>, netstack::TcpListener)>,
    changes: watch::Receiver<u64>,
}

impl Node {
    /// Listens on an overlay port. Who may come in is the network's policy: it must allow the peer
    /// to open this port.
    ///
    /// # Errors
    /// The port is taken, or the node has ended.
    ///
    /// ```no_run
    /// # async fn example(node: overlan::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut listener = node.listen(7)?;
    /// while let Ok((mut stream, peer)) = listener.accept().await {
    ///     println!("{} came in, its key is {}", peer.name, peer.key);
    ///     tokio::spawn(async move {
    ///         let (mut reader, mut writer) = tokio::io::split(&mut stream);
    ///         tokio::io::copy(&mut reader, &mut writer).await
    ///     });
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(&self, port: u16) -> Result<Listener, ListenError> {
        if self.inner.closing.is_cancelled() {
            return Err(Closed.into());
        }
        let mut listener = Listener {
            changes: self.inner.links_changed.subscribe(),
            node: self.clone(),
            port,
            networks: BTreeMap::new(),
        };
        listener.follow()?;
        Ok(listener)
    }
}

impl Listener {
    /// The next connection, and the device that proved to be at its other end. The connection is
    /// established by this call; until then the peer waits. Cancel safe: no connection is lost with
    /// the future.
    ///
    /// # Errors
    /// The node has ended.
    pub async fn accept(&mut self) -> Result<(Stream, PeerIdentity), Closed> {
        loop {
            let closing = self.node.inner.closing.clone();
            let networks = &self.networks;
            let next = poll_fn(|cx| {
                for (network, (_, listener)) in networks {
                    if let Poll::Ready(incoming) = listener.poll_accept(cx) {
                        return Poll::Ready((*network, incoming));
                    }
                }
                Poll::Pending
            });
            let (network, incoming) = tokio::select! {
                biased;
                () = closing.cancelled() => return Err(Closed),
                _ = self.changes.changed() => {
                    // A port that was taken meanwhile in a network that was joined is its owner's.
                    let _followed = self.follow();
                    continue;
                }
                next = next => next,
            };
            let address = incoming.remote();
            let Some(peer) = self.node.identify(PeerAddr { network, address }) else {
                // It left while it waited.
                tracing::debug!(%address, "a connection of nobody");
                incoming.refuse();
                continue;
            };
            return Ok((Stream::new(incoming.accept(), &self.node), peer));
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Listens in networks that are new, and no longer in those that are gone.
    fn follow(&mut self) -> Result<(), ListenError> {
        let memberships = self.node.inner.engine.memberships();
        self.networks.retain(|id, (known, _)| {
            let current = memberships.get(id);
            current.is_some_and(|current| std::ptr::eq(known.as_ptr(), Arc::as_ptr(current)))
        });
        for (id, membership) in memberships.iter() {
            if self.networks.contains_key(id) {
                continue;
            }
            let listener = membership.stack().listen(self.port);
            let listener = listener.map_err(|error| match error {
                netstack::ListenError::InUse => ListenError::InUse(self.port),
                netstack::ListenError::NoPort => ListenError::NoPort,
            })?;
            self.networks
                .insert(*id, (Arc::downgrade(membership), listener));
        }
        Ok(())
    }
}
