//! One flow as several threads reach it: decides who runs it and what waits meanwhile, and holds
//! how the stack has it; knows no other flow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};

use parking_lot::{Mutex, MutexGuard};

use crate::flow::Flow;
use crate::key::FlowKey;
use crate::path::Path;

/// The path of flows that stand in a table.
pub(crate) type FlowPath = Path<Arc<FlowCell>>;

/// One flow and how to reach it from several threads.
pub(crate) struct FlowCell {
    /// Counts up with every flow of the stack.
    pub(crate) id: u64,
    pub(crate) key: FlowKey,
    pub(crate) hash: u64,
    /// The remote opened it.
    pub(crate) inbound: bool,
    pub(crate) path: Arc<FlowPath>,
    /// Bytes of its receive ring.
    rx_ring: usize,
    seated: Mutex<SeatedFlow>,
    inbox: Mutex<SegmentInbox>,
    /// Packets in the inbox, so that nobody locks an empty one.
    waiting: AtomicUsize,
}

/// A flow, and how the stack has it.
pub(crate) struct SeatedFlow {
    pub(crate) flow: Flow,
    pub(crate) seat: Seat,
}

/// The places of a stack that know of one flow.
pub(crate) struct Seat {
    pub(crate) membership: Membership,
    /// It is in its path's queue, or being served from it.
    pub(crate) queued: bool,
    /// The due time of its entry in the timer table, in ticks of the real clock.
    pub(crate) armed: Option<i64>,
    /// Its path counts it among those with much to send.
    pub(crate) busy: bool,
}

/// A flow's part in the table and in its counters, in the order in which it goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It counts as half-open.
    HalfOpen,
    Counted,
    /// It was taken out.
    Removed,
}

impl FlowCell {
    pub(crate) fn new(
        id: u64,
        key: FlowKey,
        hash: u64,
        inbound: bool,
        path: Arc<FlowPath>,
        flow: Flow,
    ) -> FlowCell {
        let membership = if inbound {
            Membership::HalfOpen
        } else {
            Membership::Counted
        };
        FlowCell {
            id,
            key,
            hash,
            inbound,
            path,
            rx_ring: flow.rx_ring(),
            seated: Mutex::new(SeatedFlow {
                flow,
                seat: Seat {
                    membership,
                    queued: false,
                    armed: None,
                    busy: false,
                },
            }),
            inbox: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SeatedFlow> {
        self.seated.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, SeatedFlow>> {
        self.seated.try_lock()
    }

    /// Keeps a packet for the thread that has the flow locked, up to its receive ring and `slack`
    /// bytes. Returns whether there was room.
    pub(crate) fn push_inbox(&self, packet: &[u8], slack: usize) -> bool {
        let limit = self.rx_ring + slack;
        let mut inbox = self.inbox.lock();
        let fits = inbox.packets.len() < MAX_INBOX_PACKETS && inbox.bytes + packet.len() <= limit;
        if fits {
            inbox.bytes += packet.len();
            inbox.packets.push_back(packet.to_vec());
            self.waiting.store(inbox.packets.len(), Relaxed);
        }
        fits
    }

    /// Takes what waits, for the holder of the flow. May miss a packet that comes right now:
    /// `has_inbox` will find it.
    pub(crate) fn take_inbox(&self) -> VecDeque<Vec<u8>> {
        if self.waiting.load(Relaxed) == 0 {
            return VecDeque::new();
        }
        let mut inbox = self.inbox.lock();
        inbox.bytes = 0;
        self.waiting.store(0, Relaxed);
        std::mem::take(&mut inbox.packets)
    }

    /// Returns whether packets wait, for a thread that has just put one there or has just unlocked
    /// the flow.
    pub(crate) fn has_inbox(&self) -> bool {
        // One side stores the count and then looks at the flow's lock, the other gives up the lock
        // and then looks at the count. Only with a fence on each side does at least one of them see
        // what the other did.
        fence(SeqCst);
        self.waiting.load(Relaxed) > 0
    }
}

/// Packets of a flow that another thread is running right now.
#[derive(Default)]
struct SegmentInbox {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Packets in one inbox: a window full of small segments. The bytes are limited by the receive
/// ring.
const MAX_INBOX_PACKETS: usize = 4_096;
