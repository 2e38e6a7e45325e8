//! TCP connections as programs see them; decides nothing, and is the only file that knows the
//! traits of a runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::Core;
use crate::error::ConnectError;
use crate::flow::{End, Flow, Transfer};
use crate::table::FlowCell;

/// A connection that is being opened. Dropping it gives up.
#[must_use = "dropping it gives up the connection"]
pub struct Connecting {
    /// `None` once it has become a stream.
    handle: Option<Handle>,
}

impl Connecting {
    pub(crate) fn new(core: Arc<Core>, flow: Arc<FlowCell>) -> Connecting {
        Connecting {
            handle: Some(Handle { core, flow }),
        }
    }
}

impl Future for Connecting {
    type Output = Result<TcpStream, ConnectError>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = self
            .handle
            .as_ref()
            .expect("a connect is not polled after it was ready");
        let opened = handle.run(|flow| {
            let opened = flow.opened();
            if opened.is_none() {
                flow.wakers_mut().open = Some(cx.waker().clone());
            }
            opened
        });
        let Some(opened) = opened else {
            return Poll::Pending;
        };
        let handle = self.handle.take();
        Poll::Ready(match (opened, handle) {
            (Ok(()), Some(handle)) => Ok(TcpStream { handle }),
            (Err(End::Refused | End::Reset), _) => Err(ConnectError::Refused),
            (Err(End::TimedOut), _) => Err(ConnectError::TimedOut),
            (Err(End::Unreachable | End::Aborted | End::Panicked | End::Closed), _)
            | (Ok(()), None) => Err(ConnectError::Unreachable),
        })
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

/// One TCP connection. Every method takes `&self`, and `&TcpStream` reads and writes too, so that
/// one task can copy both ways without a lock; there may be one reader and one writer at a time.
///
/// The end of its own direction decides what the other side gets, always after all that was
/// written:
///
/// | The program | The other side reads what was written, and then gets |
/// |---|---|
/// | shuts down, and drops it now or later | an orderly end |
/// | drops it open, or calls [`TcpStream::reset_when_delivered`] | a reset: nothing was completed |
/// | calls [`TcpStream::abort`] | a reset at once, in place of what was not sent yet |
///
/// A stream that was dropped goes on delivering for as long as
/// [`Config::linger_timeout`](crate::Config::linger_timeout) allows. If received bytes were not
/// read, or more arrive, a reset comes after what was written, and after the end if there is one,
/// so that the other side knows that its bytes went nowhere.
pub struct TcpStream {
    handle: Handle,
}

impl TcpStream {
    pub(crate) fn new(core: Arc<Core>, flow: Arc<FlowCell>) -> TcpStream {
        TcpStream {
            handle: Handle { core, flow },
        }
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.handle.flow.key.remote
    }

    /// Our end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.flow.key.local
    }

    /// Reads the bytes that are there; 0 bytes mean that the other side has closed.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there, otherwise what ended the connection.
    pub fn try_read(&self, data: &mut [u8]) -> io::Result<usize> {
        ready(self.handle.read(None, |bytes| copy_out(bytes, data)), Ok(0))
    }

