//! Decides in which order one receiver gets the frames that wait for it. Holds runs of whole frames
//! in `waiting`, and in `release` the bytes that are free again; no clock, no socket, no lock.
//!
//! Deficit round robin between the connections that send to it, and run by run between the flows of
//! one connection: a bulk copy costs others one quantum, not its whole window. A run of a flow that
//! has nothing waiting goes before all backlogs, as long as its source has something left of its
//! turn. Bytes count as held until the socket has taken them.

mod release;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use overlan_protocol::TLS_RECORD_MAX;

pub(crate) use crate::egress::release::{Closed, Release};
pub(crate) use crate::egress::waiting::{Handed, Run};

use crate::egress::release::{Releases, released};
use crate::egress::waiting::{Flow, Source, Waiting, spare};
use crate::memory::deserves;
use crate::switch::{AttachId, Place};

/// The frames that wait for one receiver. `S` is the handle by which a source hears that its bytes
/// are free.
pub(crate) struct Egress<S> {
    sources: HashMap<AttachId, Source<S>>,
    /// All sources, each once, in turn. A source without frames is removed when its turn comes.
    ring: VecDeque<AttachId>,
    /// Flows that had nothing waiting when something came, in order.
    sparse: VecDeque<(AttachId, u8)>,
    /// Cost of the frames that wait, bytes.
    cost: usize,
    /// Most that may wait, bytes.
    max: usize,
    /// Cost by network; a receiver is in few.
    networks: Vec<(u32, usize)>,
    /// Bytes given out and not yet known to be written.
    writing: Releases<S>,
    /// Empty queues for the next flows and sources, so that one that comes and goes with each frame
    /// does not allocate.
    spare_runs: Vec<VecDeque<Waiting>>,
    spare_flows: Vec<VecDeque<Flow>>,
}

/// Too much waits for this receiver already; the caller drops the run and counts its frames.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) Run);

