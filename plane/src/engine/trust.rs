//! Decides which peers of a netmap are trusted. Holds the identities seen before; the owner keeps
//! them on disk.
//!
//! The controller cannot swap a tunnel key without swapping the whole identity, and an identity
//! that changes under a known device id is refused until the device enrols again, under another id.

use std::collections::BTreeMap;
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::key::{DeviceId, IdentityKey, TunnelKey, decode_signature};
use overlan_protocol::netmap;
use overlan_protocol::proof::tunnel_key_message;
use serde::{Deserialize, Serialize};

/// The identities of the devices that were peers, each until no netmap has named it for 90 days.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KnownPeers {
    peers: BTreeMap<DeviceId, KnownPeer>,
    /// The time that the owner passed last.
    now: UnixTime,
    has_changed: bool,
}

/// One device that was a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct KnownPeer {
    /// Its identity as it was first seen.
    pub identity: IdentityKey,
    /// The time at which a netmap last named it, to the day; the epoch = not recorded.
    pub named: UnixTime,
}

/// The forms of [`KnownPeer`] on disk. Earlier versions wrote the key alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Named {
        identity: IdentityKey,
        named: UnixTime,
    },
    Bare(IdentityKey),
}

impl From<Stored> for KnownPeer {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Named { identity, named } => Self { identity, named },
            Stored::Bare(identity) => Self {
                identity,
                named: UnixTime::EPOCH,
            },
        }
    }
}

impl KnownPeers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over the entries of the owner's file.
    pub fn from_stored(peers: BTreeMap<DeviceId, KnownPeer>) -> Self {
        Self {
            peers,
            ..Self::default()
        }
    }

    /// The entries to keep on disk.
    pub fn stored(&self) -> &BTreeMap<DeviceId, KnownPeer> {
        &self.peers
    }

    /// Takes the time. Forgets devices that no netmap has named for long: ids are never used again.
    pub fn handle_time(&mut self, now: UnixTime) {
        self.now = self.now.max(now);
        let before = self.peers.len();
        let now = self.now;
        for known in self
            .peers
            .values_mut()
            .filter(|known| known.named == UnixTime::EPOCH)
        {
            known.named = now;
        }
        self.peers
            .retain(|_, known| now < known.named + FORGET_AFTER);
        self.has_changed |= self.peers.len() < before;
    }

    /// Returns whether the entries changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The identity of a device that was seen before.
    pub fn get(&self, device: &DeviceId) -> Option<&IdentityKey> {
        self.peers.get(device).map(|known| &known.identity)
    }

    /// A netmap names `device`, which has this identity.
    fn note(&mut self, device: DeviceId, identity: IdentityKey) -> Result<(), Distrust> {
        if let Some(known) = self.peers.get_mut(&device) {
            if known.identity != identity {
                return Err(Distrust::IdentityChanged);
            }
            // Written once a day, not with each netmap.
            if self.now >= known.named + DAY {
                known.named = self.now;
                self.has_changed = true;
            }
            return Ok(());
        }
        if self.peers.len() >= KNOWN_PEERS_MAX {
            self.make_room()?;
        }
        tracing::debug!(%device, "a new peer");
        let named = self.now;
        self.peers.insert(device, KnownPeer { identity, named });
        self.has_changed = true;
        Ok(())
    }

    /// Forgets the devices that netmaps have not named for longest, but none that one named today:
    /// those are in use.
    fn make_room(&mut self) -> Result<(), Distrust> {
        let mut oldest: Vec<(UnixTime, DeviceId)> = self
            .peers
            .iter()
            .filter(|(_, known)| self.now >= known.named + DAY)
            .map(|(device, known)| (known.named, *device))
            .collect();
        if oldest.is_empty() {
            return Err(Distrust::TooMany);
        }
        oldest.sort_unstable();
        for (_, device) in oldest.iter().take(ROOM) {
            self.peers.remove(device);
        }
        self.has_changed = true;
        Ok(())
    }
}

/// A peer whose keys were checked; the only thing a session is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    device: DeviceId,
    tunnel: TunnelKey,
}

/// The reason why a peer of the netmap is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Its identity key did not sign its tunnel key.
    #[error("its tunnel key is not signed by its identity key")]
    TunnelKeyNotSigned,
    /// It has another identity key than before.
    #[error("its identity key changed; it must enrol again")]
    IdentityChanged,
    /// There is no room to remember it: 100,000 devices were named within a day.
    #[error("no room to remember it: too many devices were named within a day")]
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
        known.note(peer.device, peer.identity)?;
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

/// Most devices that are remembered: ten times the largest network, 10 MiB.
const KNOWN_PEERS_MAX: usize = 100_000;

/// Entries that leave together when there is no room, so that the search for them is rare.
const ROOM: usize = KNOWN_PEERS_MAX / 100;

/// An identity that no netmap has named for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The precision of [`KnownPeer::named`].
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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

    fn day(number: u32) -> UnixTime {
        UnixTime::EPOCH + number * DAY
    }

    fn device(number: u64) -> DeviceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        DeviceId(id)
    }

    #[test]
    fn who_was_not_named_for_ninety_days_is_forgotten_and_others_are_not() {
        let identity = IdentitySecret::from_seed([2; 32]).public();
        let mut known = KnownPeers::new();
        known.handle_time(day(1_000));
        known.note(device(1), identity).unwrap();
        known.note(device(2), identity).unwrap();
        assert!(known.take_changed());
        known.handle_time(day(1_001) - Duration::from_secs(1));
        known.note(device(2), identity).unwrap();
        assert!(!known.take_changed(), "a day has not passed");
        known.handle_time(day(1_050));
        known.note(device(2), identity).unwrap();
        assert!(known.take_changed());
        known.handle_time(day(1_090));
        assert!(known.take_changed());
        assert_eq!(known.get(&device(1)), None);
        assert_eq!(known.get(&device(2)), Some(&identity));
    }

    #[test]
    fn a_list_that_is_full_takes_new_peers_and_keeps_those_in_use() {
        let identity = IdentitySecret::from_seed([2; 32]).public();
        let mut known = KnownPeers::new();
        known.handle_time(day(1_000));
        for number in 0..KNOWN_PEERS_MAX as u64 {
            known.note(device(number), identity).unwrap();
        }
        let newcomer = device(KNOWN_PEERS_MAX as u64);
        assert_eq!(known.note(newcomer, identity), Err(Distrust::TooMany));
        known.handle_time(day(1_001));
        known.note(device(7), identity).unwrap();
        assert_eq!(known.note(newcomer, identity), Ok(()));
        assert!(known.stored().len() <= KNOWN_PEERS_MAX);
        assert_eq!(known.get(&device(7)), Some(&identity));
        let thief = IdentitySecret::from_seed([3; 32]).public();
        let swapped = known.note(device(7), thief);
        assert_eq!(swapped, Err(Distrust::IdentityChanged));
    }

    #[test]
    fn what_an_earlier_version_kept_is_read_and_counts_from_now_on() {
        let identity = IdentitySecret::from_seed([2; 32]).public();
        let json = serde_json::json!({ device(1).to_string(): identity.to_string() });
        let stored = serde_json::from_value(json).unwrap();
        let mut known = KnownPeers::from_stored(stored);
        known.handle_time(day(1_000));
        assert_eq!(known.get(&device(1)), Some(&identity));
        let again = serde_json::to_value(known.stored()).unwrap();
        assert_eq!(
            KnownPeers::from_stored(serde_json::from_value(again).unwrap()).get(&device(1)),
            Some(&identity)
        );
    }
}
