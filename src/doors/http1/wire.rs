//! A connection, and the bytes that were read of it and not used yet. Of HTTP it decides only where
//! a head ends; a connection that is dropped in the middle of a message is reset, so that half a
//! message never looks whole.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::message::{Malformed, empty_lines, head_end};
use super::{BUFFER_MAX, HEAD_MAX};
use crate::doors::moves::Moves;
use crate::host::splice::Abort;

/// A connection.
pub(super) struct Wire<S: Abort> {
    stream: SharedStream<S>,
    input: BytesMut,
    /// A message is under way on it.
    busy: AtomicBool,
}

impl<S: Abort> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: SharedStream(Mutex::new(Some(stream))),
            input: BytesMut::new(),
            busy: AtomicBool::new(false),
        }
    }

    /// From here on an end of the connection is a reset.
    pub(super) fn begin(&self) {
        self.busy.store(true, Relaxed);
    }

    /// All of a message has passed.
    pub(super) fn finish(&self) {
        self.busy.store(false, Relaxed);
    }

    /// Splits it into its reading and its writing half.
    pub(super) fn split(&mut self) -> (Input<'_, S>, Output<'_, S>) {
        let stream = &self.stream;
        let input = Input {
            stream,
            bytes: &mut self.input,
        };
        (input, Output { stream })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Returns the connection, and the bytes that were read of it.
    ///
    /// # Panics
    /// Never: the stream is taken only here, with the wire itself.
    pub(super) fn into_parts(mut self) -> (Option<S>, Bytes) {
        let stream = self.stream.0.lock().take();
        (stream, self.input.split().freeze())
    }
}

impl<S: Abort> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.busy.load(Relaxed)
            && let Some(stream) = self.stream.0.lock().as_ref()
        {
            stream.abort();
        }
    }
}

/// The reading half of a connection.
pub(super) struct Input<'a, S> {
    stream: &'a SharedStream<S>,
    pub(super) bytes: &'a mut BytesMut,
}

impl<S: AsyncRead + Unpin> Input<'_, S> {
    /// Reads more; returns how many bytes came, 0 at the end. Dropping the future loses nothing.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        if self.bytes.is_empty() {
            // Idle connections keep no buffer.
            *self.bytes = BytesMut::new();
        }
        std::future::poll_fn(|cx| {
            let mut stream = self.stream;
            // Room is taken only for bytes that are there: a connection that waits costs none.
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(READ_MAX, 0);
                let mut window = ReadBuf::new(buffer);
                let read = Pin::new(&mut stream).poll_read(cx, &mut window);
                read.map_ok(|()| {
                    self.bytes.extend_from_slice(window.filled());
                    window.filled().len()
                })
            })
        })
        .await
    }

    /// Asks the stream itself.
    pub(super) fn stream_is(&self, ask: impl FnOnce(&S) -> bool) -> bool {
        self.stream.0.lock().as_ref().is_some_and(ask)
    }

    /// Returns whether no more may be read before something is used.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BUFFER_MAX
    }

    /// Reads the next head with its empty line; `None` if the connection ends before one begins.
    /// Each read is passed to `check`, which may find early that it is not a head.
    pub(super) async fn head(
        &mut self,
        check: impl Fn(&[u8]) -> Result<(), Malformed>,
    ) -> Result<Option<Bytes>, NoHead> {
        let mut seen = 0;
        loop {
            check(self.bytes)?;
            if let Some(end) = head_end(self.bytes, seen).filter(|end| *end <= HEAD_MAX) {
                return Ok(Some(self.bytes.split_to(end).freeze()));
            }
            seen = self.bytes.len();
            if seen >= HEAD_MAX {
                let has_line = self.bytes[..HEAD_MAX].contains(&b'\n');
                return Err(NoHead::Malformed(match has_line {
                    true => Malformed::HeadTooLong,
                    false => Malformed::TargetTooLong,
                }));
            }
            match self.fill().await {
                Ok(0) if self.bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(NoHead::Malformed(Malformed::Cut)),
                Ok(_) => {}
                Err(error) => return Err(NoHead::Io(error)),
            }
        }
    }

    /// Throws away line ends before a request.
    pub(super) fn skip_empty_lines(&mut self) {
        let count = empty_lines(self.bytes);
        self.bytes.advance(count);
    }
}

/// The reason why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    Malformed(Malformed),
    Io(io::Error),
}

impl From<Malformed> for NoHead {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The writing half of a connection.
pub(super) struct Output<'a, S> {
    stream: &'a SharedStream<S>,
}

impl<S: AsyncWrite + Unpin> Output<'_, S> {
    /// Writes all of it, and notes each step.
    pub(super) async fn write(&mut self, mut bytes: &[u8], moves: &Moves) -> io::Result<()> {
        let mut stream = self.stream;
        while !bytes.is_empty() {
            let count = stream.write(bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
            moves.note();
        }
        stream.flush().await
    }

    /// Says that no more comes.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.shutdown().await
    }
}

/// A stream that is read and written by two futures of one task. Locked for one poll only.
struct SharedStream<S>(Mutex<Option<S>>);

impl<S: Unpin> SharedStream<S> {
    fn poll<R>(
        &self,
        poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match self.0.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for &SharedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        window: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, window))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for &SharedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

thread_local! {
    /// The buffer of the thread's next read.
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Bytes of one read.
const READ_MAX: usize = 64 * 1024;
