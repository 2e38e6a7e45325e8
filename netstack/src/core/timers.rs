//! Decides which flows are due; holds one entry per armed flow and no clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::table::FlowCell;

/// Entries are armed lazily: a deadline that moves later leaves its entry where it is, and the flow
/// is asked again when the entry falls due. A flow under load so costs one entry per retransmission
/// time, not one per packet.
#[derive(Default)]
pub(crate) struct Timers {
    /// By due time in ticks and flow number, so that two flows may be due at once.
    due: BTreeMap<(i64, u64), Weak<FlowCell>>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: i64, flow: &Arc<FlowCell>) {
        self.due.insert((at, flow.id), Arc::downgrade(flow));
    }

    pub(crate) fn disarm(&mut self, at: i64, flow: u64) {
        self.due.remove(&(at, flow));
    }

    /// Takes every entry that is due at `now`, with the time it was armed for.
    pub(crate) fn take_due(&mut self, now: i64) -> Vec<(i64, Arc<FlowCell>)> {
        let later = self.due.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut self.due, later);
        due.into_iter()
            .filter_map(|((at, _), flow)| Some((at, flow.upgrade()?)))
            .collect()
    }

    pub(crate) fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