    /// Queues as many bytes as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room, `BrokenPipe` after a shutdown, otherwise what ended the
    /// connection.
    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        ready(
            self.handle.write(None, |room| copy_in(room, data)),
            Err(io::ErrorKind::BrokenPipe.into()),
        )
    }

    /// A FIN follows the bytes that are queued; reading goes on.
    pub fn try_shutdown(&self) {
        self.handle.run(Flow::shutdown);
    }

    /// Ends the connection with a reset that the other side gets after all that was written: it can
    /// read an answer to the end and knows that no more will follow. The reset goes out when the
    /// other side has acknowledged what is queued, or when it has acknowledged nothing for
    /// [`Config::linger_timeout`](crate::Config::linger_timeout).
    ///
    /// Nothing can be written any more; what arrives can be read until then, and does not hold the
    /// reset back. The stream may be dropped at once.
    pub fn reset_when_delivered(&self) {
        self.handle.run(Flow::reset_when_delivered);
    }

    /// Ends the connection at once with a reset. Bytes that are queued in either direction are
    /// lost: for those that must not arrive, or that nobody is left to take.
    pub fn abort(&self) {
        let core = &self.handle.core;
        core.run(&self.handle.flow, None, |flow, _| {
            flow.reset(&core.config, End::Aborted)
        });
    }

    /// Lets `fill` put bytes straight into the transmit ring: it gets the free room that lies in
    /// one piece and says how much of it was used. Its error is passed on and queues nothing, so it
    /// may read from a socket that would block. Pending while there is no room; then the task is
    /// woken when a good part of the ring is free.
    ///
    /// # Errors
    /// Those of `fill`, `BrokenPipe` after a shutdown, otherwise what ended the connection.
    pub fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let transfer = self.handle.write(Some(cx), |room| {
            let limit = room.len();
            counted(fill(room), limit)
        });
        done(transfer, Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Lets `take` have bytes straight from the receive ring: it gets those that lie in one piece
    /// and says how many it took. Its error is passed on and takes nothing, so it may write to a
    /// socket that would block. `Ok(0)`, without `take` being called, means that the other side has
    /// closed.
    ///
    /// # Errors
    /// Those of `take`, otherwise what ended the connection.
    pub fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let transfer = self
            .handle
            .read(Some(cx), |bytes| counted(take(bytes), bytes.len()));
        done(transfer, Ok(0))
    }

    fn poll_read_into(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let transfer = self.handle.read(Some(cx), |bytes| {
            let len = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..len]);
            (len, Ok(()))
        });
        done(transfer, Ok(()))
    }

    fn poll_write_from(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let transfer = self.handle.write(Some(cx), |room| copy_in(room, data));
        done(transfer, Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_into(cx, buf)
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_into(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Bytes in the ring are on their way already.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.try_shutdown();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.try_shutdown();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("local", &self.local_addr())
            .field("remote", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

/// The one program that uses a flow; dropping it lets the flow go.
struct Handle {
    core: Arc<Core>,
    flow: Arc<FlowCell>,
}

impl Handle {
    fn run<R>(&self, work: impl FnOnce(&mut Flow) -> R) -> R {
        self.core.run(&self.flow, None, |flow, _| work(flow))
    }

    fn read<R>(
        &self,
        cx: Option<&mut Context<'_>>,
        take: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Transfer<R> {
        self.run(|flow| {
            let transfer = flow.read(take);
            if let (Transfer::Blocked, Some(cx)) = (&transfer, cx) {
                flow.wakers_mut().read = Some(cx.waker().clone());
            }
            transfer
        })
    }

    fn write<R>(
        &self,
        cx: Option<&mut Context<'_>>,
        fill: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Transfer<R> {
        self.run(|flow| {
            let transfer = flow.write(fill);
            if let (Transfer::Blocked, Some(cx)) = (&transfer, cx) {
                flow.wakers_mut().write = Some(cx.waker().clone());
            }
            transfer
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.run(Flow::release);
    }
}

fn copy_out(bytes: &[u8], data: &mut [u8]) -> (usize, io::Result<usize>) {
    let len = bytes.len().min(data.len());
    data[..len].copy_from_slice(&bytes[..len]);
    (len, Ok(len))
}

fn copy_in(room: &mut [u8], data: &[u8]) -> (usize, io::Result<usize>) {
    let len = room.len().min(data.len());
    room[..len].copy_from_slice(&data[..len]);
    (len, Ok(len))
}

/// A caller that claims more than it was given is believed no further than that.
fn counted(result: io::Result<usize>, limit: usize) -> (usize, io::Result<usize>) {
    match result {
        Ok(count) => (count.min(limit), Ok(count.min(limit))),
        Err(error) => (0, Err(error)),
    }
}

fn done<T>(transfer: Transfer<io::Result<T>>, finished: io::Result<T>) -> Poll<io::Result<T>> {
    match transfer {
        Transfer::Done(result) => Poll::Ready(result),
        Transfer::Blocked => Poll::Pending,
        Transfer::Finished => Poll::Ready(finished),
        Transfer::Failed(end) => Poll::Ready(Err(error_of(end))),
    }
}

fn ready<T>(transfer: Transfer<io::Result<T>>, finished: io::Result<T>) -> io::Result<T> {
    match done(transfer, finished) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn error_of(end: End) -> io::Error {
    match end {
        End::Refused => io::ErrorKind::ConnectionRefused.into(),
        End::Reset | End::Closed => io::ErrorKind::ConnectionReset.into(),
        End::Aborted => io::ErrorKind::ConnectionAborted.into(),
        End::TimedOut => io::ErrorKind::TimedOut.into(),
        End::Unreachable => io::Error::new(io::ErrorKind::ConnectionReset, "the remote is gone"),
        End::Panicked => io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the connection failed inside the stack",
        ),
    }
}

#[cfg(test)]
mod tests;
