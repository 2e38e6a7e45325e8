//! Memory for the rings of flows: decides how big a ring may be and how much of all of them may be
//! in memory; holds no flow.
//!
//! It is the only place of the workspace with unsafe code, which stands in `block` (pointers),
//! `pages` (mappings) and `ring` (slices); here and in `free` is bookkeeping. A vector cannot do
//! this job: one of 64 KiB is resident as a whole (97 KiB for an idle socket instead of 9), a
//! bigger one is cleared by hand once the allocator recycles it (112 µs for 1 MiB), and none can
//! give back the pages of a ring that is idle while the connection lives on.
//!
//! No byte of one connection is ever shown to another: a ring that is lent reads as zeros, because
//! the pages are new, were given back to the kernel, or were cleared as far as the ring was used.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use self::free::FreeBlocks;

use self::ring::Ring;

pub(crate) use self::ring::{RingPair, SocketsOnRings};

mod block;
mod free;
mod pages;
mod ring;

/// The memory of all rings of all stacks that share it. Clones are the same memory, so stacks made
/// from clones of one [`Config`](crate::Config) share one budget. Address space is taken as it is
/// needed and pages as they are used.
#[derive(Clone)]
pub struct RingArena(Arc<Arena>);

/// The memory that a [`RingArena`] holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingUsage {
    /// Memory that rings in use have touched since they were lent or last given back, and the hot
    /// reserve.
    pub committed: usize,
    /// Sizes of all rings in use: what they would commit if all of them were full.
    pub lent: usize,
    /// Touched pages kept for the next short connections.
    pub hot: usize,
}

impl RingArena {
    /// `budget` is the number of committed bytes from which no ring is lent any more. Above half of
    /// it new rings have at most 1 MiB, above four fifths at most 256 KiB, above 95 % there are
    /// none.
    #[must_use]
    pub fn new(budget: usize) -> RingArena {
        RingArena(Arc::new(Arena::new(budget, None)))
    }

    /// The same for a process whose memory is limited: at most `pairs` flows have rings at once, a
    /// new ring gets a share of what the rings of busy flows leave of `budget`, and from `budget`
    /// on no ring grows. Data that would need more waits at its sender. Only the first bytes of an
    /// empty ring go beyond, up to a quarter of the budget.
    #[must_use]
    pub fn bounded(budget: usize, pairs: usize) -> RingArena {
        RingArena(Arc::new(Arena::new(budget, Some(pairs))))
    }

    /// The memory that is held at the moment.
    #[must_use]
    pub fn usage(&self) -> RingUsage {
        let arena = &*self.0;
        let hot = arena.free.lock().hot_bytes;
        RingUsage {
            committed: arena.committed.load(Relaxed) + hot,
            lent: arena.lent.load(Relaxed),
            hot,
        }
    }

    /// A receive and a transmit ring of at most these sizes, which are ring sizes; smaller ones
    /// when much of the budget is used, and `None` when nearly all of it is.
    pub(crate) fn lend(&self, rx: usize, tx: usize) -> Option<RingPair> {
        let most = self.largest()?.min(self.0.share_of_rest());
        if !self.0.reserve_pair() {
            return None;
        }
        let (rx, tx) = {
            let mut free = self.0.free.lock();
            (free.lend(rx.min(most)), free.lend(tx.min(most)))
        };
        self.0.lent.fetch_add(rx.len + tx.len, Relaxed);
        Some(RingPair {
            rx: Ring::new(self.0.clone(), rx),
            tx: Ring::new(self.0.clone(), tx),
        })
    }

    /// Pairs of rings in use, but for those whose pages were given back and not touched since.
    pub(crate) fn awake(&self) -> usize {
        self.0.awake.load(Relaxed).div_ceil(2)
    }

    fn largest(&self) -> Option<usize> {
        let arena = &*self.0;
        let per_mille = arena.committed.load(Relaxed).saturating_mul(1_000) / arena.budget.max(1);
        match per_mille {
            0..=500 => Some(usize::MAX),
            501..=800 => Some(RING_UNIT * 16),
            801..=950 => Some(RING_UNIT * 4),
            _ => None,
        }
    }
}

