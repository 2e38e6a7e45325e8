//! UDP between the overlay and one socket, or many programs of this host. Decides which session a datagram belongs to, and when one ends.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use overlan_netstack as netstack;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{CarryError, Happened, tell};
use crate::accept::report;
use crate::dial::DialError;
use crate::node::Node;

/// Both ways between `local` and `remote`, for ever; `first` came from there already. Ends when nobody holds the other end of `local`,
/// or the remote says that nobody is there.
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
    let mut outbound = vec![0; DATAGRAM_MAX];
    let mut inbound = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            read = local.recv(&mut outbound) => {
                let Ok(len) = read else { return Ok(()) };
                if let Err(error) = overlay.send_to(&outbound[..len], remote) {
                    tracing::debug!(%remote, %error, "a datagram is not sent");
                }
            }
            received = overlay.recv_from(&mut inbound) => match received {
                Ok((len, from)) if from == remote => {
                    if deliver(local, &inbound[..len]).is_err() {
                        return Ok(());
                    }
                }
                Ok((_, from)) => tracing::debug!(%from, "a datagram of somebody else"),
                Err(_) => return Err(CarryError::Dial(DialError::Refused)),
            },
        }
    }
}

/// The same with whichever peer sends the first datagram to `port`.
pub(super) async fn accept(
    node: &Node,
    port: u16,
    local: &UnixDatagram,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let sockets = node
        .bind_udp(port)
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

/// Carries between programs that send to `local` and `port` of a peer: one session, with an overlay port of its own, for each address
/// that something comes from. Never returns.
pub(super) async fn forward(
    local: UdpSocket,
    open: impl Fn() -> Result<(netstack::UdpSocket, SocketAddr), CarryError>,
    failed: impl Fn(&CarryError),
) {
    let local = Arc::new(local);
    let mut sessions: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut data = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                sessions.retain(|_, session| session.overlay.strong_count() > 0);
                report(ended);
            }
            received = local.recv_from(&mut data) => {
                // An answer to a program that is gone comes back as an error; it is nobody's.
                let Ok((len, program)) = received else { continue };
                let known = sessions.get(&program).and_then(|session| {
                    session.used.send_replace(Instant::now());
                    Some((session.overlay.upgrade()?, session.remote))
                });
                let (overlay, remote) = match known {
                    Some(known) => known,
                    None => {
                        if sessions.len() >= SESSIONS_MAX {
                            forget_oldest(&mut sessions);
                        }
                        let (overlay, remote) = match open() {
                            Ok((overlay, remote)) => (Arc::new(overlay), remote),
                            Err(error) => {
                                failed(&error);
                                continue;
                            }
                        };
                        let used = watch::Sender::new(Instant::now());
                        tasks.spawn(answers(local.clone(), program, overlay.clone(), remote, used.subscribe()));
                        let session = Session { overlay: Arc::downgrade(&overlay), remote, used };
                        sessions.insert(program, session);
                        (overlay, remote)
                    }
                };
                if let Err(error) = overlay.send_to(&data[..len], remote) {
                    tracing::debug!(%program, %remote, %error, "a datagram is not forwarded");
                }
            }
        }
    }
}

/// What one program of this host sends to a peer. Its task holds the socket; dropping `used` ends the task.
struct Session {
    overlay: std::sync::Weak<netstack::UdpSocket>,
    remote: SocketAddr,
    /// When the program last sent.
    used: watch::Sender<Instant>,
}

/// The one whose program was silent for the longest time makes room.
fn forget_oldest(sessions: &mut BTreeMap<SocketAddr, Session>) {
    let oldest = sessions
        .iter()
        .min_by_key(|(_, session)| *session.used.borrow());
    if let Some(program) = oldest.map(|(program, _)| *program) {
        sessions.remove(&program);
    }
}

/// Carries what the peer answers until both sides were silent for [`IDLE`].
async fn answers(
    local: Arc<UdpSocket>,
    program: SocketAddr,
    overlay: Arc<netstack::UdpSocket>,
    remote: SocketAddr,
    mut used: watch::Receiver<Instant>,
) {
    let mut data = vec![0; DATAGRAM_MAX];
    let mut answered = Instant::now();
    loop {
        let last = (*used.borrow_and_update()).max(answered);
        tokio::select! {
            () = sleep_until(last + IDLE) => return,
            changed = used.changed() => if changed.is_err() { return },
            received = overlay.recv_from(&mut data) => match received {
                Ok((len, from)) if from == remote => {
                    answered = Instant::now();
                    // A program that is gone or slow loses datagrams, as everywhere in UDP.
                    let _sent = local.try_send_to(&data[..len], program);
                }
                Ok(_) | Err(_) => {}
            },
        }
    }
}

/// Hands a datagram to the asker. One that is slow loses it; an error means that it is gone.
fn deliver(local: &UnixDatagram, data: &[u8]) -> io::Result<()> {
    match local.try_send(data) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Longest datagram of IP, bytes.
const DATAGRAM_MAX: usize = 65_535;

/// Silence after which a session ends: the least that RFC 4787 lets a NAT have.
const IDLE: Duration = Duration::from_secs(120);

/// Sessions of one forward: as many programs, or queries of one resolver, as send within [`IDLE`] on one host. Each has a buffer.
const SESSIONS_MAX: usize = 512;
