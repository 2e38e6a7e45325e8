//! Decides which listener an inbound connection belongs to and holds those nobody has taken yet; no listening sockets.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use crate::config::has_share;
use crate::error::ListenError;
use crate::flow::End;
use crate::stack::Stack;
use crate::stream::TcpStream;
use crate::table::FlowCell;

/// Takes inbound connections to one port. Dropping it refuses those it holds and those that come later.
pub struct TcpListener {
    stack: Stack,
    shared: Arc<Listener>,
}

impl TcpListener {
    pub(crate) fn new(stack: Stack, port: u16) -> Result<TcpListener, ListenError> {
        if port == 0 {
            return Err(ListenError::NoPort);
        }
        let shared = stack
            .inner
            .listeners
            .insert(port)
            .ok_or(ListenError::InUse)?;
        Ok(TcpListener { stack, shared })
    }

    /// The next connection that somebody wants: remotes take turns, however many each of them wants. It is not established before it
    /// is accepted.
    pub async fn accept(&self) -> Incoming {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same for callers that poll; the last one to ask is woken.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Incoming> {
        let mut queue = self.shared.queue();
        while let Some(flow) = queue.pop() {
            // Some senders give up while they wait here.
            if flow.lock().is_opening() {
                return Poll::Ready(Incoming {
                    stack: self.stack.clone(),
                    flow: Some(flow),
                });
            }
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.stack.inner.listeners.remove(self.shared.port);
        let left = {
            let mut queue = self.shared.queue();
            queue.closed = true;
            std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>()
        };
        for flow in left {
            refuse(&self.stack, &flow);
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("port", &self.shared.port)
            .finish_non_exhaustive()
    }
}

/// A connection somebody wants; its handshake waits for the answer. Dropping it refuses.
pub struct Incoming {
    stack: Stack,
    /// `None` only while it is being consumed.
    flow: Option<Arc<FlowCell>>,
}

impl Incoming {
    /// Who wants it.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.key(|flow| flow.key.remote)
    }

    /// Which of our addresses and ports is wanted.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.key(|flow| flow.key.local)
    }

    /// Lets the handshake go on. The stream can be used at once; if the other side has given up meanwhile, it says so.
    #[must_use]
    pub fn accept(mut self) -> TcpStream {
        let flow = self
            .flow
            .take()
            .expect("an Incoming holds its flow until it is consumed");
        self.stack.inner.run(&flow, None, |flow, _| flow.accept());
        TcpStream::new(self.stack.clone(), flow)
    }

    /// Tells the other side that nobody listens here.
    pub fn refuse(self) {
        drop(self);
    }

    fn key(&self, field: impl Fn(&FlowCell) -> SocketAddr) -> SocketAddr {
        field(
            self.flow
                .as_ref()
                .expect("an Incoming holds its flow until it is consumed"),
        )
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(flow) = self.flow.take() {
            refuse(&self.stack, &flow);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("remote", &self.remote())
            .field("local", &self.local())
            .finish_non_exhaustive()
    }
}

fn refuse(stack: &Stack, flow: &Arc<FlowCell>) {
    let inner = &stack.inner;
    inner.run(flow, None, |flow, _| {
        flow.reset(&inner.config, End::Aborted)
    });
}

/// All listeners of a stack.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<BTreeMap<u16, Arc<Listener>>>);

impl Listeners {
    pub(crate) fn get(&self, port: u16) -> Option<Arc<Listener>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&port)
            .cloned()
    }

    /// `None` if somebody listens there already.
    fn insert(&self, port: u16) -> Option<Arc<Listener>> {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if listeners.contains_key(&port) {
            return None;
        }
        let listener = Arc::new(Listener {
            port,
            queue: Mutex::default(),
        });
        listeners.insert(port, listener.clone());
        Some(listener)
    }

    fn remove(&self, port: u16) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&port);
    }
}

pub(crate) struct Listener {
    port: u16,
    queue: Mutex<Backlog>,
}

/// Connections nobody has taken yet.
#[derive(Default)]
struct Backlog {
    /// By remote, each in the order in which they came. None is empty.
    waiting: BTreeMap<IpAddr, VecDeque<Arc<FlowCell>>>,
    /// The remotes of `waiting`, in the order of their turns.
    turns: VecDeque<IpAddr>,
    len: usize,
    /// When it may be looked through again for those that gave up, in ticks of the real clock.
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

    /// Lets go of those whose senders gave up.
    fn purge(&mut self) {
        self.waiting.retain(|_, flows| {
            flows.retain(|flow| flow.lock().is_opening());
            !flows.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|remote| waiting.contains_key(remote));
        self.len = waiting.values().map(VecDeque::len).sum();
    }
}

/// 100 ms in ticks. A flood of SYNs would otherwise have all of the backlog looked through for each of them.
const PURGE_EVERY: i64 = 100_000;

impl Listener {
    /// Whether one more connection of `remote` may wait, of `backlog` that may in all.
    pub(crate) fn has_room(&self, now: i64, remote: IpAddr, backlog: usize) -> bool {
        let mut queue = self.queue();
        if !queue.has_room(remote, backlog) && now >= queue.purge_from {
            queue.purge();
            queue.purge_from = now + PURGE_EVERY;
        }
        queue.has_room(remote, backlog)
    }

    /// Returns whether there is still a listener.
    pub(crate) fn push(&self, flow: Arc<FlowCell>) -> bool {
        let waker = {
            let mut queue = self.queue();
            if queue.closed {
                return false;
            }
            queue.push(flow);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn queue(&self) -> MutexGuard<'_, Backlog> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
