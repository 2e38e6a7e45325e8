//! UDP sessions between one socket that many talk to and a socket of its own for each of them.
//! Decides which session a datagram belongs to, and when one ends; the caller knows what the
//! sockets are.
//!
//! ```text
//! forward --udp   host socket    <── programs        each: overlay socket ──> one port of a peer
//! serve udp       overlay socket <── peers           each: host socket    ──> the service
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, debug_span};

use crate::host::accept::{Until, report};

/// The socket that many talk to.
pub(crate) trait Front: Send + Sync + 'static {
    /// Returns the next datagram and its sender. An error is about one of them, and the socket goes
    /// on.
    fn recv_from(
        &self,
        data: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Returns whether a datagram from there is taken at all. Asked before a session makes room for
    /// it, and again where one is still in use after a while: another program may have the address
    /// by then.
    fn admits(&self, _from: SocketAddr) -> impl Future<Output = bool> + Send {
        async { true }
    }

    /// Sends one datagram. A receiver that is gone or slow loses it, as everywhere in UDP.
    fn send_to(&self, data: &[u8], to: SocketAddr);

    /// Tells `to` that nobody is there, where the socket can say such a thing.
    fn refuse(&self, to: SocketAddr);
}

/// The socket of one session.
pub(crate) trait Back: Send + Sync + 'static {
    /// The next datagram from the other end. `ConnectionRefused` says that nobody is there now.
    fn recv(&self, data: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends one datagram there.
    ///
    /// # Errors
    /// As [`Back::recv`].
    fn send(&self, data: &[u8]) -> io::Result<()>;
}

/// The number of sessions at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    pub(crate) all: usize,
    /// Those of one address, whatever its ports.
    pub(crate) of_one_address: usize,
}

/// Carries datagrams between the senders to `front` and the socket that `open` gives for each of
/// them. A sender for which `open` gives nothing is refused, and after the close each one without a
/// session. Returns at the end of `until`, when every session has ended and nobody holds `front`
/// any more; dropping it ends the sessions without waiting for them.
pub(crate) async fn run<F, B, O, T>(front: F, limits: SessionLimits, open: O, until: &Until)
where
    F: Front,
    B: Back,
    O: Fn(SocketAddr) -> T + Clone + Send + 'static,
    T: Future<Output = Option<B>> + Send,
{
    let front = Arc::new(front);
    let space = Arc::new(Semaphore::new(WAITING_BYTES_ALL));
    let mut sessions: BTreeMap<SocketAddr, UdpSession> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut data = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            () = until.ended.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                sessions.retain(|_, session| !session.datagrams.is_closed());
                report(ended);
            }
            received = front.recv_from(&mut data) => {
                // An error about an answer to a sender that is gone comes back here, and concerns
                // nobody.
                let Ok((len, from)) = received else { continue };
                let session = sessions.get_mut(&from);
                let session = session.filter(|session| !session.datagrams.is_closed());
                if session.is_none() && until.closed.is_cancelled() {
                    front.refuse(from);
                    continue;
                }
                let is_known = session.as_ref().is_some_and(|it| it.was_admitted_just_now());
                if !is_known && !front.admits(from).await {
                    debug!(%from, "a datagram was dropped: its sender may not send");
                    continue;
                }
                let session = match session {
                    Some(session) => {
                        if !is_known {
                            session.admitted = Instant::now();
                        }
                        session
                    }
                    None => {
                        make_room(&mut sessions, &mut tasks, limits, from.ip()).await;
                        let (datagrams, waiting) = mpsc::channel(WAITING_MAX);
                        let (front, open) = (front.clone(), open.clone());
                        let carried = async move {
                            match open(from).await {
                                Some(back) => carry(&*front, from, &back, waiting).await,
                                None => front.refuse(from),
                            }
                        };
                        let task = tasks.spawn(carried.instrument(debug_span!("flow", %from)));
                        let session = UdpSession::new(datagrams, task);
                        sessions.entry(from).insert_entry(session).into_mut()
                    }
                };
                if !session.keep(&space, &data[..len]) {
                    debug!(
                        %from,
                        "a datagram was dropped: too much waits, or the session just ended"
                    );
                }
            }
        }
    }
    tasks.shutdown().await;
}

