//! The control socket, by which `overlan status` and its kin command a running `overlan up` of the
//! same user: newline-delimited JSON over a Unix socket in the state directory. Decides who may
//! ask; what a request does is its handler's business.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::daemon::carry::{CARRIES_MAX, Happened};
use crate::daemon::perf;
use crate::device::state::{DirLock, StateDir};

use line::{parse, read_line, write_line};
use short_path::ShortPath;

mod call;

mod hand_over;

mod line;

mod message;

mod short_path;

pub use call::{CallError, call, call_and_follow, call_until_stopped, call_with_sockets};
pub use message::{PING_WITHIN_MAX, Refusal, RefusalKind, Request, Response};

/// The answer that a handler gives to a request.
pub enum Answer {
    /// It is answered.
    Now(Response),
    /// It takes its time, and tells how it goes.
    Running(Running<perf::Progress>),
    /// It needs sockets of the asker.
    Handing(Handing),
}

/// A request that is being carried out.
pub struct Running<T> {
    /// Does it; its output is the last answer. Dropped if the asker is gone.
    pub work: Pin<Box<dyn Future<Output = Response> + Send>>,
    /// The progress that is reported meanwhile.
    pub progress: mpsc::Receiver<T>,
    /// Cancelled when the asker closes its side, or the client stops: the work should come to its
    /// end.
    pub stop: CancellationToken,
}

/// A request that waits for the asker's sockets.
pub struct Handing {
    /// Their number; at most [`SOCKETS_MAX`](crate::daemon::carry::SOCKETS_MAX).
    pub sockets: usize,
    /// Carries it out with exactly so many.
    pub begin: Box<dyn FnOnce(Vec<OwnedFd>) -> Running<Happened> + Send>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// The reason for which there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else lies in its place.
    #[error("{} is in the way: it is not a socket; move it away", .0.display())]
    Occupied(PathBuf),
    /// The operating system refuses.
    #[error("cannot listen on the control socket {}: {source}", path.display())]
    Io {
        /// The address or path.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
}

/// The listening side. Dropping it removes the socket file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    limits: ConnectionLimits,
}

/// The connections of those who wait until the client has stopped; dropping this closes them.
#[derive(Debug)]
pub struct StopWaiters {
    _connections: Vec<BufStream<UnixStream>>,
}

impl ControlSocket {
    /// Listens in `state`. The lock is the proof that a socket file which is there already is left
    /// from a dead process.
    pub fn bind(state: &StateDir, _lock: &DirLock) -> Result<Self, BindError> {
        let path = state.socket_path();
        let failed = |source| BindError::Io {
            path: path.clone(),
            source,
        };
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => {
                fs::remove_file(&path).map_err(failed)?;
            }
            Ok(_) => return Err(BindError::Occupied(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let short = ShortPath::of(&path).map_err(failed)?;
        let listener = UnixListener::bind(short.path()).map_err(failed)?;
        // Until here the directory's mode alone keeps others out.
        fs::set_permissions(&path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Self {
            listener,
            path,
            limits: ConnectionLimits::default(),
        })
    }

    /// Answers every request with what `handler` makes of it, until `stop`. A request that is being
    /// handled is still answered.
    pub async fn run<H, F, A>(self, handler: H, stop: CancellationToken) -> StopWaiters
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = A> + Send + 'static,
        A: Into<Answer> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let mut connections = JoinSet::new();
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // A full house waits in the kernel's backlog.
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) if is_allowed(&stream) => {
                        let handler = Arc::clone(&handler);
                        connections.spawn(serve(stream, handler, stop.clone(), self.limits));
                    }
                    Ok(_) => tracing::debug!("another user asked on the control socket"),
                    Err(error) => {
                        tracing::debug!(%error, "the control socket cannot accept");
                        // Out of file descriptors, most likely: asking again at once would only
                        // burn the processor.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => keep_open(ended, &mut waiting),
            }
        }
        while let Some(ended) = connections.join_next().await {
            keep_open(ended, &mut waiting);
        }
        StopWaiters {
            _connections: waiting,
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket's file stays");
        }
    }
}

