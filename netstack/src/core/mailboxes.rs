//! Decides which UDP socket a datagram belongs to; holds the datagrams that nobody has read.

use std::collections::{BTreeMap, VecDeque};
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

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.0.read().values().cloned().collect()
    }
}

/// The ports that RFC 6335 leaves to choice.
const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

/// The first word between a socket and a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contact {
    /// The remote said it; each of its datagrams is judged by itself.
    pub(crate) inbound: bool,
    /// The owner still wants it.
    pub(crate) allowed: bool,
}

/// One UDP socket: the datagrams it has received, and the remotes it exchanges datagrams with.
pub(crate) struct Mailbox {
    pub(crate) port: u16,
    inbox: Mutex<DatagramInbox>,
}

#[derive(Default)]
struct DatagramInbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    /// The remotes that this socket sent to or heard, and the same in order of first use.
    contacts: BTreeMap<SocketAddr, Contact>,
    contacts_in_order: VecDeque<SocketAddr>,
    refused: Option<SocketAddr>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Returns the first word between this socket and that remote.
    pub(crate) fn contact(&self, remote: SocketAddr) -> Option<Contact> {
        self.inbox.lock().contacts.get(&remote).copied()
    }

    /// Keeps a datagram for its reader. Returns the number of older ones that
    /// had to leave.
    pub(crate) fn push(&self, remote: SocketAddr, data: &[u8]) -> u64 {
        let mut inbox = self.inbox.lock();
        inbox.note(remote, true);
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
        if inbox.contacts.contains_key(&remote) {
            inbox.refused = Some(remote);
            wake(inbox);
        }
    }

    /// Takes note that this socket sends to `remote`, which the owner allows.
    pub(crate) fn remember(&self, remote: SocketAddr) {
        self.inbox.lock().note(remote, false);
    }

    /// Asks again which contacts the owner wants, and drops the datagrams of those that it does not
    /// want any more. A contact that is not wanted is remembered, so that an answer to it does not
    /// begin another one.
    pub(crate) fn retain(&self, keep: impl Fn(SocketAddr, bool) -> bool) {
        let mut inbox = self.inbox.lock();
        for (remote, contact) in &mut inbox.contacts {
            contact.allowed = keep(*remote, contact.inbound);
        }
        let DatagramInbox {
            datagrams,
            bytes,
            contacts,
            ..
        } = &mut *inbox;
        datagrams.retain(|(remote, data)| {
            let stays = contacts.get(remote).is_none_or(|contact| contact.allowed);
            if !stays {
                *bytes -= data.len();
            }
            stays
        });
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
    /// Takes note of an allowed contact. The first word decides whose it is. A contact that the
    /// owner does not want any more begins again only if the remote has the right to begin it.
    fn note(&mut self, remote: SocketAddr, inbound: bool) {
        let contact = Contact {
            inbound,
            allowed: true,
        };
        match self.contacts.get_mut(&remote) {
            Some(known) if known.allowed || !inbound => return,
            Some(known) => *known = contact,
            None => {
                self.contacts.insert(remote, contact);
                self.contacts_in_order.push_back(remote);
            }
        }
        if self.contacts_in_order.len() > MAX_CONTACTS
            && let Some(oldest) = self.contacts_in_order.pop_front()
        {
            self.contacts.remove(&oldest);
        }
    }

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
/// Remotes one socket remembers. A resolver or a proxy talks to hundreds; the oldest have to ask
/// again.
const MAX_CONTACTS: usize = 4_096;