/// Lets an address have one more session: one that was silent for the longest time makes room, of
/// its own if it has its share.
async fn make_room(
    sessions: &mut BTreeMap<SocketAddr, UdpSession>,
    tasks: &mut JoinSet<()>,
    limits: SessionLimits,
    address: IpAddr,
) {
    sessions.retain(|_, session| !session.datagrams.is_closed());
    let its = |at: &SocketAddr| at.ip() == address;
    if sessions.keys().filter(|at| its(at)).count() >= limits.of_one_address {
        forget_oldest(sessions, its);
    }
    if sessions.len() >= limits.all {
        forget_oldest(sessions, |_| true);
    }
    // The task of a session that was forgotten ends soon, but only then its socket is gone.
    while tasks.len() >= limits.all
        && let Some(ended) = tasks.join_next().await
    {
        report(ended);
    }
}

fn forget_oldest(
    sessions: &mut BTreeMap<SocketAddr, UdpSession>,
    which: impl Fn(&SocketAddr) -> bool,
) {
    let some = sessions.iter().filter(|(from, _)| which(from));
    let oldest = some.min_by_key(|(_, session)| session.used);
    if let Some(from) = oldest.map(|(from, _)| *from) {
        sessions.remove(&from);
    }
}

/// The sending end of a session. Dropping it ends the task of the session, even one that still
/// waits for its socket.
struct UdpSession {
    datagrams: mpsc::Sender<PendingDatagram>,
    space: Arc<Semaphore>,
    /// The time of the last datagram.
    used: Instant,
    /// The time of the last question whether its sender may send.
    admitted: Instant,
    task: AbortHandle,
}

/// A datagram, and the space that it takes of its session and of all of them.
struct PendingDatagram {
    data: Vec<u8>,
    _space: [OwnedSemaphorePermit; 2],
}

impl UdpSession {
    fn new(datagrams: mpsc::Sender<PendingDatagram>, task: AbortHandle) -> Self {
        Self {
            datagrams,
            space: Arc::new(Semaphore::new(WAITING_BYTES)),
            used: Instant::now(),
            admitted: Instant::now(),
            task,
        }
    }

    fn was_admitted_just_now(&self) -> bool {
        self.admitted.elapsed() < ASK_AGAIN
    }

    /// Hands a datagram to the session if there is space; `false` drops it.
    fn keep(&mut self, space_of_all: &Arc<Semaphore>, data: &[u8]) -> bool {
        self.used = Instant::now();
        let take = |space: &Arc<Semaphore>| {
            let bytes = u32::try_from(data.len()).ok()?;
            space.clone().try_acquire_many_owned(bytes).ok()
        };
        let Some(space) = take(&self.space).zip(take(space_of_all)) else {
            return false;
        };
        let waiting = PendingDatagram {
            data: data.to_vec(),
            _space: space.into(),
        };
        self.datagrams.try_send(waiting).is_ok()
    }
}

impl Drop for UdpSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries both ways, until both were silent for [`IDLE`], or the session has to make room.
async fn carry<F: Front, B: Back>(
    front: &F,
    from: SocketAddr,
    back: &B,
    mut datagrams: mpsc::Receiver<PendingDatagram>,
) {
    let mut data = vec![0; DATAGRAM_MAX];
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(last + IDLE) => return,
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return };
                last = Instant::now();
                // The first error may be about an earlier datagram, and then this one was not sent.
                match back.send(&datagram.data).or_else(|_| back.send(&datagram.data)) {
                    Ok(()) => {}
                    Err(error) if is_refusal(&error) => front.refuse(from),
                    Err(error) => debug!(%error, "a datagram was not carried"),
                }
            }
            received = back.recv(&mut data) => match received {
                Ok(len) => {
                    last = Instant::now();
                    front.send_to(&data[..len], from);
                }
                Err(error) if is_refusal(&error) => front.refuse(from),
                Err(error) => {
                    debug!(%error, "a UDP session broke");
                    return;
                }
            },
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Longest datagram of IP, bytes.
pub(crate) const DATAGRAM_MAX: usize = 65_535;

/// Silence after which a session ends: the least that RFC 4787 lets a NAT have.
const IDLE: Duration = Duration::from_secs(120);

/// Time for which a sender that was admitted is believed to be the same program.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Sessions at once: as many programs, or queries of one resolver, as send within [`IDLE`]. Each
/// has a buffer.
pub(crate) const SESSIONS_MAX: usize = 512;

/// Datagrams that wait for a session's socket: what comes while a name is looked up, and what a
/// kernel would keep.
const WAITING_MAX: usize = 256;

/// Their bytes: as much as that in packets of the overlay, or three of the longest there are.
const WAITING_BYTES: usize = 256 << 10;

/// The same for all sessions of one port: sixteen that are full, as when the lookup of a name hangs
/// while many ask.
const WAITING_BYTES_ALL: usize = 4 << 20;

#[cfg(test)]
mod tests;
