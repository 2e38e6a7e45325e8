//! One step of a way: decides from where to where bytes are moved, and which of the two streams is
//! waited for; knows neither half-close nor reset.
//!
//! Between a socket and a connection of the overlay there is no buffer: the system call reads into
//! the connection's transmit ring, or writes from its receive ring. Two sockets need one in
//! between, which is [`HeldBytes`].

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use overlan_netstack::TcpStream as OverlayStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A source whose bytes can be moved on to a stream `T`.
pub trait PourInto<T: AsyncWrite + Unpin>: AsyncRead + Unpin {
    /// Moves one piece; returns how many bytes `to` took, where 0 means that the source has closed
    /// and `to` has all of it. While it is pending, `held` knows whether it is the source that is
    /// waited for.
    ///
    /// The provided way goes through a buffer; another one is worth it where a stream has memory of
    /// its own to lend.
    ///
    /// # Errors
    /// [`Broken`]: bytes that are still held are of no use then.
    fn poll_pour(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut T,
        held: &mut HeldBytes,
    ) -> Poll<Result<usize, Broken>> {
        held.poll_pour_through(cx, self, to)
    }
}

/// The stream that broke, and how.
#[derive(Debug)]
pub enum Broken {
    /// The source.
    Reading(io::Error),
    /// The sink.
    Writing(io::Error),
}

impl Broken {
    /// Returns the error of the system, or of the netstack.
    #[must_use]
    pub fn into_error(self) -> io::Error {
        match self {
            Self::Reading(error) | Self::Writing(error) => error,
        }
    }
}

impl PourInto<Self> for TcpStream {}

/// A stream of this host, whose bytes the system moves from and to any memory.
pub trait HostSocket: AsyncRead + AsyncWrite + Unpin {
    /// Ready when a read may find something; otherwise the task is woken then.
    ///
    /// # Errors
    /// Those of the runtime on its way down.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl HostSocket for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl HostSocket for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl<S: HostSocket> PourInto<OverlayStream> for S {
    fn poll_pour(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut OverlayStream,
        held: &mut HeldBytes,
    ) -> Poll<Result<usize, Broken>> {
        // Asked first, so that a quiet socket costs no look into the connection.
        match self.poll_readable(cx) {
            Poll::Ready(ready) => ready.map_err(Broken::Reading)?,
            Poll::Pending => return held.wait_for_source(),
        }
        let waker = cx.waker();
        let mut reading_failed = false;
        let filled = to.poll_fill(cx, |room| {
            let len = room.len().min(POUR_MAX);
            let mut window = ReadBuf::new(&mut room[..len]);
            let read = Pin::new(&mut *self).poll_read(&mut Context::from_waker(waker), &mut window);
            let read = at_once(read.map_ok(|()| window.filled().len()));
            reading_failed = read.is_err();
            read
        });
        match filled {
            Poll::Ready(Err(error)) if !reading_failed => Poll::Ready(Err(Broken::Writing(error))),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                held.wait_for_source()
            }
            filled @ (Poll::Ready(_) | Poll::Pending) => filled.map_err(Broken::Reading),
        }
    }
}

impl<S: HostSocket> PourInto<S> for OverlayStream {
    fn poll_pour(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut S,
        held: &mut HeldBytes,
    ) -> Poll<Result<usize, Broken>> {
        let waker = cx.waker();
        let mut writing_failed = false;
        let drained = self.poll_drain(cx, |bytes| {
            let piece = &bytes[..bytes.len().min(POUR_MAX)];
            let written = Pin::new(to).poll_write(&mut Context::from_waker(waker), piece);
            let written = at_once(written).and_then(some);
            writing_failed = written.is_err();
            written
        });
        match drained {
            Poll::Pending => held.wait_for_source(),
            Poll::Ready(Err(error)) if !writing_failed => Poll::Ready(Err(Broken::Reading(error))),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            drained @ Poll::Ready(_) => drained.map_err(Broken::Writing),
        }
    }
}

/// Bytes that a way keeps from one poll to the next.
#[derive(Debug, Default)]
pub struct HeldBytes {
    /// The buffer of which `rest` was read and not yet taken. It is empty while `rest` is.
    buffer: Vec<u8>,
    rest: Range<usize>,
    /// Bytes were written since the last flush.
    unflushed: bool,
    waits_for_source: bool,
}

impl HeldBytes {
    /// Moves one piece through a buffer of the thread; a sink that is slower than its source makes
    /// it this way's own. For
    /// [`PourInto::poll_pour`], whose contract it has.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn poll_pour_through<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<Result<usize, Broken>>
    where
        F: AsyncRead + Unpin + ?Sized,
        T: AsyncWrite + Unpin,
    {
        if self.rest.is_empty() {
            match self.poll_read(cx, from) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Reading(error))),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(to).poll_flush(cx)).map_err(Broken::Writing)?;
                        self.unflushed = false;
                    }
                    return self.wait_for_source();
                }
            }
        }
        let rest = &self.buffer[self.rest.clone()];
        let written = ready!(Pin::new(to).poll_write(cx, rest)).and_then(some);
        let count = written.map_err(Broken::Writing)?;
        self.unflushed = true;
        self.rest.start += count;
        if self.rest.is_empty() {
            self.release();
        }
        Poll::Ready(Ok(count))
    }

    /// Pending, because the source has nothing: `return held.wait_for_source()`.
    pub fn wait_for_source<R>(&mut self) -> Poll<R> {
        self.waits_for_source = true;
        Poll::Pending
    }

    /// Returns whether the last piece was not moved because the source had none.
    pub(super) fn waits_for_source(&self) -> bool {
        self.waits_for_source
    }

    /// Begins with the next piece.
    pub(super) fn begin(&mut self) {
        self.waits_for_source = false;
    }

    /// Reads bytes that nobody wants; returns how many.
    pub(super) fn poll_discard<F: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_read(cx, from);
        self.release();
        read
    }

    /// Gives the buffer back to the thread.
    pub(super) fn release(&mut self) {
        self.rest = 0..0;
        if !self.buffer.is_empty() {
            BUFFER.set(std::mem::take(&mut self.buffer));
        }
    }

    /// Bytes of memory that this way has for itself.
    #[cfg(test)]
    pub(super) fn buffer_len(&self) -> usize {
        self.buffer.capacity()
    }

    fn poll_read<F: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = BUFFER.take();
        buffer.resize(BUFFER_LEN, 0);
        let mut window = ReadBuf::new(&mut buffer);
        let read = Pin::new(from)
            .poll_read(cx, &mut window)
            .map_ok(|()| window.filled().len());
        if let Poll::Ready(Ok(count @ 1..)) = read {
            self.buffer = buffer;
            self.rest = 0..count;
        } else {
            BUFFER.set(buffer);
        }
        read
    }
}

/// Bytes of one system call from or to a ring. The connection is locked meanwhile: its packets wait
/// in its inbox, and the link waits for its next one.
const POUR_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer that the thread's next read goes to. A way that keeps it leaves an empty one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of one read: large enough that system calls are few, small enough to stay in the cache
/// until the write.
const BUFFER_LEN: usize = 64 * 1024;

/// Turns pending into an error, for a closure that cannot be pending: the waker is with the system
/// already.
fn at_once<R>(polled: Poll<io::Result<R>>) -> io::Result<R> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A sink that takes nothing of something will never take anything.
fn some(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}
