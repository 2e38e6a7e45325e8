//! The two clocks of a connection, in ticks: real time, and its path's time, which stands still
//! while the path does. Decides how much of real time a path has missed; reads no clock itself.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// One point in time, in ticks (microseconds) on the two clocks a flow knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the stack was made.
    pub(crate) real: i64,
    /// The same without the time this path was stalled.
    pub(crate) path: i64,
}

/// The clock of one path. Readers may see a stall begin or end a moment late; a flow never lets its
/// own clock run backwards because of it.
pub(crate) struct PathClock {
    skipped: AtomicI64,
    stalled_since: AtomicI64,
}

impl PathClock {
    /// A clock that runs and has missed nothing.
    pub(crate) fn new() -> PathClock {
        PathClock {
            skipped: AtomicI64::new(0),
            stalled_since: AtomicI64::new(RUNNING),
        }
    }

    pub(crate) fn moment(&self, real: i64) -> Moment {
        let since = self.stalled_since.load(Relaxed);
        let until = if since == RUNNING {
            real
        } else {
            real.min(since)
        };
        Moment {
            real,
            path: until - self.skipped.load(Relaxed),
        }
    }

    /// The real time at which the clock will show `path` ticks. `None` while it stands still.
    pub(crate) fn real(&self, path: i64) -> Option<i64> {
        self.is_running()
            .then(|| path.saturating_add(self.skipped.load(Relaxed)))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.stalled_since.load(Relaxed) == RUNNING
    }

    /// Stops the clock, unless it stands still already.
    pub(crate) fn stall(&self, real: i64) {
        let _ = self
            .stalled_since
            .compare_exchange(RUNNING, real, Relaxed, Relaxed);
    }

    /// Lets the clock go on. Returns whether it stood still.
    pub(crate) fn resume(&self, real: i64) -> bool {
        let since = self.stalled_since.load(Relaxed);
        if since == RUNNING {
            return false;
        }
        self.skipped.fetch_add((real - since).max(0), Relaxed);
        self.stalled_since.store(RUNNING, Relaxed);
        true
    }
}

/// No tick is this small.
const RUNNING: i64 = i64::MIN;

#[cfg(test)]
mod tests;
