//! Decides when a receiver is too slow for what waits for it. Holds one count; no queue and no
//! clock.
//!
//! Judged by the bytes that it takes, not by a rate: a receiver that takes little may have little
//! waiting, and a queue that would need minutes to drain helps no one, since all that it holds is
//! repeated long before.

use std::time::{Duration, Instant};

/// Judges how quickly one receiver takes its frames. Rests while few wait.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    /// Start of the span under way, and what was taken since, bytes.
    span: Option<(Instant, usize)>,
}

impl Slow {
    /// Counts frames that cost `cost` as taken.
    pub(crate) fn handle_taken(&mut self, cost: usize) {
        if let Some((_, taken)) = &mut self.span {
            *taken += cost;
        }
    }

    /// Judges the receiver while frames that cost `waiting` wait. `true` = it is too slow for them.
    /// To be called whenever something happens.
    pub(crate) fn handle_timeout(&mut self, now: Instant, waiting: usize) -> bool {
        if waiting < MUCH {
            self.span = None;
            return false;
        }
        let Some((began, taken)) = self.span else {
            self.span = Some((now, 0));
            return false;
        };
        if now < began + SPAN {
            return false;
        }
        self.span = Some((now, 0));
        taken.saturating_mul(SPANS_TO_DRAIN) < waiting
    }

    /// Returns the time at which [`Slow::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.span.map(|(began, _)| began + SPAN)
    }
}

/// Less than this, bytes, is not worth a look: two first windows.
const MUCH: usize = 1024 * 1024;

/// A slow link takes bytes in bursts; over this time they even out.
const SPAN: Duration = Duration::from_secs(30);

/// Number of spans in which all that waits must drain: five minutes.
const SPANS_TO_DRAIN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The time until a receiver that takes `rate` bytes per second, and for which
    /// `waiting` wait at all times, is too slow.
    fn lasts(waiting: usize, rate: usize) -> Option<Duration> {
        let start = overlan_transport::clock::now();
        let mut slow = Slow::default();
        for second in 0..300 {
            let elapsed = Duration::from_secs(second);
            if slow.handle_timeout(start + elapsed, waiting) {
                return Some(elapsed);
            }
            slow.handle_taken(rate);
        }
        None
    }

    #[test]
    fn what_waits_must_drain_within_minutes() {
        assert_eq!(lasts(100 << 20, 1), Some(SPAN), "one that drips");
        assert_eq!(lasts(100 << 20, 300_000), Some(SPAN));
        assert_eq!(lasts(100 << 20, 400_000), None);
        assert_eq!(lasts(MUCH, 1_000), Some(SPAN));
        assert_eq!(lasts(MUCH, 4_000), None, "a slow radio with two windows");
        assert_eq!(lasts(MUCH - 1, 0), None, "silence is judged elsewhere");
    }

    #[test]
    fn nothing_is_due_while_little_waits() {
        let now = overlan_transport::clock::now();
        let mut slow = Slow::default();
        assert_eq!(slow.poll_timeout(), None);
        assert!(!slow.handle_timeout(now, MUCH));
        assert_eq!(slow.poll_timeout(), Some(now + SPAN));
        assert!(!slow.handle_timeout(now + SPAN, MUCH - 1));
        assert_eq!(slow.poll_timeout(), None);
    }
}
