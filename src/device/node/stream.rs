//! Connections of a program that uses the library. Decides nothing but what a destination in text
//! means.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use overlan_netstack as netstack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Node;
use super::close::Alive;
use crate::names::DialError;

/// One TCP connection through the overlay.
///
/// Reading ends with 0 bytes when the peer has shut down its side; writing goes on. `shutdown` (of
/// [`AsyncWriteExt`](tokio::io::AsyncWriteExt::shutdown)) sends a FIN behind what was written; reading goes on. `flush` does
/// nothing: what was written is on its way already.
///
/// Dropping it closes both sides: what was written still goes out, for as long as somebody holds
/// the [`Node`] and the peer takes it. Then the peer reads an end if `shutdown` was called, and
/// otherwise a reset: what was cut off never looks whole. Received bytes that nobody read make it a
/// reset, too, as everywhere in TCP. It keeps its node up.
pub struct Stream {
    stream: netstack::TcpStream,
    _alive: Arc<Alive>,
}

impl Stream {
    pub(super) fn new(stream: netstack::TcpStream, node: &Node) -> Self {
        Self {
            stream,
            _alive: Arc::clone(&node.alive),
        }
    }

    /// The other end. Which device that is depends on the network;
    /// [`Listener::accept`](super::Listener::accept) tells it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// This end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    /// Ends the connection with a reset that the peer gets after all that was written: it can read
    /// an answer to its end, and knows that no more will follow.
    pub fn reset_when_delivered(&self) {
        self.stream.reset_when_delivered();
    }

    /// Ends the connection at once with a reset. What is under way in either direction is lost.
    pub fn abort(&self) {
        self.stream.abort();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Node {
    /// Opens a TCP connection to `host:port`. The host is a label (`db`), a label and a network
    /// (`db.acme`), a full name (`db.acme.overlan.internal`) or an overlay address (`100.64.0.7`,
    /// `[fd…::7]`). Nothing outside the overlay is reached.
    ///
    /// It takes at most [`NodeOptions::dial_timeout`](super::NodeOptions::dial_timeout), 30 s.
    ///
    /// # Errors
    /// [`DialError`]: one variant per thing to do about it. Text that is no `host:port` is [`DialError::Internal`].
    ///
    /// ```no_run
    /// # async fn example(node: overlan::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut stream = node.dial("db.acme:7").await?;
    /// stream.write_all(b"hello").await?;
    /// stream.shutdown().await?; // FIN: the peer reads its end, we go on reading
    /// let mut answer = Vec::new();
    /// stream.read_to_end(&mut answer).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dial(&self, to: &str) -> Result<Stream, DialError> {
        let (host, port) = host_and_port(to)?;
        let destination = self.find(host)?;
        let closed = || DialError::Internal("the node was closed".to_owned());
        let dialed = self
            .inner
            .closing
            .run_until_cancelled(self.dial_to(destination, port));
        let stream = dialed.await.ok_or_else(closed)??;
        Ok(Stream::new(stream, self))
    }
}

/// Both parts of `host:port`.
pub(super) fn host_and_port(text: &str) -> Result<(&str, u16), DialError> {
    text.rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && (!host.contains(':') || host.starts_with('[')))
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| DialError::Internal(format!("{text:?} is not host:port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_a_host_and_a_port() {
        assert_eq!(host_and_port("db.acme:5432"), Ok(("db.acme", 5_432)));
        assert_eq!(host_and_port("100.64.0.7:1"), Ok(("100.64.0.7", 1)));
        assert_eq!(host_and_port("[fd00::7]:80"), Ok(("[fd00::7]", 80)));
        for wrong in ["db", "db:", ":80", "db:http", "db:65536", "fd00::7:80", ""] {
            let refused = host_and_port(wrong);
            assert!(
                matches!(refused, Err(DialError::Internal(_))),
                "{wrong}: {refused:?}"
            );
        }
    }
}
