//! Decides how large the window of one pair is, from how fast its bytes leave the relay and how
//! long they stood there.
//!
//! A round is the time in which all bytes that were allowed at its start leave. While nothing
//! stands in the queue the window grows, doubling at first, to twice what is under way in a round
//! trip; bytes that stand longer than the target are taken out of the window.

use std::time::{Duration, Instant};

/// The window of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    size: u32,
    first: u32,
    /// Growth per round, in 1/256 of the window.
    step: u32,
    /// The quickest round so far: hardly more than the round trip.
    quickest: Duration,
    round: Option<Round>,
    /// A queue was just taken out of the window: this round shows bytes that were sent before.
    settling: bool,
    /// Of the last round, bytes per second.
    rate: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    started: Instant,
    /// Bytes released by then.
    from: u64,
    /// It ends when so many bytes are released.
    until: u64,
    /// The shortest wait for others of the same flow; `None` = no frame had others before it.
    stood: Option<Duration>,
}

impl Window {
    /// Starts with `first` bytes.
    pub(super) fn new(first: u32) -> Self {
        Self {
            size: first,
            first,
            step: STEP_MAX,
            quickest: Duration::MAX,
            round: None,
            settling: false,
            rate: u64::MAX,
        }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Bytes that leave in the time after which a source should hear of them.
    pub(super) fn part(&self) -> u32 {
        let part = self.rate / ANNOUNCEMENTS_PER_SEC;
        let part = part.clamp(FRAME, u64::from(ANNOUNCE_MAX)) as u32;
        part.min(self.size / ANNOUNCE_FRACTION)
    }

    /// Forgets what it learned.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.first);
    }

    /// Bytes have left: `released` in sum, with `limit` as the sum that the source may reach so
    /// far. `ceiling` bounds the window.
    pub(super) fn handle_released(
        &mut self,
        now: Instant,
        released: u64,
        limit: u64,
        stood: Option<Duration>,
        ceiling: u32,
    ) {
        let ended = match &mut self.round {
            Some(round) => {
                round.stood = match (round.stood, stood) {
                    (Some(known), Some(new)) => Some(known.min(new)),
                    (known, new) => known.or(new),
                };
                let time = now.saturating_duration_since(round.started);
                let ended = (released >= round.until && time >= ROUND_MIN) || time >= ROUND_MAX;
                ended.then(|| (released - round.from, time, round.stood))
            }
            None => None,
        };
        if let Some((bytes, time, stood)) = ended {
            self.end_round(bytes, time, stood.unwrap_or(Duration::ZERO));
        }
        self.size = self.size.min(ceiling).max(self.floor());
        if ended.is_some() || self.round.is_none() {
            self.round = Some(Round {
                started: now,
                from: released,
                until: limit.max(released + u64::from(self.size)),
                stood: None,
            });
        }
    }

    fn floor(&self) -> u32 {
        FLOOR.min(self.first)
    }

    fn end_round(&mut self, bytes: u64, time: Duration, stood: Duration) {
        let micros = time.as_micros() as u64;
        let rate = bytes * 1_000_000 / micros.max(1);
        // On a slow link every frame waits for the one that is under way, and for the one before it
        // that came in the same burst.
        let frame = Duration::from_micros(FRAME * 1_000_000 / rate.max(1));
        // On a short path a larger window brings nothing but a queue, and bytes that have left the
        // CPU's cache.
        let limit = if self.size > self.first {
            (time / 4).clamp(TARGET / 5, TARGET)
        } else {
            TARGET
        };
        let target = limit.max(2 * frame);
        self.rate = rate;
        self.quickest = self.quickest.min(time);
        if std::mem::take(&mut self.settling) {
            return;
        }
        if stood > target {
            self.settling = true;
            let excess = (stood - target * 3 / 4).min(time / 2);
            let cut = u64::from(self.size) * excess.as_micros() as u64 / micros.max(1);
            self.size = (self.size - cut as u32).max(self.floor());
            self.step = STEP_MIN;
        } else if self.size < self.first && stood <= target / 2 {
            // It was cut for a queue that is gone: a machine that stopped for a moment looks like a
            // slow link.
            self.size = self.size.saturating_mul(2).min(self.first);
        } else if stood <= target / 2 && stood <= time / 8 && time >= ROUND_SHORT {
            let grown = u64::from(self.size) * u64::from(256 + self.step) / 256;
            // Twice what is under way in one round trip leaves room to find out whether there is
            // more; a source that is slow for reasons of its own gets no more than that.
            let useful = rate * 2 / 1_000_000 * self.quickest.as_micros() as u64;
            let useful = useful
                .max(u64::from(self.first))
                .max(u64::from(self.size / 2));
            self.size = u32::try_from(grown.min(useful)).unwrap_or(u32::MAX);
            self.step = (self.step * 2).min(STEP_MAX);
        } else {
            self.step = STEP_MIN;
        }
    }
}

/// The time for which bytes may stand in the relay's queue: too short for a person to notice, and
/// long enough that the receiver's link is never idle.
pub const TARGET: Duration = Duration::from_millis(5);

/// A round of a source that does not use its window ends here; longer than any round trip on earth.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// Shorter rounds measure the machine and not the path.
const ROUND_MIN: Duration = Duration::from_micros(500);

/// A source hears of released bytes after this part of its window at the latest, so that a full
/// window never waits for credit…
const ANNOUNCE_FRACTION: u32 = 4;

/// …and by this, bytes, because what it may send at once comes as a burst…
const ANNOUNCE_MAX: u32 = 128 * 1024;

/// …and about so often, while that is a full frame or more: announcements stay under 0.2 % of the
/// bytes.
const ANNOUNCEMENTS_PER_SEC: u64 = 500;

/// A window that comes round in less is large enough for any link, and still in the CPU's cache.
const ROUND_SHORT: Duration = Duration::from_millis(1);

/// The largest step: the window doubles.
const STEP_MAX: u32 = 256;

/// The first step after a queue: a sixteenth of the window.
const STEP_MIN: u32 = 16;

/// Smallest window, bytes: two full frames, so that one is under way while the other leaves.
pub(super) const FLOOR: u32 = 2 * FRAME as u32;

const FRAME: u64 = crate::TLS_RECORD_MAX as u64;
