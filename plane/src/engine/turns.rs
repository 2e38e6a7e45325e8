//! Decides whose turn it is: where a packet that came in belongs, over which link a peer sends, and
//! where it goes when links or ways change. Holds nothing; the engine's fields are its state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use overlan_protocol::frame::Address;
use overlan_protocol::key::{NetworkId, RelayId};

use super::peer::{Destination, PeerKey};
use super::{Engine, Membership, Peer};
use crate::route::{Choice, LinkState};
use crate::tunnel;

impl Engine {
    /// Takes one sealed message that came over `relay`, from the host that the relay stamped on it.
    /// Returns whether it was a packet of that peer.
    pub(super) fn handle_message(
        &self,
        now: Instant,
        relay: RelayId,
        from: Address,
        message: &mut [u8],
    ) -> bool {
        let Address { vni, host, .. } = from;
        let memberships = self.memberships();
        let Some(membership) = memberships
            .values()
            .find(|membership| membership.vni().get() == vni)
        else {
            self.counters.drops.add("unknown_network");
            return false;
        };
        let Some(peer) = membership.peer_of_frame(host) else {
            self.counters.drops.add("unknown_peer");
            return false;
        };
        let packet = match peer.open(self, now, relay, message) {
            Ok(Some(packet)) => packet,
            Ok(None) => return false,
            Err(reason) => {
                self.counters.drops.add(reason.name());
                return false;
            }
        };
        let facts = match tunnel::Packet::parse(packet) {
            Ok(facts) => facts,
            Err(reason) => {
                self.counters.drops.add(reason.name());
                return false;
            }
        };
        if let Err(reason) = tunnel::check_source(&facts, &peer.addresses, membership.addresses()) {
            self.counters.drops.add(reason.name());
            return false;
        }
        self.counters.packets_in.add(1);
        self.counters.bytes_in.add(packet.len() as u64);
        membership.handle_packet(now, peer.key.host, packet);
        true
    }

    /// The relay of a link reported that a host is not attached to it.
    pub(super) fn handle_peer_gone(&self, now: Instant, relay: RelayId, to: Destination) {
        let memberships = self.memberships();
        let Some(membership) = memberships
            .values()
            .find(|membership| membership.vni().get() == to.vni)
        else {
            return;
        };
        if let Some(peer) = membership.peer_of_frame(to.host) {
            peer.handle_absent(self, now, relay);
            if let Some(absence) = peer.absence(self) {
                membership.end(now, &peer, absence);
            }
        }
    }

    /// `peer` may have something to send: it gets its turn on the link over which it is reached.
    pub(super) fn enqueue(&self, peer: &Arc<Peer>) {
        if peer.queued.swap(true, Relaxed) {
            return;
        }
        self.mark_ready(peer, None);
        // Links end and come up on other threads: each repetition is a link that did so meanwhile.
        loop {
            let relay = self.seek_way(peer);
            peer.set_via(relay);
            if let Some(link) = relay.and_then(|relay| self.links().link(relay)) {
                if link.push(peer.clone()) {
                    return;
                }
                continue;
            }
            self.stranded.lock().push(peer.clone());
            // A link that came up just before did not see it there.
            if self.seek_way(peer).is_none() || !self.unstrand(peer) {
                return;
            }
        }
    }

    /// Takes `peer` from those without a link. Returns false if it was not among them.
    fn unstrand(&self, peer: &Arc<Peer>) -> bool {
        let mut stranded = self.stranded.lock();
        let before = stranded.len();
        stranded.retain(|other| !Arc::ptr_eq(other, peer));
        stranded.len() < before
    }

    /// Marks that `peer` waits for its turn from here on; `at` = now, if the caller knows it.
    pub(super) fn mark_ready(&self, peer: &Peer, at: Option<Instant>) {
        let Some(clock) = self.clock.get() else {
            return;
        };
        let at = at.unwrap_or_else(|| (clock.read)());
        let since = at.saturating_duration_since(clock.epoch).as_nanos();
        // 0 means that it does not wait.
        let mark = u64::try_from(since).map_or(u64::MAX, |since| since.saturating_add(1));
        peer.ready_at.store(mark, Relaxed);
    }

    /// Returns the time that `peer` waited for the turn that begins at `now`.
    pub(super) fn take_wait(&self, peer: &Peer, now: Instant) -> Option<Duration> {
        let clock = self.clock.get()?;
        let since = peer.ready_at.swap(0, Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(clock.epoch + Duration::from_nanos(since)))
    }

    /// Returns the relay whose link takes frames for `peer`. If there is none, asks for the links
    /// that would help.
    pub(super) fn seek_way(&self, peer: &Peer) -> Option<RelayId> {
        let mut links = self.links();
        match peer.choose(|relay| links.state_for(relay, peer.vni)) {
            Choice::Send(relay) => return Some(relay),
            Choice::Connect(relay) => links.want(relay),
            Choice::Nowhere => peer.with_relays(|relay| links.want(relay)),
            // The peer's own timer looks again.
            Choice::Wait => {}
        }
        drop(links);
        (self.wake)();
        None
    }

    /// The links, or a peer's way, changed: peers that wait for a link are tried again, and packets
    /// that a dead link lost are sent again where there is a way.
    pub(super) fn reroute(&self, now: Instant) {
        let stranded = std::mem::take(&mut *self.stranded.lock());
        for peer in stranded {
            peer.queued.store(false, Relaxed);
            self.enqueue(&peer);
        }
        for membership in self.memberships().values() {
            membership.restore_paths(self, now);
        }
    }

    /// Peers that wait at the link to `relay` may be reached over another one.
    pub(super) fn look_through(&self, relay: RelayId) {
        let link = self.links().link(relay);
        if let Some(link) = link {
            link.look_through();
        }
    }

    /// Tells peers over which relay they reach this device, if the link that was their way broke. A
    /// device that is back at its home says nothing: the way by the backup works, and peers give it
    /// up by themselves.
    pub(super) fn announce_moved(&self, now: Instant) {
        let moved = {
            let links = self.links();
            let mut places = self.places.lock();
            let mut moved = links.places();
            moved.retain(|network, place| {
                let was = places.insert(*network, *place);
                was.is_some_and(|was| {
                    was != *place && links.state_for(was, *network) != LinkState::Up
                })
            });
            moved
        };
        for membership in self.memberships().values() {
            if let Some(place) = moved.get(&membership.vni()) {
                for peer in membership.peers_snapshot().values() {
                    peer.say_moved(self, now, *place);
                }
            }
        }
    }

    /// The way to one peer changed.
    pub(super) fn reroute_peer(&self, peer: &Arc<Peer>) {
        if self.unstrand(peer) {
            peer.queued.store(false, Relaxed);
        }
        self.enqueue(peer);
    }

    pub(super) fn arm(&self, at: Instant, key: PeerKey) {
        let is_first = {
            let mut timers = self.timers.lock();
            timers.insert((at, key));
            timers.first().is_some_and(|first| *first == (at, key))
        };
        if is_first {
            (self.wake)();
        }
    }
}

pub(super) fn find_peer(
    memberships: &BTreeMap<NetworkId, Arc<Membership>>,
    key: PeerKey,
) -> Option<Arc<Peer>> {
    memberships.get(&key.network)?.peer(key.host)
}
