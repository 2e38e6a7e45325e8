//! Credit: the bytes that one client may have outstanding at a relay for one destination, seen from
//! both sides.
//!
//! `SendCredit` is the client's side, `RelayCredit` the relay's, which also decides the window;
//! they hold counters and neither a clock nor a queue. Both count whole DATA frames in bytes since
//! WELCOME. The relay announces a running total, so merged announcements cannot make the two drift
//! apart.

mod window;

use std::time::{Duration, Instant};

pub use self::window::TARGET;

use self::window::Window;

/// A client's side: one destination on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendCredit {
    window: u32,
    sent: u64,
    released: u64,
}

/// An announcement that cannot be true: more released than sent, or less than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay released bytes that were not sent")]
pub struct FalseCredit;

impl SendCredit {
    /// Starts with the window of the WELCOME frame, bytes.
    pub fn new(window: u32) -> Self {
        Self {
            window,
            sent: 0,
            released: 0,
        }
    }

    /// Returns whether another frame may start. The last frame may overshoot the window by its own
    /// length, so a frame larger than what is left does not wait without end.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.outstanding() < u64::from(self.window)
    }

    /// Bytes sent and not yet released.
    pub fn outstanding(&self) -> u64 {
        self.sent - self.released
    }

    /// Counts a DATA frame of `bytes`.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Takes an announcement of the relay.
    pub fn handle_credit(&mut self, released: u64, window: u32) -> Result<(), FalseCredit> {
        if released > self.sent || released < self.released {
            return Err(FalseCredit);
        }
        self.released = released;
        self.window = window;
        Ok(())
    }
}

/// A relay's side: one source on one connection, one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCredit {
    window: Window,
    received: u64,
    released: u64,
    /// The last announcement to the source: released bytes and window.
    announced: (u64, u32),
    /// The highest sum that the source was ever allowed. A window that shrinks does not lower it,
    /// because the source may have sent before it heard.
    limit: u64,
    /// The time at which bytes were last released.
    active: Option<Instant>,
}

/// A message to the source about its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// Bytes released since WELCOME.
    pub released: u64,
    /// Bytes that may be outstanding.
    pub window: u32,
}

impl RelayCredit {
    /// Starts with the window that WELCOME promised, bytes.
    pub fn new(window: u32) -> Self {
        Self {
            window: Window::new(window),
            received: 0,
            released: 0,
            announced: (0, window),
            limit: u64::from(window),
            active: None,
        }
    }

    /// Bytes within which the source may start frames; the last one may go beyond. With 0 it
    /// ignores its credit, and its frames must be dropped and counted.
    ///
    /// The source judges by what was announced to it, which may be less than what was released;
    /// judging it by the same number means that an honest source is never refused.
    pub fn allowance(&self) -> u64 {
        self.limit.saturating_sub(self.received)
    }

    /// Counts `bytes` of DATA frames that began within the allowance.
    pub fn handle_received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Counts `bytes` of admitted frames as gone, written to the destination or discarded. `stood`
    /// is the shortest time that one of them waited for others of its flow, `ceiling` the largest
    /// window that the relay can afford at the moment. Returns an announcement when enough has come
    /// together.
    #[must_use]
    pub fn handle_released(
        &mut self,
        now: Instant,
        bytes: usize,
        stood: Option<Duration>,
        ceiling: u32,
    ) -> Option<Announcement> {
        self.active = Some(now);
        self.released += bytes as u64;
        debug_assert!(
            self.released <= self.received,
            "only admitted frames are released"
        );
        self.window
            .handle_released(now, self.released, self.limit, stood, ceiling);
        let size = self.window.size();
        let part = self.window.part();
        let announced = self.announced.0 + u64::from(self.announced.1);
        let edge = self.released + u64::from(size);
        // A larger window is announced at once: the next round measures what it brings.
        let grew = size > self.announced.1 && edge > announced;
        (grew || edge >= announced + u64::from(part)).then(|| self.announce())
    }

    /// Falls back to the first window when nothing was under way for [`IDLE`]: what was learned
    /// before is out of date. Returns an announcement if the window changed.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Announcement> {
        let idle = self.active.is_some_and(|at| now >= at + IDLE);
        if !idle || self.held() > 0 {
            return None;
        }
        let before = self.window.size();
        self.window.reset();
        (self.window.size() != before).then(|| self.announce())
    }

    /// The window in force, bytes.
    pub fn window(&self) -> u32 {
        self.window.size()
    }

    /// Bytes held at the relay for this pair.
    pub fn held(&self) -> u64 {
        self.received - self.released
    }

    fn announce(&mut self) -> Announcement {
        let window = self.window.size();
        self.announced = (self.released, window);
        self.limit = self.limit.max(self.released + u64::from(window));
        Announcement {
            released: self.released,
            window,
        }
    }
}

/// A pair that is idle for this long starts again with the first window.
pub const IDLE: Duration = Duration::from_secs(1);

/// Largest window of a pair, bytes: 1.3 Gbit/s at 100 ms.
pub const WINDOW_MAX: u32 = 16 * 1024 * 1024;

/// Bytes a client may have outstanding per destination unless the relay says otherwise: 32 frames
/// of one MTU, enough for 1 Gbit/s at 4 ms, and small enough for a CPU's cache.
pub const DEFAULT_WINDOW: u32 = 512 * 1024;

#[cfg(test)]
mod tests;
