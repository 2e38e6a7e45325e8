//! Decides when the other end of a socket that takes nothing is gone. Holds two times; no socket
//! and no clock.
//!
//! ```text
//! taken ──the socket takes nothing──> stalled ──it takes something──> taken
//!                                     stalled ──nothing heard for 4 s, or 10 s stalled──> over
//! ```
//! Silence is judged by what is heard: a question could not be written either, and its answer would
//! prove no more than anything else that arrives. An end that is heard but takes nothing may be
//! slow, and gets longer.

use std::time::{Duration, Instant};

/// One connection's stall, from both of its directions.
#[derive(Debug)]
pub(super) struct Stall {
    /// The time at which something last arrived; the start counts.
    heard: Instant,
    /// The time since which bytes wait and the socket takes nothing.
    since: Option<Instant>,
}

/// The reason why the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The other side is not heard either.
    Silent,
    /// The other side is heard, but takes nothing.
    Stalled,
}

impl Stall {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            since: None,
        }
    }

    /// Something arrived.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Returns whether nothing arrived for so long that the buffer for it is better given back.
    pub(super) fn rests(&self, now: Instant) -> bool {
        now >= self.heard + REST
    }

    /// The socket took something. Returns whether it took nothing before.
    pub(super) fn handle_taken(&mut self) -> bool {
        self.since.take().is_some()
    }

    /// Bytes wait, and the socket takes nothing.
    pub(super) fn handle_refused(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Returns whether the connection is over.
    pub(super) fn handle_timeout(&self, now: Instant) -> Option<Over> {
        let since = self.since?;
        if now >= since.max(self.heard) + SILENCE {
            Some(Over::Silent)
        } else if now >= since + WRITE_STALL {
            Some(Over::Stalled)
        } else {
            None
        }
    }

    /// Returns the time at which [`Stall::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let since = self.since?;
        Some((since.max(self.heard) + SILENCE).min(since + WRITE_STALL))
    }

    /// Returns whether last words would be in vain: the other side is silent, and does not take
    /// even the bytes before them.
    pub(super) fn hears_no_more(&self, now: Instant) -> bool {
        self.since.is_some() && now >= self.heard + SILENCE
    }
}

/// The other end of a socket that takes nothing is gone if nothing is heard from it for this long
/// either: as quick as a client that sends finds a silent relay.
pub const SILENCE: Duration = Duration::from_secs(4);

/// A connection on which nothing arrives for this long rests; shorter than any keepalive, whose
/// timer then finds it.
const REST: Duration = Duration::from_secs(5);

/// The other end of a socket that takes nothing for this long is gone, whatever is heard.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time at which it is over, in ms after the start, given what happens at which ms.
    fn over(heard: &[u64], refused: &[u64], taken: &[u64]) -> Option<(u64, Over)> {
        let start = crate::clock::now();
        let mut stall = Stall::new(start);
        for millis in 0..30_000 {
            let now = start + Duration::from_millis(millis);
            if heard.contains(&millis) {
                stall.handle_heard(now);
            }
            if taken.contains(&millis) {
                stall.handle_taken();
            }
            if refused.contains(&millis) {
                stall.handle_refused(now);
            }
            let due = stall.poll_timeout().is_some_and(|at| now >= at);
            let over = stall.handle_timeout(now);
            assert_eq!(due, over.is_some(), "asked when it is due, at {millis} ms");
            if let Some(over) = over {
                return Some((millis, over));
            }
        }
        None
    }

    #[test]
    fn silence_and_a_full_socket_together_are_found_in_four_seconds() {
        // It stops at 1,000 ms, and the socket is full then, later or long before.
        assert_eq!(over(&[1_000], &[1_000], &[]), Some((5_000, Over::Silent)));
        assert_eq!(over(&[1_000], &[2_500], &[]), Some((6_500, Over::Silent)));
        assert_eq!(
            over(&[900, 1_000], &[200], &[]),
            Some((5_000, Over::Silent))
        );
        // More that cannot be written puts nothing off.
        let refused: Vec<u64> = (1_000..9_000).collect();
        assert_eq!(over(&[1_000], &refused, &[]), Some((5_000, Over::Silent)));
    }

    #[test]
    fn who_is_heard_gets_longer() {
        let heard: Vec<u64> = (0..30_000).step_by(3_900).collect();
        assert_eq!(over(&heard, &[1_000], &[]), Some((11_000, Over::Stalled)));
    }

    #[test]
    fn nothing_is_over_while_the_socket_takes_something_or_nothing_waits() {
        assert_eq!(over(&[], &[], &[]), None);
        assert_eq!(over(&[], &[1_000], &[4_999]), None);
        let steps: Vec<u64> = (1_000..30_000).step_by(3_999).collect();
        assert_eq!(over(&[], &steps, &steps), None);
    }

    #[test]
    fn last_words_wait_for_nobody_who_is_silent() {
        let start = crate::clock::now();
        let mut stall = Stall::new(start);
        assert!(!stall.hears_no_more(start + 2 * SILENCE), "nothing waits");
        stall.handle_refused(start);
        assert!(!stall.hears_no_more(start + SILENCE / 2));
        assert!(stall.hears_no_more(start + SILENCE));
    }
}
