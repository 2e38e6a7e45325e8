//! Decides which UDP socket a datagram belongs to; holds the datagrams that nobody has read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::error::BindError;

/// All UDP sockets of a stack.
#[derive(Default)]
pub(crate) struct Mailboxes(RwLock<BTreeMap<u16, Arc<Mailbox>>>);

impl Mailboxes {
    pub(crate) fn get(&self, port: u16) -> Option<Arc<Mailbox>> {
        self.0.read().get(&port).cloned()
    }

    /// A mailbox on `port`, or on a free one for port 0, where the search begins at random.
    pub(crate) fn bind(&self, port: u16, random: u64) -> Result<Arc<Mailbox>, BindError> {
        let mut sockets = self.0.write();
        let port = if port == 0 {
            let count = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
            // The modulus is below 2^16, so nothing is cut off.
            let at = |offset| EPHEMERAL.start() + ((random % count + offset) % count) as u16;
            (0..count)
                .map(at)
                .find(|port| !sockets.contains_key(port))
                .ok_or(BindError::PortsExhausted)?
        } else if sockets.contains_key(&port) {
            return Err(BindError::InUse);
        } else {
            port
        };
        let socket = Arc::new(Mailbox {
            port,
            inbox: Mutex::default(),
        });
        sockets.insert(port, socket.clone());
        Ok(socket)
    }

    pub(crate) fn remove(&self, port: u16) {
        self.0.write().remove(&port);
    }
}

/// The ports that RFC 6335 leaves to choice.
const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

/// One UDP socket: the datagrams it has received, and the remotes it has sent to.
pub(crate) struct Mailbox {
    pub(crate) port: u16,
    inbox: Mutex<DatagramInbox>,
}

#[derive(Default)]
struct DatagramInbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    /// The remotes this socket has sent to, and the same in order of first use.
    known: BTreeSet<SocketAddr>,
    known_in_order: VecDeque<SocketAddr>,
    refused: Option<SocketAddr>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Returns whether this socket has sent to that remote.
    pub(crate) fn knows(&self, remote: SocketAddr) -> bool {
        self.inbox.lock().known.contains(&remote)
    }

    /// Keeps a datagram for its reader. Returns the number of older ones that
    /// had to leave.
    pub(crate) fn push(&self, remote: SocketAddr, data: &[u8]) -> u64 {
        let mut inbox = self.inbox.lock();
        inbox.bytes += data.len();
        inbox.datagrams.push_back((remote, data.to_vec()));
        let mut dropped = 0;
        while inbox.datagrams.len() > MAX_DATAGRAMS || inbox.bytes > MAX_BYTES {
            if let Some((_, oldest)) = inbox.datagrams.pop_front() {
                inbox.bytes -= oldest.len();
                dropped += 1;
            }
        }
        wake(inbox);
        dropped
    }

    /// The remote's port is closed.
    pub(crate) fn refused(&self, remote: SocketAddr) {
        let mut inbox = self.inbox.lock();
        if inbox.known.contains(&remote) {
            inbox.refused = Some(remote);
            wake(inbox);
        }
    }

    /// Takes note that this socket sends to `remote`.
    pub(crate) fn remember(&self, remote: SocketAddr) {
        let mut inbox = self.inbox.lock();
        if inbox.known.insert(remote) {
            inbox.known_in_order.push_back(remote);
        }
        if inbox.known_in_order.len() > MAX_KNOWN
            && let Some(oldest) = inbox.known_in_order.pop_front()
        {
            inbox.known.remove(&oldest);
        }
    }

    /// The next datagram or refusal, copied into `data`; the last task to ask is woken.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        data: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut inbox = self.inbox.lock();
        match inbox.take(data) {
            Some(result) => Poll::Ready(result),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The same without waiting.
    pub(crate) fn take(&self, data: &mut [u8]) -> Option<io::Result<(usize, SocketAddr)>> {
        self.inbox.lock().take(data)
    }
}

impl DatagramInbox {
    fn take(&mut self, data: &mut [u8]) -> Option<io::Result<(usize, SocketAddr)>> {
        if let Some(remote) = self.refused.take() {
            let error = io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("{remote} answered that its port is closed"),
            );
            return Some(Err(error));
        }
        let (remote, datagram) = self.datagrams.pop_front()?;
        self.bytes -= datagram.len();
        let len = datagram.len().min(data.len());
        data[..len].copy_from_slice(&datagram[..len]);
        Some(Ok((len, remote)))
    }
}

fn wake(mut inbox: MutexGuard<'_, DatagramInbox>) {
    let waker = inbox.waker.take();
    drop(inbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Datagrams one socket keeps for its reader, and their bytes: what a kernel gives a socket by
/// default, and more.
const MAX_DATAGRAMS: usize = 512;
const MAX_BYTES: usize = 1 << 20;
/// Remotes one socket may hear from. A resolver or a proxy talks to hundreds; the oldest have to
/// ask again.
const MAX_KNOWN: usize = 4_096;
