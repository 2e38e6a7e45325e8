//! Overlay ports of a program that uses the library: one listener in all networks of the device.
//! Does not decide which peers may connect: the policy does, where packets come in.

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

/// The reason why a node does not listen on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Another listener or a served port of this node has the port.
    #[error("overlay port {0} is taken in this node")]
    InUse(u16),
    /// Port 0 was given: peers have to know the port.
    #[error("a node cannot listen on port 0")]
    NoPort,
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// The node has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node was closed")]
pub struct Closed;

/// Accepts connections to one port of this device, in all its networks and in those that it joins
/// later.
///
/// Up to 1,024 connections wait in each network until they are accepted, and their peers wait with
/// them. Dropping the listener closes the port, and refuses those that wait. It keeps its node up.
#[derive(Debug)]
pub struct Listener {
    node: Node,
    port: u16,
    networks: BTreeMap<NetworkId, (Weak<Membership>, netstack::TcpListener)>,
    changes: watch::Receiver<u64>,
}

impl Node {
    /// Listens on an overlay port. Peers come in if the network's policy allows them to open this
    /// port.
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
    /// Accepts the next connection. Returns it, and the identity that its peer proved. The
    /// connection is established by this call; until then the peer waits. It is cancel safe: a
    /// dropped future loses no connection.
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
                    // In a network that was just joined, the port may already have another owner.
                    let _followed = self.follow();
                    continue;
                }
                next = next => next,
            };
            let address = incoming.remote();
            let Some(peer) = self.node.identify(PeerAddr { network, address }) else {
                // The peer left the network while it waited.
                tracing::debug!(%address, "the peer of a connection has left the network");
                incoming.refuse();
                continue;
            };
            return Ok((Stream::new(incoming.accept(), &self.node), peer));
        }
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Listens in networks that are new, and stops in those that are gone.
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
