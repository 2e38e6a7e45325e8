//! UDP sessions between one socket that many talk to and a socket of its own for each of them. Decides which session a datagram
//! belongs to, and when one ends; what the sockets are is others'.
//!
//! ```text
//! forward --udp   host socket    <── programs        each: overlay socket ──> one port of a peer
//! serve udp       overlay socket <── peers           each: host socket    ──> the service
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::accept::report;

/// The socket that many talk to.
pub(crate) trait Front: Send + Sync + 'static {
    /// The next datagram and who sent it. An error is about one of them, and the socket goes on.
    fn recv_from(
        &self,
        data: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends one datagram. Who is gone or slow loses it, as everywhere in UDP.
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

/// Carries between those who send to `front` and what `open` gives for each of them, at most `max` at once. Never returns; dropping it
/// ends every session. Whom `open` gives nothing is refused.
pub(crate) async fn run<F, B, O, T>(front: F, max: usize, open: O)
where
    F: Front,
    B: Back,
    O: Fn(SocketAddr) -> T + Clone + Send + 'static,
    T: Future<Output = Option<B>> + Send,
{
    let front = Arc::new(front);
    let mut sessions: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut data = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                sessions.retain(|_, session| !session.datagrams.is_closed());
                report(ended);
            }
            received = front.recv_from(&mut data) => {
                // An answer to somebody who is gone comes back as an error; it is nobody's.
                let Ok((len, from)) = received else { continue };
                let session = sessions.get_mut(&from).filter(|session| !session.datagrams.is_closed());
                let session = match session {
                    Some(session) => session,
                    None => {
                        if sessions.len() >= max {
                            forget_oldest(&mut sessions);
                        }
                        let (datagrams, waiting) = mpsc::channel(WAITING_MAX);
                        let (front, open) = (front.clone(), open.clone());
                        tasks.spawn(async move {
                            match open(from).await {
                                Some(back) => carry(&*front, from, &back, waiting).await,
                                None => front.refuse(from),
                            }
                        });
                        let session = Session { datagrams, used: Instant::now() };
                        sessions.entry(from).insert_entry(session).into_mut()
                    }
                };
                session.used = Instant::now();
                match session.datagrams.try_send(data[..len].to_vec()) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                        tracing::debug!(%from, "a datagram is not carried: the session is full, or ended just now");
                    }
                }
            }
        }
    }
}

/// What somebody sends. Dropping it ends the task of the session.
struct Session {
    datagrams: mpsc::Sender<Vec<u8>>,
    /// When a datagram last came.
    used: Instant,
}

/// The one that was silent for the longest time makes room.
fn forget_oldest(sessions: &mut BTreeMap<SocketAddr, Session>) {
    let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
    if let Some(from) = oldest.map(|(from, _)| *from) {
        sessions.remove(&from);
    }
}

/// Both ways, until both were silent for [`IDLE`], or the session was made to leave.
async fn carry<F: Front, B: Back>(
    front: &F,
    from: SocketAddr,
    back: &B,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
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
                match back.send(&datagram).or_else(|_| back.send(&datagram)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => front.refuse(from),
                    Err(error) => tracing::debug!(%from, %error, "a datagram is not carried"),
                }
            }
            received = back.recv(&mut data) => match received {
                Ok(len) => {
                    last = Instant::now();
                    front.send_to(&data[..len], from);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => front.refuse(from),
                Err(error) => {
                    tracing::debug!(%from, %error, "a UDP session broke");
                    return;
                }
            },
        }
    }
}

/// Longest datagram of IP, bytes.
pub(crate) const DATAGRAM_MAX: usize = 65_535;

/// Silence after which a session ends: the least that RFC 4787 lets a NAT have.
const IDLE: Duration = Duration::from_secs(120);

/// Sessions at once: as many programs, or queries of one resolver, as send within [`IDLE`]. Each has a buffer.
pub(crate) const SESSIONS_MAX: usize = 512;

/// Datagrams that wait for a session's socket: what comes while a name is looked up, and what a kernel would keep.
const WAITING_MAX: usize = 256;

#[cfg(test)]
mod tests;
