//! The identity of a peer. Decides which device an address of a network belongs to, by the key of
//! the session that opened its packets; believes no header and no name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::HostIndex;
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Owner;

use tokio::time::timeout;

use super::{Inner, Node, Whois};
use crate::doors::serve::http::Identify;
use crate::names::{DialError, PeerIdentity};

/// The address of a peer with its network, since all networks use the same addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    /// The network.
    pub network: NetworkId,
    /// The peer's address there, and its port.
    pub address: SocketAddr,
}

impl Node {
    /// Waits until a peer, named as for [`Node::dial`], is known to be online, and returns its
    /// identity.
    ///
    /// # Errors
    /// [`DialError::Foreign`] for a foreign destination, [`DialError::TimedOut`] after `within`.
    pub async fn wait_for(&self, peer: &str, within: Duration) -> Result<Whois, DialError> {
        let mut netmap = self.netmap();
        let mut turns = self.inner.turns.subscribe();
        let online = async {
            loop {
                let known = self.find(peer);
                match known.and_then(|destination| self.whois(&destination)) {
                    Ok(whois) if whois.online => return Ok(whois),
                    Err(DialError::Foreign) => return Err(DialError::Foreign),
                    Ok(_) | Err(_) => {}
                }
                let changed = tokio::select! {
                    changed = netmap.changed() => changed,
                    changed = turns.changed() => changed,
                };
                if changed.is_err() {
                    return Err(DialError::UnknownName);
                }
            }
        };
        timeout(within, online)
            .await
            .unwrap_or(Err(DialError::TimedOut))
    }

    /// Returns the device that has the address `peer` now; `None` if it has left the network.
    pub fn identify(&self, peer: PeerAddr) -> Option<PeerIdentity> {
        self.inner.identify(peer)
    }
}

impl Inner {
    /// Returns a function that identifies addresses of one network, for as long as this node lives.
    pub(super) fn identify_in(self: &Arc<Self>, network: NetworkId) -> Identify {
        let inner = Arc::downgrade(self);
        Arc::new(move |address| inner.upgrade()?.identify(PeerAddr { network, address }))
    }

    pub(super) fn identify(&self, peer: PeerAddr) -> Option<PeerIdentity> {
        let netmap = self.control.netmap().borrow().clone();
        let network = netmap.networks.get(&peer.network)?;
        let host = HostIndex::of_address(peer.address.ip().to_canonical())?;
        let this_device = host == network.host;
        let (label, device, key, owner) = if this_device {
            let key = self.device.identity.public();
            (&network.label, self.device.device, key, Owner::Unknown)
        } else {
            let named = network.peers.get(&host)?;
            let memberships = self.engine.memberships();
            // A device whose keys the engine does not believe has no session, and sent nothing.
            let believed = memberships.get(&peer.network)?.peer(host)?;
            if believed.device() != named.device {
                return None;
            }
            let owner = named.owner.clone();
            (&named.label, named.device, named.identity, owner)
        };
        Some(PeerIdentity {
            name: format!("{label}.{}.{}", network.name, netmap.domain),
            label: label.clone(),
            network: network.name.clone(),
            device,
            key,
            owner,
            address: peer.address,
            this_device,
        })
    }
}
