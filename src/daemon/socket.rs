//! The control socket, by which `overlan status` and its kin command a running `overlan up` of the same user: newline-delimited
//! JSON over a Unix socket in the state directory. Decides who may ask; what a request does is its handler's business.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::daemon::carry::{CARRIES_MAX, Carry, Happened};
use crate::daemon::perf;
use crate::device::node::{Pong, Whois};
use crate::device::state::{DirLock, StateDir};
use crate::device::status::Status;
use crate::doors::dns::explain::Explained;
use crate::doors::serve::service::{Serve, Transport};

mod call;

mod hand_over;

pub use call::{CallError, call, call_and_follow, call_until_stopped, call_with_sockets};

/// What a running client is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How it is: [`Response::Status`].
    Status,
    /// Stop: [`Response::Done`], then the connection closes when it has stopped.
    Down,
    /// Remove the device at the controller and here, then stop as by [`Request::Down`].
    Logout,
    /// Publish a local service, now and at every start: [`Response::Done`].
    ServeAdd(Serve),
    /// Publish it no longer: [`Response::Done`].
    ServeRemove {
        /// Overlay port.
        port: u16,
        /// Only what travels so; nothing = both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Transport>,
    },
    /// Offer to lead to hosts behind this one, now and at every start: [`Response::Done`].
    RouteAdd(OfferedRoute),
    /// Withdraw that: [`Response::Done`].
    RouteRemove(GatewayRoute),
    /// Which program runs: [`Response::Version`].
    Version,
    /// Measure the way to a peer: [`Response::Progress`] again and again, at last [`Response::Measured`]. The asker ends it early by
    /// closing its side.
    Perf {
        /// Full name or address of the peer.
        peer: String,
        /// Overlay port of the peer.
        port: u16,
        /// What is measured.
        plan: perf::Plan,
    },
    /// Let peers measure until the asker closes its side: [`Response::Progress`] again and again, at last [`Response::Done`].
    PerfServe {
        /// Overlay port.
        port: u16,
    },
    /// Carry bytes between the overlay and sockets that the asker hands over after [`Response::SendSockets`]:
    /// [`Response::Happened`] again and again, at last [`Response::Done`]. The asker ends it early by closing its side.
    Carry(Carry),
    /// Ask a peer for an echo: [`Response::Pong`]. The asker ends it early by closing its side.
    Ping {
        /// Label, full name or address of the peer.
        peer: String,
        /// How long an answer is waited for, milliseconds; at most [`PING_WITHIN_MAX`].
        within_ms: u32,
    },
    /// Who has an address: [`Response::Whois`].
    Whois {
        /// Label, full name or address of a device.
        peer: String,
    },
    /// What the resolver answers: [`Response::DnsAnswer`].
    DnsQuery {
        /// The whole name.
        name: String,
        /// Type of record, such as `A`.
        kind: String,
    },
}

/// What a running client answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// How it is.
    Status(Box<Status>),
    /// Version of the program that runs.
    Version(String),
    /// What happens; another answer follows.
    Progress(perf::Progress),
    /// What was measured.
    Measured(Box<perf::Report>),
    /// The sockets of a [`Request::Carry`] are awaited now; another answer follows.
    SendSockets,
    /// What happens with them; another answer follows.
    Happened(Happened),
    /// The peer answered.
    Pong(Pong),
    /// Who has the address.
    Whois(Box<Whois>),
    /// What the resolver answers, and why.
    DnsAnswer(Box<Explained>),
    /// It is not done.
    Refused(Refusal),
}

/// What a handler makes of a request.
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
    /// What is told meanwhile.
    pub progress: mpsc::Receiver<T>,
    /// Cancelled when the asker closes its side, or the client stops: the work should come to its end.
    pub stop: CancellationToken,
}

/// A request that waits for the asker's sockets.
pub struct Handing {
    /// How many; at most [`SOCKETS_MAX`](crate::daemon::carry::SOCKETS_MAX).
    pub sockets: usize,
    /// Carries it out with exactly so many.
    pub begin: Box<dyn FnOnce(Vec<OwnedFd>) -> Running<Happened> + Send>,
}

