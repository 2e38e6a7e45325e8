//! A socket that gives TLS no byte beyond the record it is reading, so that the connection can
//! change hands between records.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection, read record by record.
#[derive(Debug)]
pub struct Stepwise {
    socket: TcpStream,
    header: [u8; HEADER_LEN],
    /// Bytes of `header` that were read.
    header_filled: usize,
    /// Bytes of the record that were not read.
    body_left: usize,
    opened_in: Option<Duration>,
    /// Bytes that the other side may still send before this is taken apart.
    allowed: usize,
}

impl Stepwise {
    /// A connection from which nothing was read yet.
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            header: [0; HEADER_LEN],
            header_filled: 0,
            body_left: 0,
            opened_in: None,
            allowed: usize::MAX,
        }
    }

    /// A connection of a stranger, which fails when it sends more than [`STRANGER_MAX`] bytes
    /// before it has proved its identity: TLS would keep any ClientHello of up to 64 KiB.
    pub fn of_stranger(socket: TcpStream) -> Self {
        Self {
            allowed: STRANGER_MAX,
            ..Self::new(socket)
        }
    }

    /// A connection that took `time` to open, if that is known.
    pub(crate) fn opened_in(socket: TcpStream, time: Option<Duration>) -> Self {
        Self {
            opened_in: time,
            ..Self::new(socket)
        }
    }

    /// The time for which this side waited for the connection to open: one round trip of the
    /// network, and nearly nothing else.
    pub fn round_trip(&self) -> Option<Duration> {
        self.opened_in
    }

    /// The socket, for its options and addresses.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The socket, if it stands between two records.
    pub(crate) fn into_socket(self) -> Option<TcpStream> {
        (self.header_filled == 0 && self.body_left == 0).then_some(self.socket)
    }
}

impl AsyncRead for Stepwise {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let in_header = this.body_left == 0;
        let limit = if in_header {
            HEADER_LEN - this.header_filled
        } else {
            this.body_left
        };
        let mut chunk = [0; CHUNK];
        let limit = limit.min(buffer.remaining()).min(CHUNK);
        let mut part = ReadBuf::new(&mut chunk[..limit]);
        ready!(Pin::new(&mut this.socket).poll_read(cx, &mut part))?;
        let read = part.filled();
        this.allowed = this.allowed.checked_sub(read.len()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the client sent too much before it proved its identity",
            )
        })?;
        if in_header {
            this.header[this.header_filled..this.header_filled + read.len()].copy_from_slice(read);
            this.header_filled += read.len();
            if this.header_filled == HEADER_LEN {
                this.header_filled = 0;
                this.body_left = usize::from(u16::from_be_bytes([this.header[3], this.header[4]]));
            }
        } else {
            this.body_left -= read.len();
        }
        buffer.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stepwise {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Most bytes of a stranger, handshake and HELLO together: a ClientHello with post-quantum keys has
/// 2 KiB, and a HELLO at most 4 KiB.
pub const STRANGER_MAX: usize = 16 * 1024;

/// Bytes of a TLS record's header.
const HEADER_LEN: usize = 5;

/// Bytes read at once; handshakes are short.
const CHUNK: usize = 4_096;