impl<S: Clone> Egress<S> {
    /// `max`: most that may wait, bytes of memory.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            sources: HashMap::new(),
            ring: VecDeque::new(),
            sparse: VecDeque::new(),
            cost: 0,
            max,
            networks: Vec::new(),
            writing: Releases::default(),
            spare_runs: Vec::new(),
            spare_flows: Vec::new(),
        }
    }

    /// Queues a run of a source.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        id: AttachId,
        source: &S,
        to: Place,
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

    /// Makes room for frames of `id` in the network `vni` that cost `cost`: the largest holders
    /// give up what they have, if that is at least twice as much. First the largest network pays,
    /// in it the largest sources.
    #[must_use]
    pub(crate) fn shed(&mut self, id: AttachId, vni: u32, cost: usize) -> Vec<Release<S>> {
        let held = self.networks.iter().find(|(known, _)| *known == vni);
        let held = held.map_or(0, |(_, held)| *held);
        let largest = self.networks.iter().copied().max_by_key(|(_, held)| *held);
        let payer = largest.filter(|(of, most)| *of != vni && deserves(held, cost, *most));
        let (payer, own) = match payer {
            Some((payer, _)) => (payer, None),
            None => (vni, Some(self.sources.get(&id).map_or(0, |it| it.cost))),
        };
        let cost_of = |id: &AttachId| self.sources.get(id).map(|source| (source.cost, *id));
        let mut by_cost: Vec<(usize, AttachId)> = self.ring.iter().filter_map(cost_of).collect();
        by_cost.sort_unstable_by(|a, b| b.cmp(a));
        let until = self.cost - self.cost / SHED_PART;
        let mut shed = Vec::new();
        for (most, victim) in by_cost {
            if self.cost <= until || own.is_some_and(|own| !deserves(own, cost, most)) {
                break;
            }
            let gone = self.remove(|source, _| source == victim, |to| to.vni == payer);
            shed.extend(released(gone, None));
        }
        shed
    }

    /// Drops the waiting frames of the sources that `of` selects, for destinations that `places`
    /// selects. `now` is given when the receiver was too slow for them, so that their sources hear
    /// how long they stood.
    #[must_use]
    pub(crate) fn discard(
        &mut self,
        now: Option<Instant>,
        of: impl Fn(&S) -> bool,
        places: impl Fn(Place) -> bool,
    ) -> Vec<Release<S>> {
        released(self.remove(|_, source| of(source), places), now)
    }

    /// Everything taken before has been written: its bytes, appended to `free`, are free.
    pub(crate) fn handle_written(&mut self, free: &mut Vec<Release<S>>) {
        free.append(&mut self.writing.0);
    }

    /// Appends the next runs to `out`, until they hold `budget` bytes or nothing waits. The last
    /// one may overshoot. Returns the longest time that one of them waited.
    pub(crate) fn take(&mut self, now: Instant, budget: usize, out: &mut Vec<Run>) -> Duration {
        let mut taken = 0;
        let mut longest = Duration::ZERO;
        while taken < budget {
            let Some((id, waiting, was_sparse)) = self.next() else {
                break;
            };
            taken += waiting.run.bytes.len();
            self.count_gone(&waiting);
            let waited = now.saturating_duration_since(waiting.since);
            longest = longest.max(waited);
            let stood = (!was_sparse).then_some(waited);
            if let Some(source) = self.sources.get(&id) {
                self.writing.note(id, &source.handle, &waiting, stood);
            }
            out.push(waiting.run);
        }
        longest
    }

    /// Returns the frames that were taken since [`Egress::handle_written`]: they wait no longer.
    pub(crate) fn taken(&self) -> &[Release<S>] {
        &self.writing.0
    }

    /// Takes out the frames for destinations that `keep` selects, in the order of each flow.
    #[must_use]
    pub(crate) fn hand_over(&mut self, keep: impl Fn(Place) -> bool) -> Vec<Handed<S>> {
        self.remove(|_, _| true, keep)
    }

    /// Takes out the frames of the sources that `of` selects, for destinations that `places`
    /// selects.
    fn remove(
        &mut self,
        of: impl Fn(AttachId, &S) -> bool,
        places: impl Fn(Place) -> bool,
    ) -> Vec<Handed<S>> {
        let mut removed = Vec::new();
        for id in &self.ring {
            let Some(source) = self.sources.get_mut(id) else {
                continue;
            };
            let (handle, mut cost) = (&source.handle, 0);
            if !of(*id, handle) {
                continue;
            }
            for flow in &mut source.flows {
                let (gone, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut flow.runs)
                    .into_iter()
                    .partition(|waiting| places(waiting.to));
                flow.runs = left;
                removed.extend(gone.into_iter().map(|waiting| {
                    cost += waiting.run.cost();
                    Handed {
                        id: *id,
                        source: handle.clone(),
                        waiting,
                    }
                }));
            }
            source.cost -= cost;
            source.flows.retain(|flow| !flow.runs.is_empty());
        }
        for handed in &removed {
            self.count_gone(&handed.waiting);
        }
        removed
    }

    /// Queues the frames that an older connection gave up. Returns those that do not fit.
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
                    id,
                    source,
                    to: waiting.to,
                    frames: waiting.run.frames,
                    bytes: waiting.run.bytes.len(),
                    cost: waiting.run.cost(),
                    stood: None,
                });
            }
        }
        refused
    }

    /// Forgets all frames, since the receiver is gone.
    #[must_use]
    pub(crate) fn close(&mut self) -> Closed<S> {
        let mut discarded = Releases::default();
        for id in self.ring.drain(..) {
            let Some(source) = self.sources.remove(&id) else {
                continue;
            };
            for waiting in source.flows.iter().flat_map(|flow| &flow.runs) {
                discarded.note(id, &source.handle, waiting, None);
            }
        }
        self.sparse.clear();
        self.cost = 0;
        self.networks.clear();
        Closed {
            written: std::mem::take(&mut self.writing).0,
            discarded: discarded.0,
        }
    }

    /// The cost of the frames that wait, bytes.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    fn count_gone(&mut self, waiting: &Waiting) {
        let cost = waiting.run.cost();
        self.cost -= cost;
        let mut networks = self.networks.iter_mut();
        if let Some((_, held)) = networks.find(|(vni, _)| *vni == waiting.to.vni) {
            *held -= cost;
        }
    }

    fn queue(&mut self, id: AttachId, source: &S, waiting: Waiting) -> Result<(), Waiting> {
        let cost = waiting.run.cost();
        if self.cost + cost > self.max {
            return Err(waiting);
        }
        self.cost += cost;
        let vni = waiting.to.vni;
        match self.networks.iter_mut().find(|(known, _)| *known == vni) {
            Some((_, held)) => *held += cost,
            None => self.networks.push((vni, cost)),
        }
        let (ring, spare) = (&mut self.ring, &mut self.spare_flows);
        let source = self.sources.entry(id).or_insert_with(|| {
            ring.push_back(id);
            Source {
                handle: source.clone(),
                deficit: QUANTUM,
                cost: 0,
                flows: spare.pop().unwrap_or_default(),
            }
        });
        source.cost += cost;
        let flow = waiting.run.flow;
        match source.flows.iter_mut().find(|known| known.id == flow) {
            Some(known) => known.runs.push_back(waiting),
            None => {
                let mut runs = self.spare_runs.pop().unwrap_or_default();
                runs.push_back(waiting);
                source.flows.push_back(Flow { id: flow, runs });
                if source.deficit > 0 {
                    self.sparse.push_back((id, flow));
                }
            }
        }
        Ok(())
    }

    /// Takes the run whose turn it is, and says whether it went before the backlogs.
    fn next(&mut self) -> Option<(AttachId, Waiting, bool)> {
        while let Some((id, flow)) = self.sparse.pop_front() {
            // Its turn among the backlogs may have come first.
            if let Some(source) = self.sources.get_mut(&id)
                && source.deficit > 0
                && let Some(at) = source.flows.iter().position(|known| known.id == flow)
                && let Some(waiting) = source.take_from(at, &mut self.spare_runs)
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
                if let Some(source) = self.sources.remove(&id) {
                    spare(&mut self.spare_flows, source.flows);
                }
                self.ring.pop_front();
            } else if source.deficit <= 0 {
                source.deficit += QUANTUM;
                self.ring.rotate_left(1);
            } else if let Some(waiting) = source.take_from(0, &mut self.spare_runs) {
                // Its next turn begins here, so that the next run of one of its idle flows need not
                // wait for it.
                if source.deficit <= 0 {
                    source.deficit += QUANTUM;
                    self.ring.rotate_left(1);
                }
                return Some((id, waiting, false));
            }
        }
    }
}

/// Bytes that one source may give per turn: one full frame.
const QUANTUM: isize = TLS_RECORD_MAX as isize;

/// Part of the memory that is freed at once when all of it is used, so that no search is needed for
/// each frame.
pub(crate) const SHED_PART: usize = 8;

#[cfg(test)]
mod tests;
