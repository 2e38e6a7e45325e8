//! The way to a peer: the relay over which it is reached, and the relays where it was not found.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use overlan_protocol::key::RelayId;

use super::Peer;
use crate::engine::Engine;
use crate::route::{Choice, LinkState, PeerRoute};

/// The route of a peer, and its timer.
pub(super) struct Way {
    pub(super) route: PeerRoute,
    pub(super) via: Option<RelayId>,
    pub(super) armed: Option<Instant>,
}

impl Peer {
    /// The relay over which it is reached, if a frame went to it.
    pub fn via(&self) -> Option<RelayId> {
        self.way.lock().via
    }

    pub(in crate::engine) fn set_via(&self, relay: Option<RelayId>) {
        self.way.lock().via = relay;
    }

    pub(in crate::engine) fn choose(&self, state: impl Fn(RelayId) -> LinkState) -> Choice {
        self.way.lock().route.choose(state)
    }

    pub(in crate::engine) fn with_relays(&self, mut each: impl FnMut(RelayId)) {
        for relay in self.way.lock().route.relays() {
            each(*relay);
        }
    }

    /// `relay` reported that this peer is not attached to it: another way is tried, or the same one
    /// a little later.
    pub(in crate::engine) fn handle_absent(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        relay: RelayId,
    ) {
        let is_news = {
            let mut way = self.way.lock();
            way.via = None;
            let is_news = way.route.handle_absent(now, relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            is_news
        };
        if is_news {
            // A handshake that waited for its own timer would always find this absence forgotten,
            // and would never try the backup.
            let mut sealing = self.sealing.lock();
            if sealing.outbox.is_empty()
                && now < sealing.handshake_until
                && let Some(message) = sealing.handshake.take()
            {
                sealing.outbox.push_back(message);
            }
        }
        self.arm_way(engine);
        if let Some(membership) = engine.memberships().get(&self.key.network) {
            // Packets that were sent to the wrong relay are lost.
            membership.stall(now, self);
            membership.restore_path(engine, now, self);
        }
    }

    /// It was not found at some relay, and has since been heard over `relay`.
    pub(super) fn handle_heard(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let has_changed = {
            let mut way = self.way.lock();
            let has_changed = way.route.handle_heard(relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            has_changed
        };
        if has_changed {
            // The timer of the absence finds nothing to forget any more.
            self.look_again(engine, now);
        }
    }

    /// The belief about this peer's absence changed: there may be a way again.
    pub(super) fn look_again(self: &Arc<Self>, engine: &Engine, now: Instant) {
        engine.reroute_peer(self);
        if self.stalled.load(Relaxed)
            && let Some(membership) = engine.memberships().get(&self.key.network)
        {
            membership.restore_path(engine, now, self);
        }
    }

    /// Tells the peer over which relay this device is reached, if it may have connections with it.
    pub(in crate::engine) fn say_moved(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        relay: RelayId,
    ) {
        let mut sealing = self.sealing.lock();
        if sealing.standing.is_watched() {
            sealing.session.say_moved(now, relay.0);
        }
        self.settle(engine, now, sealing);
    }

    /// It reported that it is reached over `relay`. Packets that went over another one lately are
    /// lost.
    pub(super) fn handle_moved(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let left = {
            let mut way = self.way.lock();
            let is_news = way.via != Some(relay) && way.route.handle_moved(now, relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            if !is_news {
                return;
            }
            way.via.take()
        };
        self.arm_way(engine);
        if let Some(left) = left {
            engine.look_through(left);
        }
        if let Some(membership) = engine.memberships().get(&self.key.network) {
            membership.stall(now, self);
            membership.restore_path(engine, now, self);
        }
    }

    pub(super) fn arm_way(&self, engine: &Engine) {
        let mut way = self.way.lock();
        if let Some(due) = way.route.poll_timeout()
            && way.armed.is_none_or(|armed| due < armed)
        {
            way.armed = Some(due);
            drop(way);
            engine.arm(due, self.key);
        }
    }
}
