//! Keeps the newest part of the change log in memory for all netmap streams. Decides only whether
//! it still reaches back far enough; the store has the whole log.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::netmaps::Entry;

/// The tail of the change log, and its head as something to wait for.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    tail: RwLock<Tail>,
    head: watch::Sender<u64>,
}

#[derive(Debug)]
struct Tail {
    /// The version before the oldest entry.
    base: u64,
    entries: VecDeque<Arc<Entry>>,
}

impl ChangeLog {
    /// Makes a log that knows nothing up to `base`.
    pub(crate) fn new(base: u64) -> Self {
        Self {
            tail: RwLock::new(Tail {
                base,
                entries: VecDeque::new(),
            }),
            head: watch::Sender::new(base),
        }
    }

    /// Returns the newest version.
    pub(crate) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Returns a receiver that wakes whenever the head moves.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Appends entries that follow the head in order.
    pub(crate) fn extend(&self, entries: Vec<Entry>) {
        let Some(head) = entries.last().map(|entry| entry.version) else {
            return;
        };
        {
            let mut tail = self.tail.write();
            for entry in entries {
                if tail.entries.len() == ENTRIES_MAX
                    && let Some(oldest) = tail.entries.pop_front()
                {
                    tail.base = oldest.version;
                }
                tail.entries.push_back(Arc::new(entry));
            }
        }
        self.head.send_replace(head);
    }

    /// Returns the head's version and the entries after `from` up to it; `None` if the log does not
    /// reach back that far or `from` is in the future.
    pub(crate) fn since(&self, from: u64) -> Option<(u64, Vec<Arc<Entry>>)> {
        let tail = self.tail.read();
        let head = tail.entries.back().map_or(tail.base, |last| last.version);
        if from < tail.base || from > head {
            return None;
        }
        let start = tail.entries.partition_point(|entry| entry.version <= from);
        Some((head, tail.entries.range(start..).cloned().collect()))
    }
}

/// Most entries kept in memory, some 5 MB: a stream that needs older ones gets a snapshot.
pub(crate) const ENTRIES_MAX: usize = 8_192;

#[cfg(test)]
mod tests;
