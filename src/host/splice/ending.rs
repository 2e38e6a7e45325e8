//! The end of a stream that nobody ended in order: decides that it is a reset, and waits so that
//! what was written arrives before.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::HostSocket;

/// A stream that can end with a reset instead of an orderly close.
pub trait Abort {
    /// Makes the end of the stream, at the latest when it is dropped, a reset.
    fn abort(&self);

    /// Ready once a reset takes away nothing that was written. The provided answer is for streams
    /// whose reset never does.
    fn poll_delivered(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Abort for TcpStream {
    fn abort(&self) {
        // A socket that the other end has reset already needs no reset.
        let _ = self.set_zero_linger();
    }

    /// Bytes that the kernel has sent are at the other end, and can be read there after a reset;
    /// those that it holds back cannot.
    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Ok(()) = ready!(self.poll_write_ready(cx)) else {
                return Poll::Ready(());
            };
            match self.try_io(tokio::io::Interest::WRITABLE, || holds_nothing_back(self)) {
                // The system has to be asked again when it says that there is room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

/// `WouldBlock` while bytes wait in the kernel for room at the other end.
#[cfg(target_os = "linux")]
fn holds_nothing_back(socket: &TcpStream) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    // From now on there is room only when nothing waits.
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(1)?;
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut asked, Some(&at_once))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Other systems do not say.
#[cfg(not(target_os = "linux"))]
fn holds_nothing_back(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A Unix socket has no reset. A caller that must know looks at
/// [`Spliced::aborted`](super::Spliced::aborted).
impl Abort for UnixStream {
    fn abort(&self) {}
}

/// Its reset follows the bytes that were written, even when it is dropped without an end.
impl Abort for overlan_netstack::TcpStream {
    fn abort(&self) {
        self.reset_when_delivered();
    }
}

/// A stream that ends with a reset unless it was ended in order, so that its reader never takes a
/// part for the whole. That holds when a task is stopped or forgets it, too.
#[derive(Debug)]
pub struct ResetOnDrop<S: Abort> {
    /// `None` only while it is taken out.
    stream: Option<S>,
    /// Its end was sent to the other side.
    ended: bool,
}

impl<S: Abort> ResetOnDrop<S> {
    /// Takes charge of a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream: Some(stream),
            ended: false,
        }
    }

    /// The stream.
    #[expect(
        clippy::missing_panics_doc,
        reason = "it is there until it is consumed"
    )]
    pub fn get(&self) -> &S {
        self.stream
            .as_ref()
            .expect("it is there until it is consumed")
    }

    /// The stream. Ending it there in order does not count.
    #[expect(
        clippy::missing_panics_doc,
        reason = "it is there until it is consumed"
    )]
    pub fn get_mut(&mut self) -> &mut S {
        self.stream
            .as_mut()
            .expect("it is there until it is consumed")
    }

    /// Gives the stream back, without a reset.
    #[expect(
        clippy::missing_panics_doc,
        reason = "it is there until it is consumed"
    )]
    pub fn into_inner(mut self) -> S {
        self.stream
            .take()
            .expect("it is there until it is consumed")
    }
}

impl<S: Abort> Drop for ResetOnDrop<S> {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream
            && !self.ended
        {
            stream.abort();
        }
    }
}

impl<S: Abort> Abort for ResetOnDrop<S> {
    fn abort(&self) {
        self.get().abort();
    }

    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.get().poll_delivered(cx)
    }
}

impl<S: Abort + AsyncRead + Unpin> AsyncRead for ResetOnDrop<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().get_mut()).poll_read(cx, buf)
    }
}

impl<S: Abort + AsyncWrite + Unpin> AsyncWrite for ResetOnDrop<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().get_mut()).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().get_mut()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.get().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = ready!(Pin::new(this.get_mut()).poll_shutdown(cx));
        this.ended |= ended.is_ok();
        Poll::Ready(ended)
    }
}

impl<S: Abort + HostSocket> HostSocket for ResetOnDrop<S> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get().poll_readable(cx)
    }
}