impl From<perf::Progress> for Response {
    fn from(progress: perf::Progress) -> Self {
        Self::Progress(progress)
    }
}

impl From<Happened> for Response {
    fn from(happened: Happened) -> Self {
        Self::Happened(happened)
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// What kind, for programs.
    pub kind: RefusalKind,
    /// What happened and why.
    pub message: String,
    /// What to do next, where the message does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One kind per thing that the asker does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request is not understood: another version of the program runs.
    NotUnderstood,
    /// What is asked for contradicts what is there.
    Conflict,
    /// The controller is needed and cannot be reached.
    ControllerUnreachable,
    /// The policy forbids it.
    Denied,
    /// It took too long.
    TimedOut,
    /// No relay leads to where it goes.
    RelayUnreachable,
    /// The client is on its way down.
    Stopping,
    /// It failed.
    Failed,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else lies in its place.
    #[error("{} is in the way: it is not a socket; move it away", .0.display())]
    Occupied(PathBuf),
    /// The operating system refuses.
    #[error("cannot listen on the control socket {}: {source}", path.display())]
    Io {
        /// Where.
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
    limits: Limits,
}

/// The connections of those who wait until the client has stopped; dropping this closes them.
#[derive(Debug)]
pub struct StopWaiters {
    _connections: Vec<BufStream<UnixStream>>,
}

impl ControlSocket {
    /// Listens in `state`. The lock is the proof that a socket file which is there already is left from a dead process.
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
            limits: Limits::default(),
        })
    }

    /// Answers every request with what `handler` makes of it, until `stop`. A request that is being handled is still answered.
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
                        // Out of file descriptors, most likely: asking again at once would only burn the processor.
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
    limits: Limits,
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
    limits: Limits,
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
            "the running `overlan up` (version {}) does not understand the request: {reason}; restart it with the version of this command",
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

async fn write_line<T: Serialize>(stream: &mut BufStream<UnixStream>, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// A whole line; `None` at a regular end; [`io::ErrorKind::InvalidData`] if it exceeds `max` bytes.
async fn read_line(stream: &mut BufStream<UnixStream>, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let whole = read_on(stream, &mut line, max).await?;
    Ok(whole.then_some(line))
}

/// Reads on until `line` is whole; whether it is. Can be dropped and called again.
async fn read_on(
    stream: &mut BufStream<UnixStream>,
    line: &mut Vec<u8>,
    max: usize,
) -> io::Result<bool> {
    let room = (max + 1).saturating_sub(line.len());
    stream.take(room as u64).read_until(b'\n', line).await?;
    if line.len() > max {
        let text = format!("it exceeds {max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(line.ends_with(b"\n"))
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}

/// A socket's path in a form that fits a socket address, however deep the directory lies.
#[derive(Debug)]
enum ShortPath {
    Fits(PathBuf),
    /// Linux shows an open directory under a short name while it is open.
    ByDirectory {
        _directory: File,
        path: PathBuf,
    },
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
            return Ok(Self::Fits(path.to_owned()));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let directory = File::open(parent)?;
        let descriptors = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        if !descriptors.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                format!(
                    "its path exceeds {SOCKET_PATH_MAX} bytes and there is no /proc to shorten it; use a shorter --state-dir"
                ),
            ));
        }
        Ok(Self::ByDirectory {
            _directory: directory,
            path: descriptors.join(name),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Fits(path) | Self::ByDirectory { path, .. } => path,
        }
    }
}

/// What one connection may cost.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Longest request, bytes.
    line_max: usize,
    /// Time for one request to arrive, and for one answer to be taken.
    line_within: Duration,
}

impl Default for Limits {
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

/// Askers at the same time: commands typed by one user, and the `nc` below each of a user's ssh sessions.
const CONNECTIONS_MAX: usize = CARRIES_MAX + 64;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest path of a Unix socket, bytes, without the terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// The owner may ask.
const SOCKET_MODE: u32 = 0o600;

/// Longest wait for one answer to a [`Request::Ping`].
pub const PING_WITHIN_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
