//! Decides which listener an inbound connection belongs to and which one is taken next; holds those
//! that nobody has taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, RwLock};

use crate::config::has_share;
use crate::table::FlowCell;

/// All listeners of a stack.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<BTreeMap<u16, Arc<Listener>>>);

impl Listeners {
    pub(crate) fn get(&self, port: u16) -> Option<Arc<Listener>> {
        self.0.read().get(&port).cloned()
    }

    /// `None` if the port is taken.
    pub(crate) fn insert(&self, port: u16) -> Option<Arc<Listener>> {
        let mut listeners = self.0.write();
        if listeners.contains_key(&port) {
            return None;
        }
        let listener = Arc::new(Listener {
            port,
            backlog: Mutex::default(),
        });
        listeners.insert(port, listener.clone());
        Some(listener)
    }

    pub(crate) fn remove(&self, port: u16) {
        self.0.write().remove(&port);
    }
}

pub(crate) struct Listener {
    pub(crate) port: u16,
    backlog: Mutex<Backlog>,
}

/// Connections nobody has taken yet.
#[derive(Default)]
struct Backlog {
    /// By remote, each in the order in which they came. None is empty.
    waiting: BTreeMap<IpAddr, VecDeque<Arc<FlowCell>>>,
    /// The remotes of `waiting`, in the order of their turns.
    turns: VecDeque<IpAddr>,
    len: usize,
    /// The time from which it may be searched again for those that gave up, in ticks of the real
    /// clock.
    purge_from: i64,
    waker: Option<Waker>,
    closed: bool,
}

impl Backlog {
    fn push(&mut self, flow: Arc<FlowCell>) {
        let remote = flow.key.remote.ip();
        let flows = self.waiting.entry(remote).or_default();
        if flows.is_empty() {
            self.turns.push_back(remote);
        }
        flows.push_back(flow);
        self.len += 1;
    }

    /// The first connection of the remote whose turn it is.
    fn pop(&mut self) -> Option<Arc<FlowCell>> {
        let remote = self.turns.pop_front()?;
        let flows = self.waiting.get_mut(&remote)?;
        let flow = flows.pop_front();
        if flows.is_empty() {
            self.waiting.remove(&remote);
        } else {
            self.turns.push_back(remote);
        }
        self.len -= usize::from(flow.is_some());
        flow
    }

    fn has_room(&self, remote: IpAddr, limit: usize) -> bool {
        let held = self.waiting.get(&remote).map_or(0, VecDeque::len);
        has_share(held, self.len, limit)
    }

    /// Drops the connections whose senders gave up.
    fn purge(&mut self) {
        self.waiting.retain(|_, flows| {
            flows.retain(|flow| flow.lock().flow.is_opening());
            !flows.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|remote| waiting.contains_key(remote));
        self.len = waiting.values().map(VecDeque::len).sum();
    }
}

/// The time between two searches: 100 ms in ticks. A flood of SYNs would otherwise have all of the
/// backlog searched for each of them.
const PURGE_EVERY: i64 = 100_000;

impl Listener {
    /// Returns whether one more connection of `remote` may wait, of `backlog` that may in all.
    pub(crate) fn has_room(&self, now: i64, remote: IpAddr, backlog: usize) -> bool {
        let mut waiting = self.backlog.lock();
        if !waiting.has_room(remote, backlog) && now >= waiting.purge_from {
            waiting.purge();
            waiting.purge_from = now + PURGE_EVERY;
        }
        waiting.has_room(remote, backlog)
    }

    /// Keeps a connection until it is taken. Returns whether there is still a listener.
    pub(crate) fn push(&self, flow: Arc<FlowCell>) -> bool {
        let waker = {
            let mut backlog = self.backlog.lock();
            if backlog.closed {
                return false;
            }
            backlog.push(flow);
            backlog.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The next connection whose sender has not given up; the last task to ask is woken.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Arc<FlowCell>> {
        let mut backlog = self.backlog.lock();
        while let Some(flow) = backlog.pop() {
            if flow.lock().flow.is_opening() {
                return Poll::Ready(flow);
            }
        }
        backlog.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes no more, and hands out those that wait.
    pub(crate) fn close(&self) -> Vec<Arc<FlowCell>> {
        let mut backlog = self.backlog.lock();
        backlog.closed = true;
        std::iter::from_fn(|| backlog.pop()).collect()
    }
}
