//! Decides in which order one receiver gets the frames that wait for it. Holds whole frames; no clock, no socket, no lock.
//!
//! Deficit round robin between the connections that send to it, and frame by frame between the flows of one connection: a
//! bulk copy costs others one quantum, not its whole window. Bytes count as held until the socket has taken them.

use std::collections::{BTreeMap, VecDeque};

use overlan_protocol::TLS_RECORD_MAX;

use crate::ledger::Destination;
use crate::switch::AttachId;

/// The frames that wait for one receiver. `S` is how a source is told that its bytes are gone.
pub(crate) struct Egress<S> {
    sources: BTreeMap<AttachId, Source<S>>,
    /// Sources with frames, in turn.
    ring: VecDeque<AttachId>,
    /// Cost of what waits, bytes.
    cost: usize,
    /// Bytes given out and not yet known to be written.
    writing: BTreeMap<(AttachId, Destination), Release<S>>,
}

/// Bytes of one pair that need not be held any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release<S> {
    /// Who sent them.
    pub(crate) source: S,
    /// To whom, as the source sees it.
    pub(crate) to: Destination,
    /// Bytes of whole frames.
    pub(crate) bytes: usize,
}

/// A frame on its way from an older connection of a receiver to a newer one.
pub(crate) struct Handed<S> {
    id: AttachId,
    source: S,
    flow: u8,
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

/// Too much waits for this receiver already: drop the frame and count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<S: Clone> Egress<S> {
    pub(crate) fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            ring: VecDeque::new(),
            cost: 0,
            writing: BTreeMap::new(),
        }
    }

    /// Queues one whole frame, already stamped, of flow `flow` of a source.
    pub(crate) fn push(
        &mut self,
        id: AttachId,
        source: &S,
        flow: u8,
        to: Destination,
        frame: Vec<u8>,
    ) -> Result<(), Full> {
        let cost = frame_cost(&frame);
        if self.cost + cost > EGRESS_MAX {
            return Err(Full);
        }
        self.cost += cost;
        let ring = &mut self.ring;
        let entry = self.sources.entry(id).or_insert_with(|| {
            ring.push_back(id);
            Source {
                handle: source.clone(),
                deficit: QUANTUM,
                flows: VecDeque::new(),
            }
        });
        let waiting = Waiting { to, frame };
        match entry.flows.iter_mut().find(|(known, _)| *known == flow) {
            Some((_, frames)) => frames.push_back(waiting),
            None => entry.flows.push_back((flow, VecDeque::from([waiting]))),
        }
        Ok(())
    }

    /// Everything taken before has been written; these bytes are free.
    #[must_use]
    pub(crate) fn handle_written(&mut self) -> Vec<Release<S>> {
        std::mem::take(&mut self.writing).into_values().collect()
    }

    /// The next frames, until they hold `budget` bytes or nothing waits. The last frame may overshoot.
    #[must_use]
    pub(crate) fn take(&mut self, budget: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut taken = 0;
        while taken < budget {
            let Some(&id) = self.ring.front() else {
                break;
            };
            let Some(source) = self.sources.get_mut(&id) else {
                self.ring.pop_front();
                continue;
            };
            let Some(waiting) = source.next_affordable() else {
                source.deficit += QUANTUM;
                self.ring.rotate_left(1);
                continue;
            };
            taken += waiting.frame.len();
            self.cost -= frame_cost(&waiting.frame);
            note_release(&mut self.writing, id, &source.handle, &waiting);
            frames.push(waiting.frame);
            if source.flows.is_empty() {
                self.sources.remove(&id);
                self.ring.pop_front();
            }
        }
        frames
    }

    /// Gives up what waits for destinations that `keep` names, in the order of each flow.
    #[must_use]
    pub(crate) fn hand_over(&mut self, keep: impl Fn(Destination) -> bool) -> Vec<Handed<S>> {
        let mut handed = Vec::new();
        for (id, source) in &mut self.sources {
            for (flow, frames) in &mut source.flows {
                let (kept, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(frames)
                    .into_iter()
                    .partition(|waiting| keep(waiting.to));
                *frames = left;
                handed.extend(kept.into_iter().map(|waiting| Handed {
                    id: *id,
                    source: source.handle.clone(),
                    flow: *flow,
                    waiting,
                }));
            }
            source.flows.retain(|(_, frames)| !frames.is_empty());
        }
        self.sources.retain(|_, source| !source.flows.is_empty());
        self.ring.retain(|id| self.sources.contains_key(id));
        self.cost -= handed
            .iter()
            .map(|it| frame_cost(&it.waiting.frame))
            .sum::<usize>();
        handed
    }

    /// Queues what an older connection gave up. Returns what does not fit.
    #[must_use]
    pub(crate) fn take_over(&mut self, handed: Vec<Handed<S>>) -> Vec<Release<S>> {
        let mut refused = Vec::new();
        for Handed {
            id,
            source,
            flow,
            waiting: Waiting { to, frame },
        } in handed
        {
            let bytes = frame.len();
            if self.push(id, &source, flow, to, frame).is_err() {
                refused.push(Release { source, to, bytes });
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
            for waiting in source.flows.iter().flat_map(|(_, frames)| frames) {
                note_release(&mut discarded, id, &source.handle, waiting);
            }
        }
        self.ring.clear();
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
}

struct Source<S> {
    handle: S,
    /// Bytes it may still give in this turn.
    deficit: usize,
    /// Flows with frames, in turn; never an empty one.
    flows: VecDeque<(u8, VecDeque<Waiting>)>,
}

struct Waiting {
    to: Destination,
    frame: Vec<u8>,
}

impl<S> Source<S> {
    /// The frame whose turn it is, if the deficit pays for it.
    fn next_affordable(&mut self) -> Option<Waiting> {
        let (flow, mut frames) = self.flows.pop_front()?;
        let affordable = frames
            .front()
            .is_some_and(|waiting| waiting.frame.len() <= self.deficit);
        if !affordable {
            self.flows.push_front((flow, frames));
            return None;
        }
        let waiting = frames.pop_front()?;
        self.deficit -= waiting.frame.len();
        if !frames.is_empty() {
            self.flows.push_back((flow, frames));
        }
        Some(waiting)
    }
}

fn note_release<S: Clone>(
    releases: &mut BTreeMap<(AttachId, Destination), Release<S>>,
    id: AttachId,
    source: &S,
    waiting: &Waiting,
) {
    releases
        .entry((id, waiting.to))
        .or_insert_with(|| Release {
            source: source.clone(),
            to: waiting.to,
            bytes: 0,
        })
        .bytes += waiting.frame.len();
}

fn frame_cost(frame: &[u8]) -> usize {
    frame.len() + FRAME_OVERHEAD
}

/// Bytes that one source may give per turn: one full frame.
const QUANTUM: usize = TLS_RECORD_MAX;

/// What a waiting frame costs beside its bytes: allocation and bookkeeping, so that a flood of tiny frames is counted
/// for what it takes.
const FRAME_OVERHEAD: usize = 96;

/// Most that may wait for one receiver, bytes: 64 sources with a full default window each. Credit keeps honest sources far
/// below; beyond it frames are dropped.
pub(crate) const EGRESS_MAX: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests;
