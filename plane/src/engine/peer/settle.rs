//! The words of a peer's session: handshakes that it wants to send, timers that it asks for, and
//! events that end connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlan_protocol::key::RelayId;
use parking_lot::MutexGuard;

use super::{Peer, Sealing};
use crate::engine::Engine;
use crate::engine::membership::Membership;
use crate::engine::presence::Absence;
use crate::tunnel::{Event, is_init};

impl Peer {
    /// Moves the session's messages to the outbox, and sets the timers that it asks for.
    pub(super) fn settle(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        sealing: MutexGuard<'_, Sealing>,
    ) {
        let outcome = Self::collect(engine, now, sealing);
        self.act(engine, now, &outcome);
    }

    pub(super) fn settle_locked<'a>(
        self: &'a Arc<Self>,
        engine: &Engine,
        now: Instant,
        sealing: MutexGuard<'_, Sealing>,
    ) -> MutexGuard<'a, Sealing> {
        let outcome = Self::collect(engine, now, sealing);
        for at in outcome.arm.into_iter().chain(outcome.watch) {
            engine.arm(at, self.key);
        }
        self.sealing.lock()
    }

    fn collect(engine: &Engine, now: Instant, mut sealing: MutexGuard<'_, Sealing>) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(message) = sealing.session.poll_message() {
            if is_init(&message) {
                // One copy that waits for a way is enough.
                sealing.outbox.retain(|waiting| !is_init(waiting));
            }
            if sealing.outbox.len() == OUTBOX_MAX {
                sealing.outbox.pop_front();
            }
            sealing.outbox.push_back(message);
            sealing.handshake_until = now + HANDSHAKE_LIVES;
            outcome.has_messages = true;
        }
        while let Some(event) = sealing.session.poll_event() {
            match event {
                Event::Established => outcome.established = std::mem::take(&mut sealing.waiting),
                Event::Lost => {
                    outcome.lost = true;
                    // Nothing waits for the answer any more.
                    sealing.outbox.clear();
                    sealing.handshake = None;
                }
                Event::Restarted => {
                    outcome.absence = Some(sealing.standing.handle_restarted());
                }
                Event::Left => outcome.absence = Some(sealing.standing.handle_left(now)),
                Event::Moved(place) => outcome.moved = Some(RelayId(place)),
            }
        }
        if let Some(due) = sealing.session.poll_timeout()
            && sealing.armed.is_none_or(|armed| due < armed)
        {
            sealing.armed = Some(due);
            outcome.arm = Some(due);
        }
        if std::mem::take(&mut sealing.look)
            && let Some(due) = sealing.standing.poll_timeout(engine.is_current())
            && sealing.watch.is_none_or(|watch| due < watch)
        {
            sealing.watch = Some(due);
            outcome.watch = Some(due);
        }
        outcome
    }

    fn act(self: &Arc<Self>, engine: &Engine, now: Instant, outcome: &Outcome) {
        for at in outcome.arm.into_iter().chain(outcome.watch) {
            engine.arm(at, self.key);
        }
        if (outcome.lost || outcome.absence.is_some())
            && let Some(membership) = engine.memberships().get(&self.key.network)
        {
            if let Some(absence) = outcome.absence {
                membership.end(now, self, absence);
            }
            if outcome.lost {
                self.handle_lost(engine, now, membership);
            }
        }
        if let Some(relay) = outcome.moved {
            self.handle_moved(engine, now, relay);
        }
        if outcome.has_messages || outcome.established {
            engine.enqueue(self);
        }
    }

    /// It answered no handshake for a while. Only connections have more patience.
    fn handle_lost(self: &Arc<Self>, engine: &Engine, now: Instant, membership: &Membership) {
        if membership.has_connections(self) {
            let mut sealing = self.sealing.lock();
            if sealing.waiting {
                sealing.session.handle_want_send(now);
            }
            self.settle(engine, now, sealing);
        } else {
            membership.forget_flows(now, self);
        }
    }
}

/// The things to do after a call of the session, once its lock is free.
#[derive(Default)]
struct Outcome {
    has_messages: bool,
    established: bool,
    lost: bool,
    absence: Option<Absence>,
    moved: Option<RelayId>,
    /// Timers to set; each by itself, since each was recorded as set.
    arm: Option<Instant>,
    watch: Option<Instant>,
}

/// The time for which a handshake message is tried at one relay after the other: as long as the
/// handshake itself.
const HANDSHAKE_LIVES: Duration = Duration::from_secs(30);

/// Handshake messages that may wait for a link; older ones are worth nothing.
const OUTBOX_MAX: usize = 4;
