//! Decides in which order one receiver gets the frames that wait for it. Holds runs of whole frames; no clock, no socket, no lock.
//!
//! Deficit round robin between the connections that send to it, and run by run between the flows of one connection: a bulk copy
//! costs others one quantum, not its whole window. What comes for a flow that has nothing waiting goes before all backlogs, as long
//! as its source has something left of its turn. Bytes count as held until the socket has taken them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use overlan_protocol::TLS_RECORD_MAX;
use overlan_protocol::frame::BODY_MAX;

use crate::ledger::Destination;
use crate::switch::AttachId;

/// The frames that wait for one receiver. `S` is how a source is told that its bytes are gone.
pub(crate) struct Egress<S> {
    sources: BTreeMap<AttachId, Source<S>>,
    /// All sources, in turn. One without frames is forgotten when its turn comes.
    ring: VecDeque<AttachId>,
    /// Flows that had nothing waiting when something came, in order.
    sparse: VecDeque<(AttachId, u8)>,
    /// Cost of what waits, bytes.
    cost: usize,
    /// Bytes given out and not yet known to be written.
    writing: BTreeMap<(AttachId, Destination), Release<S>>,
}

/// Frames of one flow that came together, stamped and ready to be sent.
#[derive(Debug)]
pub(crate) struct Run {
    /// The flow id that its source gave it.
    pub(crate) flow: u8,
    /// How many frames it holds.
    pub(crate) frames: u32,
    /// The frames.
    pub(crate) bytes: Vec<u8>,
}

/// Bytes of one pair that need not be held any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release<S> {
    /// Who sent them.
    pub(crate) source: S,
    /// To whom, as the source sees it.
    pub(crate) to: Destination,
    /// How many frames.
    pub(crate) frames: u32,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// The shortest wait of those that had others of their flow before them; `None` if none had.
    pub(crate) stood: Option<Duration>,
}

/// A run on its way from an older connection of a receiver to a newer one.
pub(crate) struct Handed<S> {
    id: AttachId,
    source: S,
    waiting: Waiting,
}

/// What became of the bytes of a receiver that is gone. All of them are free.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed<S> {
    /// Written, or on their way when the end came.
    pub(crate) written: Vec<Release<S>>,
    /// Nobody took them.
    pub(crate) discarded: Vec<Release<S>>,
}

/// Too much waits for this receiver already: drop the run and count its frames.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) Run);

impl<S: Clone> Egress<S> {
    pub(crate) fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            ring: VecDeque::new(),
            sparse: VecDeque::new(),
            cost: 0,
            writing: BTreeMap::new(),
        }
    }

    /// Queues a run of a source.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        id: AttachId,
        source: &S,
        to: Destination,
        run: Run,
    ) -> Result<(), Full> {
        let waiting = Waiting {
            to,
            since: now,
            run,
        };
        self.queue(id, source, waiting)
            .map_err(|refused| Full(refused.run))
    }

    /// Everything taken before has been written; these bytes are free.
    #[must_use]
    pub(crate) fn handle_written(&mut self) -> Vec<Release<S>> {
        std::mem::take(&mut self.writing).into_values().collect()
    }

    /// Appends the next runs to `out`, until they hold `budget` bytes or nothing waits. The last one may overshoot. Returns the
    /// longest time that one of them waited.
    pub(crate) fn take(&mut self, now: Instant, budget: usize, out: &mut Vec<Run>) -> Duration {
        let mut taken = 0;
        let mut longest = Duration::ZERO;
        while taken < budget {
            let Some((id, waiting, was_sparse)) = self.next() else {
                break;
            };
            taken += waiting.run.bytes.len();
            self.cost -= waiting.cost();
            let waited = now.saturating_duration_since(waiting.since);
            longest = longest.max(waited);
            let stood = (!was_sparse).then_some(waited);
            if let Some(source) = self.sources.get(&id) {
                note_release(&mut self.writing, id, &source.handle, &waiting, stood);
            }
            out.push(waiting.run);
        }
        longest
    }

    /// Gives up what waits for destinations that `keep` names, in the order of each flow.
    #[must_use]
    pub(crate) fn hand_over(&mut self, keep: impl Fn(Destination) -> bool) -> Vec<Handed<S>> {
        let mut handed = Vec::new();
        for (id, source) in &mut self.sources {
            for flow in &mut source.flows {
                let (kept, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut flow.runs)
                    .into_iter()
                    .partition(|waiting| keep(waiting.to));
                flow.runs = left;
                handed.extend(kept.into_iter().map(|waiting| Handed {
                    id: *id,
                    source: source.handle.clone(),
                    waiting,
                }));
            }
            source.flows.retain(|flow| !flow.runs.is_empty());
        }
        self.cost -= handed.iter().map(|it| it.waiting.cost()).sum::<usize>();
        handed
    }

    /// Queues what an older connection gave up. Returns what does not fit.
    #[must_use]
    pub(crate) fn take_over(&mut self, handed: Vec<Handed<S>>) -> Vec<Release<S>> {
        let mut refused = Vec::new();
        for Handed {
            id,
            source,
            waiting,
        } in handed
        {
            if let Err(waiting) = self.queue(id, &source, waiting) {
                refused.push(Release {
                    source,
                    to: waiting.to,
                    frames: waiting.run.frames,
                    bytes: waiting.run.bytes.len(),
                    stood: None,
                });
            }
        }
        refused
    }

    /// The receiver is gone: nothing is held for it any longer.
    #[must_use]
    pub(crate) fn close(&mut self) -> Closed<S> {
        let written = self.handle_written();
        let mut discarded = BTreeMap::new();
        for (id, source) in std::mem::take(&mut self.sources) {
            for waiting in source.flows.iter().flat_map(|flow| &flow.runs) {
                note_release(&mut discarded, id, &source.handle, waiting, None);
            }
        }
        self.ring.clear();
        self.sparse.clear();
        self.cost = 0;
        Closed {
            written,
            discarded: discarded.into_values().collect(),
        }
    }

    /// What the waiting frames cost, bytes.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    fn queue(&mut self, id: AttachId, source: &S, waiting: Waiting) -> Result<(), Waiting> {
        let cost = waiting.cost();
        if self.cost + cost > EGRESS_MAX {
            return Err(waiting);
        }
        self.cost += cost;
        let ring = &mut self.ring;
        let source = self.sources.entry(id).or_insert_with(|| {
            ring.push_back(id);
            Source {
                handle: source.clone(),
                deficit: QUANTUM,
                flows: VecDeque::new(),
            }
        });
        let flow = waiting.run.flow;
        match source.flows.iter_mut().find(|known| known.id == flow) {
            Some(known) => known.runs.push_back(waiting),
            None => {
                source.flows.push_back(Flow {
                    id: flow,
                    runs: VecDeque::from([waiting]),
                });
                if source.deficit > 0 {
                    self.sparse.push_back((id, flow));
                }
            }
        }
        Ok(())
    }

    /// The run whose turn it is, and whether it went before the backlogs.
    fn next(&mut self) -> Option<(AttachId, Waiting, bool)> {
        while let Some((id, flow)) = self.sparse.pop_front() {
            // Its turn among the backlogs may have come first.
            if let Some(source) = self.sources.get_mut(&id)
                && source.deficit > 0
                && let Some(at) = source.flows.iter().position(|known| known.id == flow)
                && let Some(waiting) = source.take_from(at)
            {
                return Some((id, waiting, true));
            }
        }
        loop {
            let &id = self.ring.front()?;
            let Some(source) = self.sources.get_mut(&id) else {
                self.ring.pop_front();
                continue;
            };
            if source.flows.is_empty() {
                self.sources.remove(&id);
                self.ring.pop_front();
            } else if source.deficit <= 0 {
                source.deficit += QUANTUM;
                self.ring.rotate_left(1);
            } else if let Some(waiting) = source.take_from(0) {
                // Its next turn begins here, so that what comes for an idle flow of it need not wait for this.
                if source.deficit <= 0 {
                    source.deficit += QUANTUM;
                    self.ring.rotate_left(1);
                }
                return Some((id, waiting, false));
            }
        }
    }
}

