//! Decides how much all clients together may hold on one relay: bytes that wait, and what windows have grown by. Holds two sums.

use std::sync::atomic::{AtomicUsize, Ordering};

use overlan_protocol::credit::{DEFAULT_WINDOW, WINDOW_MAX};

/// The sums of one relay. All methods may be called by several threads at once.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Cost of all frames that wait anywhere on the relay, bytes.
    queued: AtomicUsize,
    /// By how much all windows together are larger than at first, bytes.
    grown: AtomicUsize,
}

impl Memory {
    /// Nothing more may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.queued() > QUEUED_MAX
    }

    /// Frames that cost `before` wait no longer, those that cost `after` do.
    pub(crate) fn handle_queued(&self, before: usize, after: usize) {
        // Added before taken away, so that the sum never goes below zero.
        self.queued.fetch_add(after, Ordering::Relaxed);
        self.queued.fetch_sub(before, Ordering::Relaxed);
    }

    /// The largest window that the relay can afford: that of the greedy ones shrinks when more than half of the memory is used.
    pub(crate) fn ceiling(&self) -> u32 {
        let queued = self.queued();
        if queued <= QUEUED_MAX / 2 {
            return WINDOW_MAX;
        }
        // From half of the largest down to nothing; the state machine keeps its floor.
        (QUEUED_MAX.saturating_sub(queued) / 32) as u32
    }

    /// Takes up to `wanted` bytes from what windows may grow by, and says how many.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        let mut granted = 0;
        let taken = self
            .grown
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| {
                granted = wanted.min(GROWN_MAX.saturating_sub(grown));
                Some(grown + granted)
            });
        taken.map_or(0, |_| granted)
    }

    /// Gives back what was reserved.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.grown.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Cost of all frames that wait, bytes.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// By how much all windows have grown, bytes.
    pub(crate) fn grown(&self) -> usize {
        self.grown.load(Ordering::Relaxed)
    }
}

/// Most that may wait on the whole relay, bytes.
pub(crate) const QUEUED_MAX: usize = 512 * 1024 * 1024;

/// Most that all windows may have grown by, bytes. The other half holds the first windows of 512 pairs, should all of their receivers
/// stall at once.
pub(crate) const GROWN_MAX: usize = QUEUED_MAX / 2;

const _: () = assert!(GROWN_MAX + 512 * DEFAULT_WINDOW as usize <= QUEUED_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_when_half_is_used_and_growth_is_never_granted_beyond_its_limit() {
        let memory = Memory::default();
        assert_eq!(memory.ceiling(), WINDOW_MAX);
        memory.handle_queued(0, QUEUED_MAX / 2);
        assert_eq!(memory.ceiling(), WINDOW_MAX);
        memory.handle_queued(0, 32);
        assert!(memory.ceiling() <= WINDOW_MAX / 2);
        memory.handle_queued(32, QUEUED_MAX / 2 + 1);
        assert!(memory.is_full());
        assert_eq!(memory.ceiling(), 0);
        assert_eq!(memory.reserve(GROWN_MAX - 10), GROWN_MAX - 10);
        assert_eq!(memory.reserve(11), 10);
        assert_eq!(memory.reserve(1), 0);
        memory.give_back(GROWN_MAX);
        assert_eq!(memory.grown(), 0);
    }
}
