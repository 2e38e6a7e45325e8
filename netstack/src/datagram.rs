//! UDP: decides which socket a datagram belongs to and holds those nobody has read; knows no flows and no addresses' meaning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::error::BindError;
use crate::packet;
use crate::stack::Stack;

/// Sends and receives datagrams on one port of every address of its stack. Full queues lose the oldest datagrams.
pub struct UdpSocket {
    stack: Stack,
    shared: Arc<Socket>,
}

impl UdpSocket {
    pub(crate) fn new(stack: Stack, port: u16) -> Result<UdpSocket, BindError> {
        let shared = stack.inner.sockets.bind(port, stack.inner.random())?;
        Ok(UdpSocket { stack, shared })
    }

    /// The port it is bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// The largest payload that fits into one packet to `remote`, in bytes.
    #[must_use]
    pub fn max_payload(&self, remote: SocketAddr) -> usize {
        self.stack.inner.config.mtu - packet::udp_overhead(remote.ip())
    }

    /// Queues one datagram for `remote`. From now on datagrams from there are let in.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit into one packet or is for port 0; `AddrNotAvailable` if the stack has no
    /// address of that family.
    pub fn send_to(&self, data: &[u8], remote: SocketAddr) -> io::Result<usize> {
        let inner = &self.stack.inner;
        if data.len() > self.max_payload(remote) {
            let max = self.max_payload(remote);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a datagram of {} bytes does not fit; {max} bytes do",
                    data.len()
                ),
            ));
        }
        if remote.port() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "port 0 cannot be sent to",
            ));
        }
        let local = inner
            .local_address_for(remote.ip())
            .filter(|_| packet::is_host(remote.ip()))
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let remote = SocketAddr::new(remote.ip(), remote.port());
        let Some(path) = inner.path(remote.ip()) else {
            inner.counters.drops.remotes.add(1);
            return Ok(data.len());
        };
        self.shared.remember(remote);
        let packet = packet::udp_datagram(SocketAddr::new(local, self.shared.port), remote, data);
        let pushed = path.queue().push_datagram(packet, inner.config.mtu);
        inner.counters.drops.datagram_queue.add(pushed.dropped);
        if pushed.announce {
            inner.shell.packets_ready(remote.ip());
        }
        Ok(data.len())
    }

    /// Tells `remote` that nobody is behind this port now, as if it were closed. Nothing happens beyond the rate of such answers.
    pub fn refuse(&self, now: Instant, remote: SocketAddr) {
        let inner = &self.stack.inner;
        let Some(local) = inner.local_address_for(remote.ip()) else {
            return;
        };
        let asked = packet::udp_datagram(remote, SocketAddr::new(local, self.shared.port), &[]);
        inner.answer(inner.ticks(now), remote.ip(), || {
            packet::port_unreachable(local, remote.ip(), &asked)
        });
    }

    /// The next datagram and who sent it. What does not fit into `data` is lost.
    ///
    /// # Errors
    /// `ConnectionRefused` if a remote answered that its port is closed; the socket goes on.
    pub async fn recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv_from(cx, data)).await
    }

    /// The same for callers that poll; the last one to ask is woken.
    ///
    /// # Errors
    /// As for [`UdpSocket::recv_from`].
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        data: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut inbox = self.shared.inbox();
        match inbox.take(data) {
            Some(result) => Poll::Ready(result),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As for [`UdpSocket::recv_from`], and `WouldBlock` if there is nothing.
    pub fn try_recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.shared
            .inbox()
            .take(data)
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.stack.inner.sockets.remove(self.shared.port);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("port", &self.shared.port)
            .finish_non_exhaustive()
    }
}

/// All UDP sockets of a stack.
#[derive(Default)]
pub(crate) struct UdpTable(RwLock<BTreeMap<u16, Arc<Socket>>>);

impl UdpTable {
    pub(crate) fn get(&self, port: u16) -> Option<Arc<Socket>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&port)
            .cloned()
    }

    fn bind(&self, port: u16, random: u64) -> Result<Arc<Socket>, BindError> {
        let mut sockets = self.0.write().unwrap_or_else(PoisonError::into_inner);
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
        let socket = Arc::new(Socket {
            port,
            inbox: Mutex::default(),
        });
        sockets.insert(port, socket.clone());
        Ok(socket)
    }

    fn remove(&self, port: u16) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&port);
    }
}

/// Where RFC 6335 wants chosen ports.
const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

pub(crate) struct Socket {
    port: u16,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    /// Whom this socket has sent to, and the same in order of first use.
    known: BTreeSet<SocketAddr>,
    known_in_order: VecDeque<SocketAddr>,
    refused: Option<SocketAddr>,
    waker: Option<Waker>,
}

impl Socket {
    /// Whether this socket has sent to that remote.
    pub(crate) fn knows(&self, remote: SocketAddr) -> bool {
        self.inbox().known.contains(&remote)
    }

    /// Keeps a datagram for its reader. Returns how many had to leave.
    pub(crate) fn push(&self, remote: SocketAddr, data: &[u8]) -> u64 {
        let mut inbox = self.inbox();
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
        let mut inbox = self.inbox();
        if inbox.known.contains(&remote) {
            inbox.refused = Some(remote);
            wake(inbox);
        }
    }

    fn remember(&self, remote: SocketAddr) {
        let mut inbox = self.inbox();
        if inbox.known.insert(remote) {
            inbox.known_in_order.push_back(remote);
        }
        if inbox.known_in_order.len() > MAX_KNOWN
            && let Some(oldest) = inbox.known_in_order.pop_front()
        {
            inbox.known.remove(&oldest);
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn take(&mut self, data: &mut [u8]) -> Option<io::Result<(usize, SocketAddr)>> {
        if let Some(remote) = self.refused.take() {
            let error = io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("{remote} has no such port"),
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

fn wake(mut inbox: MutexGuard<'_, Inbox>) {
    let waker = inbox.waker.take();
    drop(inbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Datagrams one socket keeps for its reader, and their bytes: what a kernel gives a socket by default, and more.
const MAX_DATAGRAMS: usize = 512;
const MAX_BYTES: usize = 1 << 20;
/// Remotes one socket may hear from unasked. A resolver or a proxy talks to hundreds; the oldest have to ask again.
const MAX_KNOWN: usize = 4_096;
