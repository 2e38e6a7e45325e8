//! The control socket, by which commands such as `overlan status` talk to a running `overlan up` of
//! the same user: newline-delimited JSON over a Unix socket in the state directory. Decides which
//! users may ask, and for how long; a handler carries out the requests.

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
use crate::host::accept;

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
    /// The request is done, with this response.
    Now(Response),
    /// The request takes its time, and reports its progress.
    Running(Running<perf::Progress>),
    /// The request needs sockets of the command.
    Handing(Handing),
}

/// A request that is being carried out.
pub struct Running<T> {
    /// The work; its output is the last response. It is dropped when the command is gone.
    pub work: Pin<Box<dyn Future<Output = Response> + Send>>,
    /// The progress to report meanwhile.
    pub progress: mpsc::Receiver<T>,
    /// Cancelled when the command closes its side, or this client stops: the work should end then.
    pub stop: CancellationToken,
}

/// A request that waits for sockets of the command.
pub struct Handing {
    /// The number of sockets; at most [`SOCKETS_MAX`](crate::daemon::carry::SOCKETS_MAX).
    pub sockets: usize,
    /// Begins the work with exactly so many sockets.
    pub begin: Box<dyn FnOnce(Vec<OwnedFd>) -> Running<Happened> + Send>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// The reason why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another kind of file has its name.
    #[error("{} is in the way: it is not a socket; move it away", .0.display())]
    Occupied(PathBuf),
    /// The operating system refuses.
    #[error("cannot listen on the control socket {}: {source}", path.display())]
    Io {
        /// The address or path.
        path: PathBuf,
        /// The system's reason.
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

/// The connections of commands that wait until this client has stopped. Dropping this closes them.
#[derive(Debug)]
pub struct StopWaiters {
    _connections: Vec<BufStream<UnixStream>>,
}

impl ControlSocket {
    /// Opens the socket in `state`. The lock proves that a socket file which is already there was
    /// left by a process that died.
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
        // Before this, the directory's mode alone keeps other users out.
        fs::set_permissions(&path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Self {
            listener,
            path,
            limits: ConnectionLimits::default(),
        })
    }

    /// Answers each request as `handler` does, until `stop`. Requests that have begun by then are
    /// still answered.
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
            // Connections beyond the limit wait in the kernel's backlog.
            let has_room = connections.len() < CONNECTIONS_MAX;
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) if is_allowed(&stream) => {
                        let handler = Arc::clone(&handler);
                        connections.spawn(serve(stream, handler, stop.clone(), self.limits));
                    }
                    Ok(_) => tracing::debug!("the control socket refused another user"),
                    Err(error) => accept::pause(&error).await,
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
            tracing::debug!(%error, "cannot remove the control socket");
        }
    }
}

/// Keeps a connection that was open when this client began to stop, until it has stopped.
fn keep_open(
    ended: Result<Option<BufStream<UnixStream>>, JoinError>,
    waiting: &mut Vec<BufStream<UnixStream>>,
) {
    match ended {
        Ok(connection) => waiting.extend(connection),
        Err(error) => tracing::debug!(%error, "a connection of the control socket failed"),
    }
}

/// Serves one connection. Returns it if it is still open when this client stops.
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

/// Runs the work of a request and reports its progress to the command; `None` if the command is
/// gone.
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
        let event = tokio::select! {
            biased;
            Some(event) = progress.recv() => event,
            last = &mut work => return Some(last),
            () = stop.cancelled(), if !stop_work.is_cancelled() => {
                stop_work.cancel();
                continue;
            }
            // Any byte of the command, or its end, asks for the end of the work.
            _ = stream.fill_buf(), if !stop_work.is_cancelled() => {
                stop_work.cancel();
                continue;
            }
        };
        let line: Response = event.into();
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

/// Returns true for the user who runs this client, and for root, who could ask anyway.
fn may_command(peer: u32, us: u32) -> bool {
    peer == us || peer == 0
}

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    /// Longest request, bytes.
    line_max: usize,
    /// Time for one request to arrive, and for one answer to be read.
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

/// Time for one request to arrive: the command is on this host.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// The number of commands at once: those that one user types, and an `nc` below each ssh session.
const CONNECTIONS_MAX: usize = CARRIES_MAX + 64;

/// Only the owner may ask.
const SOCKET_MODE: u32 = 0o600;

#[cfg(test)]
mod tests;
