//! Bytes that are free again because a receiver's socket took them or because they were dropped.
//! Decides which of them are reported together; holds no frame.

use std::time::{Duration, Instant};

use crate::egress::waiting::{Handed, Waiting};
use crate::switch::{AttachId, Place};

/// Bytes of one pair that are free again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release<S> {
    /// The id of that connection.
    pub(crate) id: AttachId,
    /// The connection that sent them, as it hears of this.
    pub(crate) source: S,
    /// The receiver, as the source sees it.
    pub(crate) to: Place,
    /// Number of frames.
    pub(crate) frames: u32,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Cost of the frames while they waited, bytes.
    pub(crate) cost: usize,
    /// The shortest wait of those that had others of their flow before them; `None` if none had.
    pub(crate) stood: Option<Duration>,
}

/// The bytes of a receiver that is gone, all of which are free.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed<S> {
    /// Written, or on their way when the end came.
    pub(crate) written: Vec<Release<S>>,
    /// Never given to the socket.
    pub(crate) discarded: Vec<Release<S>>,
}

/// Returns what is free of runs that were taken out. `now` is given when the receiver was too slow
/// for them, so that their sources hear how long they stood.
pub(super) fn released<S: Clone>(gone: Vec<Handed<S>>, now: Option<Instant>) -> Vec<Release<S>> {
    let mut releases = Releases::default();
    for handed in &gone {
        let stood = now.map(|now| now.saturating_duration_since(handed.waiting.since));
        releases.note(handed.id, &handed.source, &handed.waiting, stood);
    }
    releases.0
}

/// Bytes that became free together. Those of one pair are joined as far as that is cheap.
pub(super) struct Releases<S>(pub(super) Vec<Release<S>>);

impl<S: Clone> Releases<S> {
    /// Adds a run. `stood` is how long it waited, if others of its flow were before it.
    pub(super) fn note(
        &mut self,
        id: AttachId,
        source: &S,
        waiting: &Waiting,
        stood: Option<Duration>,
    ) {
        let (frames, bytes) = (waiting.run.frames, waiting.run.bytes.len());
        let cost = waiting.run.cost();
        let newest = self.0.iter_mut().rev().take(JOINED_WITH);
        let known = newest
            .into_iter()
            .find(|it| (it.id, it.to) == (id, waiting.to));
        let Some(release) = known else {
            self.0.push(Release {
                id,
                source: source.clone(),
                to: waiting.to,
                frames,
                bytes,
                cost,
                stood,
            });
            return;
        };
        release.frames += frames;
        release.bytes += bytes;
        release.cost += cost;
        release.stood = match (release.stood, stood) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
    }
}

impl<S> Default for Releases<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Number of the newest releases that one is compared with: about as many pairs share a batch. A
/// pair that is further back gets two notices, which does the same.
const JOINED_WITH: usize = 8;