struct Source<S> {
    handle: S,
    /// Bytes it may still give in this turn; below zero what it gave too much.
    deficit: isize,
    /// Flows with frames, in turn; never an empty one.
    flows: VecDeque<Flow>,
}

struct Flow {
    id: u8,
    runs: VecDeque<Waiting>,
}

struct Waiting {
    to: Destination,
    since: Instant,
    run: Run,
}

impl Waiting {
    /// Bytes of memory, so that a flood of tiny frames is counted for what it takes.
    fn cost(&self) -> usize {
        self.run.bytes.capacity() + RUN_OVERHEAD
    }
}

impl<S> Source<S> {
    /// The next run of the flow at `at`, which goes behind the other flows.
    fn take_from(&mut self, at: usize) -> Option<Waiting> {
        let flow = self.flows.get_mut(at)?;
        let waiting = flow.runs.pop_front()?;
        self.deficit -= waiting.run.bytes.len() as isize;
        if flow.runs.is_empty() {
            self.flows.remove(at);
        } else if at == 0 {
            self.flows.rotate_left(1);
        }
        Some(waiting)
    }
}

fn note_release<S: Clone>(
    releases: &mut BTreeMap<(AttachId, Destination), Release<S>>,
    id: AttachId,
    source: &S,
    waiting: &Waiting,
    stood: Option<Duration>,
) {
    let release = releases.entry((id, waiting.to)).or_insert_with(|| Release {
        source: source.clone(),
        to: waiting.to,
        frames: 0,
        bytes: 0,
        stood: None,
    });
    release.frames += waiting.run.frames;
    release.bytes += waiting.run.bytes.len();
    release.stood = match (release.stood, stood) {
        (Some(known), Some(new)) => Some(known.min(new)),
        (known, new) => known.or(new),
    };
}

/// Bytes that one source may give per turn: one full frame.
const QUANTUM: isize = TLS_RECORD_MAX as isize;

/// What a waiting run costs beside its bytes: allocation and bookkeeping.
const RUN_OVERHEAD: usize = 128;

/// Most that may wait for one receiver, bytes: eight pairs with the largest window, or 256 with the first one. Credit keeps honest
/// sources far below; beyond it frames are dropped.
pub(crate) const EGRESS_MAX: usize = 128 * 1024 * 1024;

const _: () = assert!(EGRESS_MAX > 16 * BODY_MAX);

#[cfg(test)]
mod tests;
