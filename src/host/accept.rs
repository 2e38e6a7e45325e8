//! Takes connections from a listener of the host or of the overlay, up to a limit, and owns their
//! tasks. The protocol is the caller's business.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlan_netstack as overlay;
use overlan_transport::clock::now;
use overlan_transport::reminder::Reminder;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::host::shares::{SharePermit, Shares};
use crate::host::sockets;

pub use full_door::{FullDoor, Lack};
pub use vacancy::Vacancies;
pub(crate) use vacancy::Vacancy;

mod full_door;
mod vacancy;

/// A listening socket of the host, or a port of the overlay.
pub(crate) trait AcceptFrom {
    /// The connection that it gives.
    type Stream;
    /// The client at the other end.
    type Client;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

impl AcceptFrom for TcpListener {
    type Stream = TcpStream;
    type Client = SocketAddr;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, client) = self.accept().await?;
        sockets::prepare(&stream);
        Ok((stream, client))
    }
}

impl AcceptFrom for UnixListener {
    type Stream = UnixStream;
    /// Every program that may open the socket's file may connect, and programs have no names there.
    type Client = ();

    async fn next(&self) -> io::Result<(UnixStream, ())> {
        let (stream, _) = self.accept().await?;
        Ok((stream, ()))
    }
}

/// A listener that another task listens on, too, before or after.
impl<L: AcceptFrom + Send + Sync> AcceptFrom for Arc<L> {
    type Stream = L::Stream;
    type Client = L::Client;

    async fn next(&self) -> io::Result<(L::Stream, L::Client)> {
        L::next(self).await
    }
}

/// The time that a door is open, and the time that its clients may stay.
#[derive(Debug, Clone)]
pub struct Until {
    /// Fires when nobody is let in any more; clients that are in stay.
    pub closed: CancellationToken,
    /// Fires when connections end. It closes the door, too.
    pub ended: CancellationToken,
}

impl From<CancellationToken> for Until {
    /// The door closes when connections end.
    fn from(ended: CancellationToken) -> Self {
        Self {
            closed: ended.child_token(),
            ended,
        }
    }
}

/// Runs `serve` for every connection that gets a permit of `room`, until the door is closed; then
/// lets go of the listener and returns when all connections have ended, by themselves or with
/// `until`. While there is no room, connections wait in the listener's backlog, and `vacancy` notes
/// it.
pub(crate) async fn run<L, H, F>(
    listener: L,
    room: Arc<Semaphore>,
    vacancy: &Vacancy,
    until: &Until,
    serve: H,
) where
    L: AcceptFrom,
    H: Fn(L::Stream, L::Client) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => Ok(place),
                Err(_) => {
                    vacancy.handle_places(Instant::now(), false);
                    Arc::clone(&room).acquire_owned().await
                }
            };
            vacancy.handle_places(Instant::now(), true);
            (place, listener.next().await)
        };
        tokio::select! {
            () = until.closed.cancelled() => break,
            () = until.ended.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            (place, accepted) = next => match accepted {
                Ok((stream, client)) => {
                    vacancy.handle_files(Instant::now(), true);
                    let served = serve(stream, client);
                    let ended = until.ended.clone();
                    connections.spawn(async move {
                        ended.run_until_cancelled(served).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    if sockets::is_shortage(&error) {
                        vacancy.handle_files(Instant::now(), false);
                    }
                    pause(&error).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// Runs `serve` for every connection of a peer, as many at once as `vacancy` says, as [`run`] does.
/// After the close, a new connection is refused and does not wait. So is one of a peer that has its
/// share.
pub(crate) async fn run_overlay<H, F>(
    listener: overlay::TcpListener,
    vacancy: &Vacancy,
    until: &Until,
    serve: H,
) where
    H: Fn(overlay::Incoming) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(vacancy.max()));
    let peers = Peers {
        listener,
        shares: Shares::of(vacancy.max()),
        full: Reminder::default(),
    };
    run(peers, room, vacancy, until, |incoming, share| {
        let served = serve(incoming);
        async move {
            served.await;
            drop(share);
        }
    })
    .await;
}

/// A port of the overlay, and each peer's share of its connections.
struct Peers {
    listener: overlay::TcpListener,
    shares: Arc<Shares>,
    full: Reminder,
}

impl AcceptFrom for Peers {
    type Stream = overlay::Incoming;
    type Client = SharePermit;

    async fn next(&self) -> io::Result<(overlay::Incoming, SharePermit)> {
        loop {
            let incoming = self.listener.accept().await;
            let remote = incoming.remote();
            if let Some(share) = self.shares.take(remote.ip().into()) {
                return Ok((incoming, share));
            }
            if let Some(times) = self.full.due(now()) {
                info!(
                    peer = %remote.ip(), port = self.listener.port(), times,
                    "a peer was refused: it has its share of this port's connections"
                );
            }
            incoming.refuse();
        }
    }
}

/// Waits a moment after accepting failed, and logs the failure where a person can do something
/// about it.
pub(crate) async fn pause(error: &io::Error) {
    sockets::note_shortage(error);
    debug!(%error, "accepting a connection failed");
    sleep(PAUSE).await;
}

/// A panic ends its own connection only, and is never silent.
pub(crate) fn report(ended: Result<(), JoinError>) {
    if let Err(panic) = ended
        && panic.is_panic()
    {
        error!(%panic, "the task of a connection failed");
    }
}

/// After a failing system call, most likely for lack of file descriptors, before the next.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
