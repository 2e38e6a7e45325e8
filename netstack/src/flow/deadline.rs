//! The times after which a flow gives up, which the engine lacks. Decides the clock that each of
//! them runs on.

use std::time::Duration;

use crate::clock::Moment;
use crate::config::Config;

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) kind: DeadlineKind,
    /// In ticks of its clock; `None` until a call that knows the time.
    pub(super) at: Option<i64>,
    /// Bytes not acknowledged when it was set; with fewer of them it starts again.
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
    /// Returns whether it runs in real time: a person waits for the handshake. Everything else
    /// stands still with the path.
    pub(super) fn is_real(self) -> bool {
        matches!(self, DeadlineKind::Connect | DeadlineKind::Handshake)
    }

    pub(super) fn read(self, now: Moment) -> i64 {
        if self.is_real() { now.real } else { now.path }
    }

    pub(super) fn patience(self, config: &Config) -> Duration {
        match self {
            DeadlineKind::Connect => config.connect_timeout,
            DeadlineKind::Handshake => config.syn_received_timeout,
            DeadlineKind::FinWait => config.fin_wait_timeout,
            DeadlineKind::LastAck => config.last_ack_timeout,
            DeadlineKind::Linger => config.linger_timeout,
        }
    }
}
