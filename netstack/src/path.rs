//! All that the flows with one remote share: its clock, the sizes of their rings, and their turns
//! to send. Holds no flow's contents.
//!
//! *Clock*: it stands still while the path is stalled, so that nothing is repeated into a line that
//! takes nothing ([`PathClock`]). *Ring sizes*: what the round trip needs to keep a gigabit per
//! second going; over a short path, where the round trip needs next to nothing, what keeps the
//! processes of the way at work, and flows with much to send share that. *Fair turns*: whole
//! packets first, then flows that were idle, then busy ones by bytes ([`TurnQueue`]).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::arena::RING_UNIT;
use crate::clock::PathClock;

pub(crate) use turns::{Pushed, Turn, TurnQueue, TurnSource, Wants};

mod turns;

/// The path to one remote, with flows that are named by `F`.
pub(crate) struct Path<F> {
    pub(crate) remote: IpAddr,
    pub(crate) clock: PathClock,
    /// Flows that the remote has opened.
    pub(crate) inbound: AtomicUsize,
    /// Measured by the owner, in microseconds; `UNKNOWN` before.
    round_trip: AtomicU32,
    /// Flows that have much to send.
    busy: AtomicUsize,
    queue: Mutex<TurnQueue<F>>,
}

impl<F> Path<F> {
    pub(crate) fn new(remote: IpAddr) -> Path<F> {
        Path {
            remote,
            clock: PathClock::new(),
            inbound: AtomicUsize::new(0),
            round_trip: AtomicU32::new(UNKNOWN),
            busy: AtomicUsize::new(0),
            queue: Mutex::new(TurnQueue::new()),
        }
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(UNKNOWN - 1);
        self.round_trip.store(micros.min(UNKNOWN - 1), Relaxed);
    }

    /// The ring that keeps a gigabit per second going over one round trip, in bytes. A smaller one
    /// would cost no less on a short path: below 256 KiB the packets it holds are too few for a
    /// batch. There a flow has room for what keeps every process of the way at work while fewer
    /// than `FEW_FLOWS` are `awake`.
    pub(crate) fn ring(&self, awake: usize) -> usize {
        match self.round_trip.load(Relaxed) {
            0..=SHORT if awake >= FEW_FLOWS => RING_UNIT * 4,
            0..=SHORT => SHARED_WINDOW,
            2_001..=8_000 | UNKNOWN => RING_UNIT * 16,
            8_001..=33_000 => RING_UNIT * 64,
            _ => RING_UNIT * 256,
        }
    }

    /// Bytes that each flow may have under way: over a short path flows share what keeps it busy.
    /// More would only wait in the sockets between here and there, and so would the bytes that a
    /// person waits for.
    pub(crate) fn share(&self) -> usize {
        if self.round_trip.load(Relaxed) > SHORT {
            return usize::MAX;
        }
        let busy = self.busy.load(Relaxed).max(1);
        (SHARED_WINDOW / busy).max(RING_UNIT * 4)
    }

    /// A flow with this remote has much to send from now on, or no longer.
    pub(crate) fn set_busy(&self, busy: bool) {
        if busy {
            self.busy.fetch_add(1, Relaxed);
        } else {
            self.busy.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, TurnQueue<F>> {
        self.queue.lock()
    }

    /// Returns whether nothing is lost if this path is forgotten. Only true for one that no flow
    /// holds.
    pub(crate) fn is_idle(&self) -> bool {
        self.clock.is_running() && self.queue().is_empty()
    }
}

/// A round trip in microseconds within one machine or rack, where distance is no reason for a big
/// window.
const SHORT: u32 = 2_000;

/// Bytes under way that keep sender, relay and receiver at work at once where the path itself holds
/// none: with 256 KiB one stream took a third more processor time, because each had to wait for the
/// others.
const SHARED_WINDOW: usize = RING_UNIT * 16;

/// Flows with memory in their rings beside which another still gets rings for `SHARED_WINDOW` over
/// a short path.
const FEW_FLOWS: usize = 4;

/// Longer than any round trip.
const UNKNOWN: u32 = u32::MAX;
