//! The times after which a flow gives up: the engine has none. Decides which clock each of them runs on.

use crate::path::Moment;

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) kind: DeadlineKind,
    /// In ticks of its clock; `None` until somebody with a clock comes by.
    pub(super) at: Option<i64>,
    /// Bytes not acknowledged when it was set; fewer of them set it anew.
    pub(super) unsent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadlineKind {
    Connect,
    Handshake,
    FinWait,
    LastAck,
    Linger,
}

impl DeadlineKind {
    /// A person waits for the handshake; everything else stands still with the path.
    pub(super) fn is_real(self) -> bool {
        matches!(self, DeadlineKind::Connect | DeadlineKind::Handshake)
    }

    pub(super) fn read(self, now: Moment) -> i64 {
        if self.is_real() { now.real } else { now.path }
    }
}
