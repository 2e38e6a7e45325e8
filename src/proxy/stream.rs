//! Streams as a proxy meets them: a client on TCP or on a Unix socket, bytes that were read too early, and when bytes last moved.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until};
use tokio_util::either::Either;
use tracing::debug;

use crate::splice::{Abort, splice};

/// A program of this host, or of another one that reaches the door.
pub(crate) type Client = Either<TcpStream, UnixStream>;

/// The first byte that a client sends, which stays unread; `None` if it closes without one.
pub(crate) async fn first_byte(client: &Client) -> io::Result<Option<u8>> {
    let mut first = [0];
    let len = match client {
        Either::Left(tcp) => tcp.peek(&mut first).await?,
        Either::Right(unix) => {
            let peek = || Ok(recv(unix, first.as_mut_slice(), RecvFlags::PEEK)?);
            let (len, _) = unix.async_io(Interest::READABLE, peek).await?;
            len
        }
    };
    Ok((len > 0).then_some(first[0]))
}

/// Moves bytes between a client and where it wanted to go until both have ended, or for `idle` no byte has moved in either
/// direction: then both are reset.
pub(crate) async fn carry<S>(client: Client, early: Bytes, mut stream: S, idle: Option<Duration>)
where
    S: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let spliced = if !early.is_empty() {
        let client = Early {
            early,
            inner: client,
        };
        carry_watched(client, stream, idle).await
    } else if idle.is_some() {
        carry_watched(client, stream, idle).await
    } else {
        // Every pair by its own types: how bytes move best is the splice's to know.
        match client {
            Either::Left(mut tcp) => Some(splice(&mut tcp, &mut stream).await),
            Either::Right(mut unix) => Some(splice(&mut unix, &mut stream).await),
        }
    };
    debug!(?spliced, "a connection ended");
}

async fn carry_watched<L, R>(
    mut client: L,
    mut stream: R,
    idle: Option<Duration>,
) -> Option<crate::splice::Spliced>
where
    L: AsyncRead + AsyncWrite + Abort + Unpin,
    R: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let Some(idle) = idle else {
        return Some(splice(&mut client, &mut stream).await);
    };
    let moves = Moves::new();
    let mut watched = Watched {
        inner: &mut client,
        moves: &moves,
    };
    tokio::select! {
        spliced = splice(&mut watched, &mut stream) => return Some(spliced),
        () = moves.idle_for(idle) => {}
    }
    client.abort();
    stream.abort();
    None
}

/// A stream of which some bytes were read already.
pub(crate) struct Early<S> {
    pub(crate) early: Bytes,
    pub(crate) inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Early<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..len]);
        self.early.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Early<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: Abort> Abort for Early<S> {
    fn abort(&self) {
        self.inner.abort();
    }
}

/// When bytes last moved, in milliseconds since the beginning.
#[derive(Clone)]
pub(crate) struct Moves {
    begin: Instant,
    last: Arc<AtomicU64>,
}

impl Moves {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: Arc::default(),
        }
    }

    pub(crate) fn note(&self) {
        let passed = self.begin.elapsed().as_millis();
        self.last
            .store(u64::try_from(passed).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns when nothing has moved for `idle`.
    pub(crate) async fn idle_for(&self, idle: Duration) {
        loop {
            let last = self.last.load(Relaxed);
            sleep_until(self.begin + Duration::from_millis(last) + idle).await;
            if self.last.load(Relaxed) == last {
                return;
            }
        }
    }
}

/// Notes when bytes move over a stream.
struct Watched<'a, S> {
    inner: &'a mut S,
    moves: &'a Moves,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.moves.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.inner).poll_write(cx, data);
        if written.is_ready() {
            self.moves.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

impl<S: Abort> Abort for Watched<'_, S> {
    fn abort(&self) {
        self.inner.abort();
    }
}

impl Abort for UnixStream {
    /// A Unix socket has no reset: whoever closes it with unread bytes gives the other end an error, otherwise an end.
    fn abort(&self) {}
}

impl<L: Abort, R: Abort> Abort for Either<L, R> {
    fn abort(&self) {
        match self {
            Self::Left(left) => left.abort(),
            Self::Right(right) => right.abort(),
        }
    }
}