/// A connection that was open when the client began to stop stays open until it has stopped.
fn keep_open(
    ended: Result<Option<BufStream<UnixStream>>, JoinError>,
    waiting: &mut Vec<BufStream<UnixStream>>,
) {
    match ended {
        Ok(connection) => waiting.extend(connection),
        Err(error) => tracing::debug!(%error, "a connection of the control socket failed"),
    }
}

/// One connection. Returns it if it is open when the client stops.
async fn serve<H, F, A>(
    stream: UnixStream,
    handler: Arc<H>,
    stop: CancellationToken,
    limits: ConnectionLimits,
) -> Option<BufStream<UnixStream>>
where
    H: Fn(Request) -> F,
    F: Future<Output = A>,
    A: Into<Answer>,
{
    let mut stream = BufStream::new(stream);
    loop {
        let line = tokio::select! {
            () = stop.cancelled() => return Some(stream),
            line = timeout(limits.line_within, read_line(&mut stream, limits.line_max)) => line,
        };
        let answer = match line {
            Ok(Ok(Some(line))) => match parse(&line) {
                Ok(request) => match handler(request).await.into() {
                    Answer::Now(response) => response,
                    Answer::Running(running) => follow(running, &mut stream, &stop, limits).await?,
                    Answer::Handing(handing) => {
                        let asked = write_line(&mut stream, &Response::SendSockets);
                        timeout(limits.line_within, asked).await.ok()?.ok()?;
                        let sockets = hand_over::receive(stream.get_ref(), handing.sockets);
                        match timeout(limits.line_within, sockets).await.ok()? {
                            Ok(sockets) => {
                                let running = (handing.begin)(sockets);
                                follow(running, &mut stream, &stop, limits).await?
                            }
                            Err(error) => not_understood(&error.to_string()),
                        }
                    }
                },
                Err(error) => not_understood(&error.to_string()),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let answer = not_understood(&error.to_string());
                let _last = timeout(limits.line_within, write_line(&mut stream, &answer)).await;
                return None;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return None,
        };
        match timeout(limits.line_within, write_line(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

/// Lets a request be carried out and tells the asker how it goes. `None` if it is gone.
async fn follow<T: Into<Response>>(
    running: Running<T>,
    stream: &mut BufStream<UnixStream>,
    stop: &CancellationToken,
    limits: ConnectionLimits,
) -> Option<Response> {
    let Running {
        mut work,
        mut progress,
        stop: stop_work,
    } = running;
    loop {
        let told = tokio::select! {
            biased;
            Some(told) = progress.recv() => told,
            last = &mut work => return Some(last),
            () = stop.cancelled(), if !stop_work.is_cancelled() => {
                stop_work.cancel();
                continue;
            }
            // Whatever it says, or that it says no more: it wants the end.
            _ = stream.fill_buf(), if !stop_work.is_cancelled() => {
                stop_work.cancel();
                continue;
            }
        };
        let line: Response = told.into();
        match timeout(limits.line_within, write_line(stream, &line)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

fn not_understood(reason: &str) -> Response {
    Response::Refused(Refusal {
        kind: RefusalKind::NotUnderstood,
        message: format!(
            "the running `overlan up` (version {}) does not understand the request: {reason}; \
             restart it with the version of this command",
            env!("CARGO_PKG_VERSION")
        ),
        next: None,
    })
}

fn is_allowed(stream: &UnixStream) -> bool {
    let us = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| may_command(peer.uid(), us))
}

/// The user who runs the client, and the superuser, who could anyway.
fn may_command(peer: u32, us: u32) -> bool {
    peer == us || peer == 0
}

/// The limits of one connection.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    /// Longest request, bytes.
    line_max: usize,
    /// Time for one request to arrive, and for one answer to be taken.
    line_within: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            line_max: REQUEST_MAX,
            line_within: REQUEST_WITHIN,
        }
    }
}

/// Longest request, bytes: the longest regular one is far below 1 KiB.
const REQUEST_MAX: usize = 64 * 1024;

/// Time for one request to arrive: the asker is a program on this host.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// Askers at the same time: commands typed by one user, and the `nc` below each of a user's ssh
/// sessions.
const CONNECTIONS_MAX: usize = CARRIES_MAX + 64;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The owner may ask.
const SOCKET_MODE: u32 = 0o600;

#[cfg(test)]
mod tests;
