//! Decides which echo request a reply belongs to; holds the requests that wait, but no clock and no
//! patience.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use crate::error::PingError;

/// The reply to an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The time of its arrival, by the clock of the caller that handed the packet in.
    pub at: Instant,
    /// The bytes that came back; the same unless the remote changed them.
    pub payload: Vec<u8>,
}

/// The echo requests of a stack by their identifier.
#[derive(Default)]
pub(crate) struct Echoes(Mutex<BTreeMap<u16, Arc<PendingEcho>>>);

/// One echo request that waits for its reply.
pub(crate) struct PendingEcho {
    remote: IpAddr,
    outcome: Mutex<EchoOutcome>,
}

#[derive(Default)]
struct EchoOutcome {
    known: Option<Result<Pong, PingError>>,
    waker: Option<Waker>,
}

impl PendingEcho {
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Pong, PingError>> {
        let mut outcome = self.outcome.lock();
        match outcome.known.take() {
            Some(known) => Poll::Ready(known),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn finish(&self, known: Result<Pong, PingError>) {
        let waker = {
            let mut outcome = self.outcome.lock();
            outcome.known = Some(known);
            outcome.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Echoes {
    pub(crate) fn handle_reply(&self, at: Instant, remote: IpAddr, ident: u16, data: &[u8]) {
        let pending = {
            let mut echoes = self.0.lock();
            // Anybody may send a reply, but only to a request to itself.
            match echoes.get(&ident) {
                Some(pending) if pending.remote == remote => echoes.remove(&ident),
                Some(_) | None => None,
            }
        };
        if let Some(pending) = pending {
            let payload = data.to_vec();
            pending.finish(Ok(Pong { at, payload }));
        }
    }

    pub(crate) fn handle_gone(&self, remote: IpAddr) {
        self.retain(PingError::Unreachable, |other| other != remote);
    }

    /// Ends the requests to remotes that `keep` does not want any more with `error`.
    pub(crate) fn retain(&self, error: PingError, keep: impl Fn(IpAddr) -> bool) {
        let mut gone = Vec::new();
        self.0.lock().retain(|_, pending| {
            let stays = keep(pending.remote);
            if !stays {
                gone.push(pending.clone());
            }
            stays
        });
        for pending in gone {
            pending.finish(Err(error));
        }
    }

    /// A request to `remote` under a free identifier, for which the search begins at random. `None`
    /// beyond the limit.
    pub(crate) fn insert(&self, remote: IpAddr, random: u64) -> Option<(u16, Arc<PendingEcho>)> {
        let mut echoes = self.0.lock();
        if echoes.len() >= MAX_ECHOES {
            return None;
        }
        let ident = (0..=u16::MAX)
            .map(|offset| (random as u16).wrapping_add(offset))
            .find(|ident| !echoes.contains_key(ident))?;
        let pending = Arc::new(PendingEcho {
            remote,
            outcome: Mutex::default(),
        });
        echoes.insert(ident, pending.clone());
        Some((ident, pending))
    }

    pub(crate) fn remove(&self, ident: u16, pending: &Arc<PendingEcho>) {
        let mut echoes = self.0.lock();
        // Once it was answered the identifier may belong to another.
        if echoes
            .get(&ident)
            .is_some_and(|found| Arc::ptr_eq(found, pending))
        {
            echoes.remove(&ident);
        }
    }
}

/// Echo requests that wait at once: each is a person or a probe.
const MAX_ECHOES: usize = 1_024;
