//! Takes connections from a listener of the host, up to a limit, and owns their tasks. What a connection says is others'.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// A listening socket of the host.
pub(crate) trait Listener {
    /// What it gives.
    type Stream;
    /// Who is at the other end.
    type Client;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Client = SocketAddr;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    /// Who may open the socket's file may connect, and programs have no names there.
    type Client = ();

    async fn next(&self) -> io::Result<(UnixStream, ())> {
        let (stream, _) = self.accept().await?;
        Ok((stream, ()))
    }
}

/// One that another task listens on, too, before or after.
impl<L: Listener + Send + Sync> Listener for Arc<L> {
    type Stream = L::Stream;
    type Client = L::Client;

    async fn next(&self) -> io::Result<(L::Stream, L::Client)> {
        L::next(self).await
    }
}

/// How long a door is open, and how long those who came in may stay.
#[derive(Debug, Clone)]
pub struct Until {
    /// Nobody is let in any more; who is in stays.
    pub closed: CancellationToken,
    /// Connections end. It closes the door, too.
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

/// Runs `serve` for every connection that gets a permit of `room`, until the door is closed; then lets go of the listener and
/// returns when all connections have ended, by themselves or with `until`. While there is no room, connections wait in the
/// listener's backlog.
pub(crate) async fn run<L, H, F>(listener: L, room: Arc<Semaphore>, until: &Until, serve: H)
where
    L: Listener,
    H: Fn(L::Stream, L::Client) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.next().await)
        };
        tokio::select! {
            () = until.closed.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            (place, accepted) = next => match accepted {
                Ok((stream, client)) => {
                    let served = serve(stream, client);
                    let ended = until.ended.clone();
                    connections.spawn(async move {
                        ended.run_until_cancelled(served).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    debug!(%error, "accepting a connection failed");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// Gives connections that `socket` takes, or its own if it is one, at most `bytes` in the kernel for each direction.
pub(crate) fn limit_buffers(socket: &impl AsFd, bytes: usize) {
    let socket = SockRef::from(socket);
    let limited = socket
        .set_recv_buffer_size(bytes)
        .and_then(|()| socket.set_send_buffer_size(bytes));
    if let Err(error) = limited {
        debug!(%error, "the buffers of a socket stay as they are");
    }
}

/// Connections that one door may serve: half of the file descriptors that this process may open, so that another door and the
/// tunnels have theirs.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = files.saturating_sub(FILES_KEPT) / 2;
    usize::try_from(share).map_or(CONNECTIONS_MAX, |share| share.clamp(1, CONNECTIONS_MAX))
}

/// A panic ends its own connection only, and is never silent.
pub(crate) fn report(ended: Result<(), JoinError>) {
    if let Err(panic) = ended
        && panic.is_panic()
    {
        error!(%panic, "the task of a connection failed");
    }
}

/// File descriptors for tunnels, resolver, state and logs.
const FILES_KEPT: u64 = 128;

/// Connections of one door however many files there may be: one flow each, within what the netstack takes.
const CONNECTIONS_MAX: usize = 16_384;

/// After a failing system call, most likely for lack of file descriptors, before the next.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
