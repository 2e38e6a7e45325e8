//! Echo requests of ours: decides which one a reply belongs to; holds no clock and no patience.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::error::PingError;
use crate::packet;
use crate::stack::Stack;

/// A waiting echo request; resolves when its reply arrives. Dropping it forgets the request.
#[must_use = "dropping it forgets the request"]
pub struct Ping {
    stack: Stack,
    ident: u16,
    shared: Arc<Mutex<Waiting>>,
}

/// The reply to an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// When it arrived, by the clock of whoever handed the packet in.
    pub at: Instant,
    /// What came back; the same bytes unless the remote changed them.
    pub payload: Vec<u8>,
}

impl Ping {
    pub(crate) fn new(
        stack: Stack,
        now: Instant,
        remote: IpAddr,
        payload: &[u8],
    ) -> Result<Ping, PingError> {
        let inner = &stack.inner;
        let local = inner
            .local_address_for(remote)
            .filter(|_| packet::is_host(remote))
            .ok_or(PingError::NoAddress)?;
        if payload.len() > inner.config.mtu - packet::icmp_overhead(remote) {
            return Err(PingError::TooLarge);
        }
        let path = inner.path(remote).ok_or(PingError::TooMany)?;
        let (ident, shared) = inner
            .pings
            .insert(remote, inner.random())
            .ok_or(PingError::TooMany)?;
        let request = packet::echo_request(local, remote, ident, payload);
        let pushed = path.queue().push_control(request);
        inner.pushed(&path, pushed);
        // The clock is an argument of everything that sends, though this packet starts no timer.
        let _ = now;
        Ok(Ping {
            stack: stack.clone(),
            ident,
            shared,
        })
    }
}

impl Future for Ping {
    type Output = Result<Pong, PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = lock(&self.shared);
        match waiting.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.stack.inner.pings.remove(self.ident, &self.shared);
    }
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping")
            .field("ident", &self.ident)
            .finish_non_exhaustive()
    }
}

/// The echo requests of a stack by their identifier.
#[derive(Default)]
pub(crate) struct Pings(Mutex<BTreeMap<u16, Arc<Mutex<Waiting>>>>);

pub(crate) struct Waiting {
    remote: IpAddr,
    outcome: Option<Result<Pong, PingError>>,
    waker: Option<Waker>,
}

impl Pings {
    pub(crate) fn handle_reply(&self, at: Instant, remote: IpAddr, ident: u16, data: &[u8]) {
        let waiting = {
            let mut pings = lock(&self.0);
            // Anybody may send a reply, but only to a request to itself.
            match pings.get(&ident) {
                Some(waiting) if lock(waiting).remote == remote => pings.remove(&ident),
                Some(_) | None => None,
            }
        };
        if let Some(waiting) = waiting {
            finish(
                &waiting,
                Ok(Pong {
                    at,
                    payload: data.to_vec(),
                }),
            );
        }
    }

    pub(crate) fn handle_gone(&self, remote: IpAddr) {
        let mut gone = Vec::new();
        lock(&self.0).retain(|_, waiting| {
            let stays = lock(waiting).remote != remote;
            if !stays {
                gone.push(waiting.clone());
            }
            stays
        });
        for waiting in gone {
            finish(&waiting, Err(PingError::Unreachable));
        }
    }

    fn insert(&self, remote: IpAddr, random: u64) -> Option<(u16, Arc<Mutex<Waiting>>)> {
        let mut pings = lock(&self.0);
        if pings.len() >= MAX_PINGS {
            return None;
        }
        let ident = (0..=u16::MAX)
            .map(|offset| (random as u16).wrapping_add(offset))
            .find(|ident| !pings.contains_key(ident))?;
        let waiting = Arc::new(Mutex::new(Waiting {
            remote,
            outcome: None,
            waker: None,
        }));
        pings.insert(ident, waiting.clone());
        Some((ident, waiting))
    }

    fn remove(&self, ident: u16, ping: &Arc<Mutex<Waiting>>) {
        let mut pings = lock(&self.0);
        // Once it was answered the identifier may belong to another.
        if pings
            .get(&ident)
            .is_some_and(|found| Arc::ptr_eq(found, ping))
        {
            pings.remove(&ident);
        }
    }
}

/// Echo requests that wait at once: each is a person or a probe.
const MAX_PINGS: usize = 1_024;

fn finish(waiting: &Mutex<Waiting>, outcome: Result<Pong, PingError>) {
    let waker = {
        let mut waiting = lock(waiting);
        waiting.outcome = Some(outcome);
        waiting.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
