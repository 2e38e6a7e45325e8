//! The time that a spliced connection may go without a byte: decides when it has waited for too
//! long. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// The time that a connection may go without a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// While both sides may still send; `None` = without end.
    pub idle: Option<Duration>,
    /// Once one side has closed; `None` = as long as `idle` lets it. A program that has closed its
    /// socket looks like one that has only closed its side, so only time shows that nobody reads
    /// any more.
    pub half_closed: Option<Duration>,
}

impl Default for Patience {
    /// Idle connections stay, half-closed ones for [`HALF_CLOSED`].
    fn default() -> Self {
        Self {
            idle: None,
            half_closed: Some(HALF_CLOSED),
        }
    }
}

/// Longer than the state tables of networks keep a half-closed connection without a byte (Linux,
/// nf_conntrack: 60 and 120 s), and than a request takes that is answered at all; HAProxy's
/// `timeout client-fin` and `server-fin` are set to 30 s as a rule.
pub const HALF_CLOSED: Duration = Duration::from_secs(300);

/// The bytes that a connection has moved, and the moment of the last change.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    moved: u64,
    limit: Option<Duration>,
    since: Instant,
}

impl Watch {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            moved: 0,
            limit: patience.idle,
            since: now,
        }
    }

    /// Returns whether there is any limit.
    pub(super) fn is_needed(&self) -> bool {
        self.patience
            != Patience {
                idle: None,
                half_closed: None,
            }
    }

    /// Notes at `now` how many bytes it has moved, and whether one side has closed.
    pub(super) fn handle(&mut self, now: Instant, moved: u64, is_half_closed: bool) {
        let Patience { idle, half_closed } = self.patience;
        let limit = match is_half_closed {
            true => [idle, half_closed].into_iter().flatten().min(),
            false => idle,
        };
        if (self.moved, self.limit) != (moved, limit) {
            (self.moved, self.limit, self.since) = (moved, limit, now);
        }
    }

    /// Returns the moment at which it has waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.since + self.limit?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_state_has_its_own_time_and_every_byte_begins_it_anew() {
        let begin = Instant::now();
        let at = |seconds: u32| begin + seconds * SECOND;
        let mut watch = Watch::new(
            Patience {
                idle: None,
                half_closed: Some(5 * SECOND),
            },
            begin,
        );
        assert!(watch.is_needed());
        watch.handle(at(1), 10, false);
        assert_eq!(watch.deadline(), None, "an open connection may be silent");
        watch.handle(at(2), 10, true);
        assert_eq!(watch.deadline(), Some(at(7)));
        watch.handle(at(4), 10, true);
        assert_eq!(watch.deadline(), Some(at(7)), "nothing moved");
        watch.handle(at(6), 11, true);
        assert_eq!(watch.deadline(), Some(at(11)), "a long answer goes on");

        let mut watch = Watch::new(
            Patience {
                idle: Some(3 * SECOND),
                half_closed: Some(5 * SECOND),
            },
            begin,
        );
        assert_eq!(watch.deadline(), Some(at(3)));
        watch.handle(at(2), 0, true);
        assert_eq!(
            watch.deadline(),
            Some(at(3)),
            "the shorter one counts for both"
        );
        let never = Patience {
            idle: None,
            half_closed: None,
        };
        assert!(!Watch::new(never, begin).is_needed());
    }
}
