//! Decides which peers of a netmap are believed. Holds what was seen before; keeping it on disk is the owner's.
//!
//! The controller cannot swap a tunnel key without swapping the whole identity, and an identity that changes under a known
//! device id is refused until the device enrols anew under another id.

use std::collections::BTreeMap;

use overlan_protocol::key::{DeviceId, IdentityKey, TunnelKey, decode_signature};
use overlan_protocol::netmap;
use overlan_protocol::proof::tunnel_key_message;

/// The identity of every device that was ever a peer.
pub type KnownPeers = BTreeMap<DeviceId, IdentityKey>;

/// A peer whose keys were checked; the only thing a session is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    device: DeviceId,
    tunnel: TunnelKey,
}

/// Why a peer of the netmap is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Its identity key did not sign its tunnel key.
    #[error("its tunnel key is not signed by its identity key")]
    TunnelKeyNotSigned,
    /// It has another identity key than before.
    #[error("its identity key changed; it must enrol anew")]
    IdentityChanged,
    /// There is no room to remember it, 100,000 are the limit.
    #[error("too many devices were seen")]
    TooMany,
}

impl VerifiedPeer {
    /// Checks `peer`, and remembers it if it is new.
    pub fn check(peer: &netmap::Peer, known: &mut KnownPeers) -> Result<Self, Distrust> {
        let signature =
            decode_signature(&peer.tunnel_signature).map_err(|_| Distrust::TunnelKeyNotSigned)?;
        if !peer
            .identity
            .verifies(&tunnel_key_message(&peer.tunnel), &signature)
        {
            return Err(Distrust::TunnelKeyNotSigned);
        }
        match known.get(&peer.device) {
            Some(identity) if *identity != peer.identity => return Err(Distrust::IdentityChanged),
            Some(_) => {}
            None if known.len() >= KNOWN_PEERS_MAX => return Err(Distrust::TooMany),
            None => {
                tracing::debug!(device = %peer.device, "a new peer");
                known.insert(peer.device, peer.identity);
            }
        }
        Ok(Self {
            device: peer.device,
            tunnel: peer.tunnel,
        })
    }

    /// The device.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Its public tunnel key.
    pub fn tunnel(&self) -> TunnelKey {
        self.tunnel
    }
}

/// Most devices that are remembered: ten times the largest network, 5 MiB.
const KNOWN_PEERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use overlan_protocol::key::{IdentitySecret, encode_signature};

    use super::*;

    fn peer(secret: &IdentitySecret) -> netmap::Peer {
        let tunnel = TunnelKey([4; 32]);
        netmap::Peer {
            owner: Default::default(),
            routes: Vec::new(),
            device: DeviceId([1; 16]),
            label: "web".into(),
            identity: secret.public(),
            tunnel,
            tunnel_signature: encode_signature(&secret.sign(&tunnel_key_message(&tunnel))),
            relays: vec![],
            online: true,
        }
    }

    #[test]
    fn a_signed_tunnel_key_is_believed_and_remembered() {
        let secret = IdentitySecret::from_seed([2; 32]);
        let mut known = KnownPeers::new();
        let verified = VerifiedPeer::check(&peer(&secret), &mut known).unwrap();
        assert_eq!(verified.tunnel(), TunnelKey([4; 32]));
        assert_eq!(known.get(&DeviceId([1; 16])), Some(&secret.public()));
    }

    #[test]
    fn a_swapped_tunnel_key_is_refused() {
        let mut swapped = peer(&IdentitySecret::from_seed([2; 32]));
        swapped.tunnel = TunnelKey([5; 32]);
        assert_eq!(
            VerifiedPeer::check(&swapped, &mut KnownPeers::new()),
            Err(Distrust::TunnelKeyNotSigned)
        );
    }

    #[test]
    fn a_swapped_identity_is_refused() {
        let mut known = KnownPeers::new();
        VerifiedPeer::check(&peer(&IdentitySecret::from_seed([2; 32])), &mut known).unwrap();
        let swapped = peer(&IdentitySecret::from_seed([3; 32]));
        assert_eq!(
            VerifiedPeer::check(&swapped, &mut known),
            Err(Distrust::IdentityChanged)
        );
    }
}
