//! Runs of frames while they wait: by source, and by flow within a source. Decides whose run of one
//! source is next; the turns between sources are the parent's.

use std::collections::VecDeque;
use std::time::Instant;

use crate::switch::{AttachId, Place};

/// Frames of one flow that came together, stamped and ready to be sent.
#[derive(Debug)]
pub(crate) struct Run {
    /// The flow id that its source gave it.
    pub(crate) flow: u8,
    /// Number of frames in it.
    pub(crate) frames: u32,
    /// The frames.
    pub(crate) bytes: Vec<u8>,
}

impl Run {
    /// Bytes of memory that it takes while it waits, so that a flood of tiny frames is counted for
    /// what it is.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.capacity() + RUN_OVERHEAD
    }
}

/// The frames of one connection, by flow.
pub(super) struct Source<S> {
    /// Hears that its bytes are free.
    pub(super) handle: S,
    /// Bytes that it may still give in this turn; negative after it gave too many.
    pub(super) deficit: isize,
    /// Cost of its frames, bytes.
    pub(super) cost: usize,
    /// Flows with frames, in turn; never an empty one.
    pub(super) flows: VecDeque<Flow>,
}

/// The frames of one flow, in order.
pub(super) struct Flow {
    pub(super) id: u8,
    pub(super) runs: VecDeque<Waiting>,
}

/// A run in the queue of its receiver.
pub(super) struct Waiting {
    /// The receiver, as the source sees it.
    pub(super) to: Place,
    pub(super) since: Instant,
    pub(super) run: Run,
}

impl<S> Source<S> {
    /// Takes the next run of the flow at `at`, whose next turn comes after the other flows.
    pub(super) fn take_from(
        &mut self,
        at: usize,
        spares: &mut Vec<VecDeque<Waiting>>,
    ) -> Option<Waiting> {
        let flow = self.flows.get_mut(at)?;
        let waiting = flow.runs.pop_front()?;
        self.deficit -= waiting.run.bytes.len() as isize;
        self.cost -= waiting.run.cost();
        if flow.runs.is_empty() {
            if let Some(flow) = self.flows.remove(at) {
                spare(spares, flow.runs);
            }
        } else if at == 0 {
            self.flows.rotate_left(1);
        }
        Some(waiting)
    }
}

/// Keeps an empty queue for its memory, unless that is large or there are enough.
pub(super) fn spare<T>(spares: &mut Vec<VecDeque<T>>, queue: VecDeque<T>) {
    if queue.capacity() <= SPARE_CAPACITY && spares.len() < SPARES_MAX {
        spares.push(queue);
    }
}

/// A run that was taken out of the queue of its receiver, with the source it came from.
pub(crate) struct Handed<S> {
    pub(super) id: AttachId,
    pub(super) source: S,
    pub(super) waiting: Waiting,
}

/// Bytes that a waiting run costs beside its frames: allocation and bookkeeping.
pub(super) const RUN_OVERHEAD: usize = 128;

/// Most queues that are kept of each kind: the flows that take turns within one batch.
const SPARES_MAX: usize = 16;

/// Most entries that a kept queue has room for; more came from a backlog.
const SPARE_CAPACITY: usize = 64;
