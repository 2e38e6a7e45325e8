//! Streams as the proxy meets them: a client on TCP or on a Unix socket, bytes that were read too
//! early, the stream that a client wanted to reach, and the last word to one that is refused.
//! Speaks no protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use overlan_netstack as netstack;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;
use tracing::debug;

use crate::host::same_user;
use crate::host::splice::{
    Abort, HostSocket, Patience, PourInto, ResetOnDrop, Spliced, splice_within,
};

/// A program of this host, or of another one that reaches the door. Its stream ends with a reset
/// unless it is ended in order.
pub(crate) type Client = ResetOnDrop<Either<TcpStream, UnixStream>>;

/// The first byte that a client sends, which stays unread; `None` if it closes without one.
pub(crate) async fn first_byte(client: &Client) -> io::Result<Option<u8>> {
    let mut first = [0];
    let len = match client.get() {
        Either::Left(tcp) => tcp.peek(&mut first).await?,
        Either::Right(unix) => {
            let peek = || Ok(recv(unix, first.as_mut_slice(), RecvFlags::PEEK)?);
            let (len, _) = unix.async_io(Interest::READABLE, peek).await?;
            len
        }
    };
    Ok((len > 0).then_some(first[0]))
}

/// Returns whether nobody holds the other end. If it has only closed its side, an empty message can
/// still be sent to it.
fn is_closed(unix: &UnixStream) -> bool {
    send(unix, &[], SendFlags::NOSIGNAL).is_err()
}

/// A stream that a client asked for: a connection of the overlay, or one of this host.
pub trait OverlayStream: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static {
    /// Moves bytes between a client and this until both have ended, or the patience is over. Each
    /// pair of types calls the splice itself, which then takes the fastest way for them.
    fn splice(
        &mut self,
        guest: &mut Guest,
        patience: Patience,
    ) -> impl Future<Output = Spliced> + Send;
}

impl OverlayStream for netstack::TcpStream {
    async fn splice(&mut self, guest: &mut Guest, patience: Patience) -> Spliced {
        splice_within(guest, self, patience).await
    }
}

impl PourInto<TcpStream> for Guest {}

impl PourInto<Guest> for TcpStream {}

impl OverlayStream for TcpStream {
    async fn splice(&mut self, guest: &mut Guest, patience: Patience) -> Spliced {
        splice_within(guest, self, patience).await
    }
}

impl<L: OverlayStream, R: OverlayStream> OverlayStream for Either<L, R> {
    async fn splice(&mut self, guest: &mut Guest, patience: Patience) -> Spliced {
        match self {
            Self::Left(left) => left.splice(guest, patience).await,
            Self::Right(right) => right.splice(guest, patience).await,
        }
    }
}

/// Moves bytes between a client and the stream that it asked for until both have ended, or the
/// patience is over: then both are reset. `early` are bytes that the client sent and that were read
/// already.
pub(crate) async fn splice_client<S: OverlayStream>(
    client: Client,
    early: Bytes,
    mut reached: S,
    patience: Patience,
) {
    let mut guest = Guest { client, early };
    let spliced = reached.splice(&mut guest, patience).await;
    debug!(?spliced, "a connection of the proxy ended");
}

/// A client whose dialogue is over. Bytes that it sent too early are read first.
pub struct Guest {
    client: Client,
    early: Bytes,
}

impl HostSocket for Guest {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.client.get() {
            _ if !self.early.is_empty() => Poll::Ready(Ok(())),
            Either::Left(tcp) => tcp.poll_read_ready(cx),
            Either::Right(unix) => unix.poll_read_ready(cx),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.client).poll_read(cx, buf);
        }
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..len]);
        self.early.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}

impl Abort for Guest {
    fn abort(&self) {
        self.client.abort();
    }

    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_delivered(cx)
    }
}

impl<L: Abort, R: Abort> Abort for Either<L, R> {
    fn abort(&self) {
        match self {
            Self::Left(left) => left.abort(),
            Self::Right(right) => right.abort(),
        }
    }

    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Left(left) => left.poll_delivered(cx),
            Self::Right(right) => right.poll_delivered(cx),
        }
    }
}

/// Returns whether a client that has closed its side is known to have left: its socket belongs to
/// no program any more.
pub(crate) fn has_left(client: &Client) -> bool {
    match client.get() {
        Either::Left(tcp) => match (tcp.peer_addr(), tcp.local_addr()) {
            (Ok(peer), Ok(own)) => same_user::has_left(peer, own),
            _ => false,
        },
        Either::Right(unix) => is_closed(unix),
    }
}

/// Sends `answer` as the last word, and waits a moment until the client has read it: closing a
/// socket with unread bytes resets it, and on some systems a reset overtakes the answer.
pub(crate) async fn refuse(client: &mut Client, answer: &[u8]) -> io::Result<()> {
    let goodbye = async {
        client.write_all(answer).await?;
        client.shutdown().await?;
        let mut unread = client.take(UNREAD_MAX);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    match timeout(GOODBYE, goodbye).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Time that a refused client may take to close.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes that a refused client may have sent and that are read away.
const UNREAD_MAX: u64 = 64 * 1024;
