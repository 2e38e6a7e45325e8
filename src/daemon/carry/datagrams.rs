//! UDP between the overlay and one socket, or many programs of this host. Decides when a carry with
//! one socket ends; [`sessions`] keeps those of many programs apart.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use overlan_netstack as netstack;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::mpsc;

use super::{CarryError, Happened, tell};
use crate::device::node::Node;
use crate::host::accept::Until;
use crate::host::sessions::{self, Back, DATAGRAM_MAX, Front, SESSIONS_MAX, SessionLimits};
use crate::host::shares::SOURCES_AT_LEAST;
use crate::names::DialError;

/// Copies datagrams in both directions between `local` and `remote`, from which `first` has already
/// come. Ends when the other end of `local` is closed, or the remote reports that its port is
/// closed.
pub(super) async fn copy(
    local: &UnixDatagram,
    overlay: &netstack::UdpSocket,
    remote: SocketAddr,
    first: Option<Vec<u8>>,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let connected = Happened::Connected {
        remote,
        datagram_max: overlay.max_payload(remote),
    };
    tell(events, connected).await;
    if let Some(first) = first
        && deliver(local, &first).is_err()
    {
        return Ok(());
    }
    let peer = tracing::debug_span!("peer", address = %remote);
    let mut outbound = vec![0; DATAGRAM_MAX];
    let mut inbound = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            read = local.recv(&mut outbound) => {
                let Ok(len) = read else { return Ok(()) };
                if let Err(error) = overlay.send_to(&outbound[..len], remote) {
                    peer.in_scope(|| tracing::debug!(%error, "a datagram was not sent"));
                }
            }
            received = overlay.recv_from(&mut inbound) => match received {
                Ok((len, from)) if from == remote => {
                    if deliver(local, &inbound[..len]).is_err() {
                        return Ok(());
                    }
                }
                Ok((_, from)) => peer.in_scope(|| {
                    tracing::debug!(%from, "a datagram of another peer was dropped");
                }),
                Err(_) => return Err(CarryError::Dial(DialError::Refused)),
            },
        }
    }
}

/// Does the same with the peer that sends the first datagram to `port`.
pub(super) async fn accept(
    node: &Node,
    port: u16,
    local: &UnixDatagram,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let sockets = node
        .bind_udp_each(port)
        .map_err(|_| CarryError::PortTaken(port))?;
    if sockets.is_empty() {
        return Err(CarryError::NoNetwork);
    }
    tell(events, Happened::Listening).await;
    let mut data = vec![0; DATAGRAM_MAX];
    let (overlay, len, remote) = poll_fn(|cx| {
        for socket in &sockets {
            if let Poll::Ready(Ok((len, remote))) = socket.poll_recv_from(cx, &mut data) {
                return Poll::Ready((socket, len, remote));
            }
        }
        Poll::Pending
    })
    .await;
    data.truncate(len);
    copy(local, overlay, remote, Some(data), events).await
}

/// Carries `until` the end between programs that send to `local`, as far as `admits` admits them,
/// and the socket that `open` makes for each. Where `everybody` may come in, one address gets a
/// quarter of the sessions.
pub(super) async fn forward<A, F, O>(
    local: UdpSocket,
    everybody: bool,
    admits: A,
    open: O,
    until: &Until,
) where
    A: Fn(SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send,
    O: Fn() -> Option<(netstack::UdpSocket, SocketAddr)> + Clone + Send + Sync + 'static,
{
    let limits = SessionLimits {
        all: SESSIONS_MAX,
        of_one_address: match everybody {
            true => SESSIONS_MAX / SOURCES_AT_LEAST,
            // All programs are of one user.
            false => SESSIONS_MAX,
        },
    };
    let open = move |_| {
        let opened = open();
        async move { opened.map(|(socket, remote)| ToPeer { socket, remote }) }
    };
    let local = Programs { local, admits };
    sessions::run(local, limits, open, until).await;
}

/// The programs of this host that send datagrams.
struct Programs<A> {
    local: UdpSocket,
    admits: A,
}

impl<A, F> Front for Programs<A>
where
    A: Fn(SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send,
{
    async fn recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.local.recv_from(data).await
    }

    async fn admits(&self, from: SocketAddr) -> bool {
        (self.admits)(from).await
    }

    fn send_to(&self, data: &[u8], to: SocketAddr) {
        let _sent = self.local.try_send_to(data, to);
    }

    /// Does nothing: the kernel cannot report a closed port to one sender of this socket.
    fn refuse(&self, _to: SocketAddr) {}
}

/// A port of a peer.
struct ToPeer {
    socket: netstack::UdpSocket,
    remote: SocketAddr,
}

impl Back for ToPeer {
    async fn recv(&self, data: &mut [u8]) -> io::Result<usize> {
        loop {
            let (len, from) = self.socket.recv_from(data).await?;
            if from == self.remote {
                return Ok(len);
            }
        }
    }

    fn send(&self, data: &[u8]) -> io::Result<()> {
        self.socket.send_to(data, self.remote).map(drop)
    }
}

/// Hands a datagram to the command. A slow command loses it; an error means that it is gone.
fn deliver(local: &UnixDatagram, data: &[u8]) -> io::Result<()> {
    match local.try_send(data) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
