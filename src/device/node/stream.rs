//! Connections of a program that uses the library. Decides how a destination is written.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use overlan_netstack as netstack;
use overlan_protocol::HostPort;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Node;
use super::close::Alive;
use crate::names::DialError;

/// One TCP connection through the overlay.
///
/// A read returns 0 bytes after the peer has shut down its side; writing goes on. `shutdown` (of
/// [`AsyncWriteExt`](tokio::io::AsyncWriteExt::shutdown)) sends a FIN after the written bytes;
/// reading goes on. `flush` does nothing, since written bytes are already on their way.
///
/// Dropping it closes both sides. Written bytes still go out, for as long as the [`Node`] exists
/// and the peer takes them. Then the peer reads an end if `shutdown` was called, and a reset
/// otherwise, so that cut data never looks whole. Received bytes that were not read also make it a
/// reset, as everywhere in TCP. The stream keeps its node up.
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

    /// Returns the peer's address and port. Networks share addresses, so they alone do not name the
    /// device;
    /// [`Listener::accept`](super::Listener::accept) returns its identity.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// Returns this device's address and port of the connection.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    /// Ends the connection with a reset that reaches the peer after all written bytes: it can read
    /// the whole answer, and then learns that no more follows.
    pub fn reset_when_delivered(&self) {
        self.stream.reset_when_delivered();
    }

    /// Ends the connection at once with a reset. Bytes under way in either direction are lost.
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
    /// [`DialError`] has one variant for each next step. Text that is not `host:port` is
    /// [`DialError::Internal`].
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
        self.dial_host(&host_port(to)?).await
    }

    /// Opens a TCP connection to a host and port that are already read.
    pub(super) async fn dial_host(&self, to: &HostPort) -> Result<Stream, DialError> {
        let destination = self.find(to.host())?;
        let closed = || DialError::Internal("the node was closed".to_owned());
        let dialed = self
            .inner
            .closing
            .run_until_cancelled(self.dial_to(destination, to.port()));
        let stream = dialed.await.ok_or_else(closed)??;
        Ok(Stream::new(stream, self))
    }
}

/// Reads `host:port`.
///
/// # Errors
/// [`DialError::Internal`] with the cause.
pub(super) fn host_port(text: &str) -> Result<HostPort, DialError> {
    let parsed = text.parse::<HostPort>();
    parsed.map_err(|error| DialError::Internal(format!("{text:?} is not host:port: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_a_host_and_a_port() {
        for (text, host, port) in [
            ("db.acme:5432", "db.acme", 5_432),
            ("100.64.0.7:1", "100.64.0.7", 1),
            ("100.64.0.7%acme:1", "100.64.0.7%acme", 1),
            ("[fd00::7]:80", "fd00::7", 80),
        ] {
            let read = host_port(text).unwrap();
            assert_eq!((read.host(), read.port()), (host, port), "{text}");
        }
        for wrong in ["db", "db:", ":80", "db:http", "db:65536", "fd00::7:80", ""] {
            let refused = host_port(wrong);
            assert!(
                matches!(refused, Err(DialError::Internal(_))),
                "{wrong}: {refused:?}"
            );
        }
    }
}
