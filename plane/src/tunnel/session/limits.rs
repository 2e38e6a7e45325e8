//! Decides how often a peer may make us work on a handshake, and when its silence is suspicious.
//! Holds no timer: both questions are asked when there is something to do anyway.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Limits how often a handshake message of this peer is worked on, of either kind, over every span
/// of a second.
#[derive(Default)]
pub(super) struct HandshakeLimit {
    /// The times at which the last [`HANDSHAKES_PER_SECOND`] were worked on, oldest first.
    times: VecDeque<Instant>,
}

impl HandshakeLimit {
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        self.times
            .pop_front_if(|time| now >= *time + Duration::from_secs(1));
        if self.times.len() >= HANDSHAKES_PER_SECOND {
            return false;
        }
        self.times.push_back(now);
        true
    }
}

/// A run of sealed messages without any sign of the peer.
#[derive(Clone, Copy)]
pub(super) struct Unanswered {
    first: Instant,
    last: Instant,
}

impl Unanswered {
    /// Notes a sealed message and returns whether the silence has become suspicious. The last
    /// message before a pause rarely needs an answer, so the pause itself does not count.
    pub(super) fn note(run: &mut Option<Self>, now: Instant) -> bool {
        let first = run
            .filter(|run| now < run.last + SUSPECT_AFTER_SILENCE)
            .map_or(now, |run| run.first);
        *run = Some(Self { first, last: now });
        now >= first + SUSPECT_AFTER_SILENCE
    }
}

/// The time at which a message for keys that this side does not have last led to a handshake.
#[derive(Clone, Copy)]
pub(super) struct StrayLimit {
    last: Instant,
}

impl StrayLimit {
    /// Returns whether such a message leads to a handshake. A peer that holds other keys sends one
    /// message after the other, so the pause costs it little; a relay that repeats old messages
    /// gets at most one handshake in every [`STRAY_PAUSE`].
    pub(super) fn heed(limit: &mut Option<Self>, now: Instant) -> bool {
        let due = limit.is_none_or(|limit| now >= limit.last + STRAY_PAUSE);
        if due {
            *limit = Some(Self { last: now });
        }
        due
    }
}

/// Handshake messages of one peer that are worked on in a second. A peer needs one handshake in two
/// minutes; the rest is room for restarts and lost answers. Each message costs about 0.2 ms.
const HANDSHAKES_PER_SECOND: usize = 10;
/// A peer that answers nothing for this long may have lost its keys: sending then also tries a new
/// handshake.
const SUSPECT_AFTER_SILENCE: Duration = Duration::from_secs(15);
/// The pause between two handshakes for stray messages: longer than two handshakes take over any
/// usable path.
const STRAY_PAUSE: Duration = Duration::from_secs(2);