impl Default for RingArena {
    fn default() -> RingArena {
        RingArena::new(DEFAULT_BUDGET)
    }
}

impl fmt::Debug for RingArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingArena")
            .field("budget", &self.0.budget)
            .field("usage", &self.usage())
            .finish()
    }
}

/// A thousand busy flows at the round trips of one site, or 64 over the longest paths.
const DEFAULT_BUDGET: usize = 512 << 20;

/// The counters of one arena, and the blocks that no ring uses.
struct Arena {
    budget: usize,
    /// Bytes that rings in use have touched.
    committed: AtomicUsize,
    lent: AtomicUsize,
    /// Rings in use that are not asleep, and their sizes.
    awake: AtomicUsize,
    awake_len: AtomicUsize,
    /// Rings in use.
    rings: AtomicUsize,
    /// Pairs of rings that may be in use, where the budget is a bound.
    pairs_max: Option<usize>,
    free: Mutex<FreeBlocks>,
}

impl Arena {
    fn new(budget: usize, pairs_max: Option<usize>) -> Arena {
        Arena {
            budget,
            committed: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            awake: AtomicUsize::new(0),
            awake_len: AtomicUsize::new(0),
            rings: AtomicUsize::new(0),
            pairs_max,
            free: Mutex::default(),
        }
    }

    fn awaken(&self, len: usize) {
        self.awake.fetch_add(1, Relaxed);
        self.awake_len.fetch_add(len, Relaxed);
    }

    fn put_to_sleep(&self, len: usize) {
        self.awake.fetch_sub(1, Relaxed);
        self.awake_len.fetch_sub(len, Relaxed);
    }

    /// Counts two more rings, unless there are enough.
    fn reserve_pair(&self) -> bool {
        let most = self.pairs_max.map_or(usize::MAX, |pairs| 2 * pairs);
        self.rings
            .fetch_update(Relaxed, Relaxed, |rings| {
                (rings + 2 <= most).then_some(rings + 2)
            })
            .is_ok()
    }

    /// The largest ring that a new flow gets where the budget is a bound: flows at work together
    /// must find room in it when all of their rings are full.
    fn share_of_rest(&self) -> usize {
        if self.pairs_max.is_none() {
            return usize::MAX;
        }
        let rest = self.budget.saturating_sub(self.awake_len.load(Relaxed));
        let units = (rest / RINGS_PER_REST / RING_UNIT).max(1);
        RING_UNIT << units.ilog2()
    }

    /// Returns whether `more` bytes may be committed; `at_least` uses what is kept for rings that
    /// have nothing.
    fn has_room(&self, more: usize, at_least: bool) -> bool {
        let kept = if at_least { self.budget / 4 } else { 0 };
        self.pairs_max.is_none() || self.committed.load(Relaxed) + more <= self.budget + kept
    }
}

/// The unit of ring sizes, in bytes: a window field times a power of two. Then the announced window
/// is exactly the ring and never more than the free part of it. The engine's own window check is
/// only right for such rings.
pub(crate) const RING_UNIT: usize = 65_535;
/// A new ring may take one part in so many of what is left: a hundred flows get rings of 64 KiB to
/// 512 KiB of 32 MiB.
const RINGS_PER_REST: usize = 32;

#[cfg(not(all(test, target_arch = "x86_64")))]
mod watch {
    //! Nobody watches.

    pub(super) fn allow(_: *mut u8, _: usize) {}
    pub(super) fn forbid(_: *mut u8, _: usize) {}
    #[cfg(test)]
    pub(super) fn is_on() -> bool {
        false
    }
}
#[cfg(all(test, target_arch = "x86_64"))]
mod watch;

#[cfg(all(test, target_os = "linux"))]
mod patterns;
#[cfg(test)]
mod tests;
