//! Credit: how many bytes one client may have outstanding at a relay for one destination, seen from both sides.
//!
//! `SendCredit` is the client's side, `RelayCredit` the relay's; each holds three counters and neither a clock nor a queue.
//! Both count whole DATA frames in bytes since WELCOME. The relay announces a running total, so a lost thought or a merged
//! announcement cannot make the two drift apart.

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

    /// Whether another frame may start. The last frame may overshoot the window by its own length, so a frame larger than
    /// what is left never waits for ever.
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
    window: u32,
    received: u64,
    released: u64,
    announced: u64,
}

impl RelayCredit {
    /// Starts with the window that WELCOME promised, bytes.
    pub fn new(window: u32) -> Self {
        Self {
            window,
            received: 0,
            released: 0,
            announced: 0,
        }
    }

    /// Bytes within which the source may start frames; the last one may go beyond. With 0 it ignores its credit, and its frames
    /// must be dropped and counted.
    ///
    /// The source judges by what was announced to it, which may lag behind what was released; judging it by the same number
    /// means that an honest source is never refused.
    pub fn allowance(&self) -> u64 {
        u64::from(self.window).saturating_sub(self.received - self.announced)
    }

    /// Counts `bytes` of DATA frames that began within the allowance.
    pub fn handle_received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Counts `bytes` of admitted frames as gone, written to the destination or discarded. Returns the total to announce
    /// when enough has come together.
    #[must_use]
    pub fn handle_released(&mut self, bytes: usize) -> Option<u64> {
        self.released += bytes as u64;
        debug_assert!(
            self.released <= self.received,
            "only admitted frames are released"
        );
        if self.released - self.announced < u64::from(self.window / ANNOUNCE_FRACTION) {
            return None;
        }
        self.announced = self.released;
        Some(self.released)
    }

    /// The window in force, bytes.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Bytes held at the relay for this pair.
    pub fn held(&self) -> u64 {
        self.received - self.released
    }
}

/// A relay announces after this part of the window was released: often enough that a full window never waits for it (three
/// quarters are still usable), rarely enough that announcements stay under 0.1 % of the bytes.
const ANNOUNCE_FRACTION: u32 = 4;

/// Bytes a client may have outstanding per destination unless the relay says otherwise: 32 frames of one MTU, enough for
/// 1 Gbit/s at 4 ms, and small enough for a CPU's cache.
pub const DEFAULT_WINDOW: u32 = 512 * 1024;

#[cfg(test)]
mod tests;
