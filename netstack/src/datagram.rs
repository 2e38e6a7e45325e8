//! UDP as programs see it; decides nothing.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::core::{Core, Mailbox};
use crate::error::BindError;
use crate::packet;

/// Sends and receives datagrams on one port of every address of its stack. Full queues lose the
/// oldest datagrams.
pub struct UdpSocket {
    core: Arc<Core>,
    mailbox: Arc<Mailbox>,
}

impl UdpSocket {
    pub(crate) fn new(core: Arc<Core>, port: u16) -> Result<UdpSocket, BindError> {
        let mailbox = core.mailboxes.bind(port, core.random())?;
        Ok(UdpSocket { core, mailbox })
    }

    /// The port it is bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.mailbox.port
    }

    /// The largest payload that fits into one packet to `remote`, in bytes.
    #[must_use]
    pub fn max_payload(&self, remote: SocketAddr) -> usize {
        self.core.config.mtu - packet::udp_overhead(remote.ip())
    }

    /// Queues one datagram for `remote`. Unless it answers one from there, datagrams from there are
    /// let in from now on.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit into one packet or is for port 0; `AddrNotAvailable` if
    /// the stack has no address of that family; `PermissionDenied` if the stack's owner does not
    /// want it.
    pub fn send_to(&self, data: &[u8], remote: SocketAddr) -> io::Result<usize> {
        let core = &self.core;
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
                "a datagram cannot be sent to port 0",
            ));
        }
        let local = core
            .local_address_for(remote.ip())
            .filter(|_| packet::is_host(remote.ip()))
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let remote = SocketAddr::new(remote.ip(), remote.port());
        let is_allowed = match self.mailbox.contact(remote) {
            Some(contact) => contact.allowed,
            None => core.shell.may_send(self.mailbox.port, remote),
        };
        if !is_allowed {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let Some(path) = core.path(remote.ip()) else {
            core.counters.drops.remotes.add(1);
            return Ok(data.len());
        };
        self.mailbox.remember(remote);
        let packet = packet::udp_datagram(SocketAddr::new(local, self.mailbox.port), remote, data);
        let pushed = path.queue().push_datagram(packet, core.config.mtu);
        core.counters.drops.datagram_queue.add(pushed.dropped);
        if pushed.announce {
            core.shell.packets_ready(remote.ip());
        }
        Ok(data.len())
    }

    /// Tells `remote` that nobody serves this port, as if it were closed. Nothing happens beyond
    /// the rate of such answers.
    pub fn refuse(&self, now: Instant, remote: SocketAddr) {
        let core = &self.core;
        let Some(local) = core.local_address_for(remote.ip()) else {
            return;
        };
        let asked = packet::udp_datagram(remote, SocketAddr::new(local, self.mailbox.port), &[]);
        core.answer(core.ticks(now), remote.ip(), || {
            packet::port_unreachable(local, remote.ip(), &asked)
        });
    }

    /// The next datagram and its sender. Bytes that do not fit into `data` are lost.
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
        self.mailbox.poll_take(cx, data)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As for [`UdpSocket::recv_from`], and `WouldBlock` if there is nothing.
    pub fn try_recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.mailbox
            .take(data)
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.core.mailboxes.remove(self.mailbox.port);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("port", &self.mailbox.port)
            .finish_non_exhaustive()
    }
}
