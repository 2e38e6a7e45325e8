//! The commands' side of the control socket. Decides how long a command waits, and which answers
//! are errors.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::hand_over;
use super::line::{parse, read_line, read_on, write_line};
use super::message::{Refusal, Request, Response};
use super::short_path::ShortPath;
use crate::daemon::carry::Happened;
use crate::daemon::perf;

/// The reason why a command got no answer: one variant for each thing that it says or does
/// differently.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No `overlan up` runs with this state directory.
    #[error(
        "no `overlan up` runs with the state directory {}; start one, or give the right \
         --state-dir",
        directory(.0)
    )]
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    #[error(
        "{} belongs to another user; run this command as the user who runs `overlan up`",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// The client runs, but does not answer.
    #[error("the running `overlan up` did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The client ended before its last answer.
    #[error("the running `overlan up` ended meanwhile")]
    Ended,
    /// The client's answer cannot be parsed.
    #[error(
        "cannot read the answer of the running `overlan up` ({0}); it may be another version: \
         restart it"
    )]
    NotUnderstood(String),
    /// The operating system refuses.
    #[error("cannot ask the running `overlan up` by {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The client refuses the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn directory(socket: &Path) -> std::path::Display<'_> {
    socket.parent().unwrap_or(socket).display()
}

/// Asks the client that listens on `path`. A refusal is an error.
pub async fn call(path: &Path, request: &Request) -> Result<Response, CallError> {
    exchange(path, request, None, ANSWER_WITHIN).await
}

/// Asks as [`call`] does, then waits until the client has stopped: for [`Request::Down`] and
/// [`Request::Logout`].
pub async fn call_until_stopped(path: &Path, request: &Request) -> Result<Response, CallError> {
    exchange(path, request, Some(STOPPED_WITHIN), ANSWER_WITHIN).await
}

/// Asks for work that takes its time: [`Request::Perf`] or [`Request::PerfServe`]. `each` gets its
/// progress. When `stop` is ready, the client is asked to end the work, and its last answer is
/// still waited for.
pub async fn call_and_follow(
    path: &Path,
    request: &Request,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(perf::Progress),
) -> Result<Response, CallError> {
    let none = Vec::new();
    follow(path, request, none, stop, |answer| {
        if let Response::Progress(progress) = answer {
            each(progress);
            return None;
        }
        Some(answer)
    })
    .await
}

/// Asks for a [`Request::Carry`] and hands over `sockets`, which are then closed here. `each` gets
/// its events; `stop` is as for [`call_and_follow`].
pub async fn call_with_sockets(
    path: &Path,
    request: &Request,
    sockets: Vec<OwnedFd>,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(Happened),
) -> Result<Response, CallError> {
    follow(path, request, sockets, stop, |answer| {
        if let Response::Happened(happened) = answer {
            each(happened);
            return None;
        }
        Some(answer)
    })
    .await
}

/// Asks, and reads answers until `each` returns the last one.
async fn follow(
    path: &Path,
    request: &Request,
    sockets: Vec<OwnedFd>,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(Response) -> Option<Response>,
) -> Result<Response, CallError> {
    let mut stream = connect(path).await?;
    let failed = |source| call_failed(path, source);
    write_line(&mut stream, request).await.map_err(failed)?;
    let mut stop = std::pin::pin!(stop);
    let mut deadline = None;
    let mut line = Vec::new();
    let mut sockets = Some(sockets);
    loop {
        let rest = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = read_on(&mut stream, &mut line, ANSWER_MAX) => {
                let whole = read.map_err(failed)?;
                if !whole {
                    return Err(CallError::Ended);
                }
            }
            () = &mut stop, if deadline.is_none() => {
                stream.shutdown().await.map_err(failed)?;
                deadline = Some(tokio::time::Instant::now() + STOPPED_WITHIN);
                continue;
            }
            () = rest => return Err(CallError::TimedOut(STOPPED_WITHIN)),
        }
        let answer = understand(&line)?;
        line.clear();
        if answer == Response::SendSockets
            && let Some(sockets) = sockets.take()
        {
            hand_over::send(stream.get_ref(), &sockets)
                .await
                .map_err(failed)?;
        } else if let Some(last) = each(answer) {
            return Ok(last);
        }
    }
}

fn call_failed(path: &Path, source: io::Error) -> CallError {
    let kind = source.kind();
    let path = path.to_owned();
    if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused {
        CallError::NotRunning(path)
    } else if kind == io::ErrorKind::PermissionDenied {
        CallError::NotOurs(path)
    } else {
        CallError::Io { path, source }
    }
}

async fn connect(path: &Path) -> Result<BufStream<UnixStream>, CallError> {
    let failed = |source| call_failed(path, source);
    let short = ShortPath::of(path).map_err(failed)?;
    let stream = UnixStream::connect(short.path()).await.map_err(failed)?;
    Ok(BufStream::new(stream))
}

/// Parses an answer; a refusal becomes an error.
fn understand(line: &[u8]) -> Result<Response, CallError> {
    let answer = parse(line).map_err(|error| CallError::NotUnderstood(error.to_string()))?;
    if let Response::Refused(refusal) = answer {
        return Err(refusal.into());
    }
    Ok(answer)
}

pub(super) async fn exchange(
    path: &Path,
    request: &Request,
    until_closed: Option<Duration>,
    within: Duration,
) -> Result<Response, CallError> {
    let failed = |source| call_failed(path, source);
    let mut stream = connect(path).await?;
    let answer = async {
        write_line(&mut stream, request).await?;
        read_line(&mut stream, ANSWER_MAX).await
    };
    let line = timeout(within, answer)
        .await
        .map_err(|_| CallError::TimedOut(within))?
        .map_err(failed)?;
    let line = line.ok_or_else(|| CallError::NotUnderstood("it is empty".to_owned()))?;
    let answer = understand(&line)?;
    if let Some(within) = until_closed {
        // A closed connection, however it is closed, means that the client has stopped.
        let _closed = timeout(within, stream.read_u8())
            .await
            .map_err(|_| CallError::TimedOut(within))?;
    }
    Ok(answer)
}

/// Longest answer, bytes: the status of a network with some 50,000 peers.
pub(super) const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// Time for an answer: at a logout the node ends first, and then the controller has ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Time for a client to stop, since its open connections may deliver their last bytes.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
