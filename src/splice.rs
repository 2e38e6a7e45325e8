//! Moves bytes both ways between two streams until both ways have ended. It opens nothing, and a quiet connection costs no
//! buffer: one per thread serves all, and only a way whose reader is slow holds on to its own.
//!
//! ```text
//! each way:  Open --EOF--> Finishing (rest, then shutdown of the write side) --> Ended
//!            write fails: Discarding; of the broken stream what had arrived is still read (Draining)
//!            read fails:  both ways Ended
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

/// A stream that can end with a reset instead of an orderly close.
pub trait Abort {
    /// Makes the end of the stream, at the latest when it is dropped, a reset.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // A socket that the other end has reset already needs no reset.
        let _ = self.set_zero_linger();
    }
}

/// A Unix socket has no reset. Who reads it and must know is told by [`Spliced::aborted`].
impl Abort for UnixStream {
    fn abort(&self) {}
}

impl Abort for overlan_netstack::TcpStream {
    fn abort(&self) {
        overlan_netstack::TcpStream::abort(self);
    }
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// How both ways ended.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes that the second stream took.
    pub to_right: u64,
    /// Bytes that the first stream took.
    pub to_left: u64,
    /// The stream that broke first, if not both closed in order.
    pub failure: Option<(Side, io::Error)>,
    /// Whether the other stream was told to abort because of it.
    pub aborted: bool,
}

/// Copies both ways until both have ended. The end of one way closes the write side of the stream that it leads to, and the
/// other way goes on.
///
/// If a stream breaks, what had arrived from it is still delivered. Then the other stream is told to [`Abort::abort`], unless
/// the broken one had closed its side in order before. The caller drops both.
pub async fn splice<L, R>(left: &mut L, right: &mut R) -> Spliced
where
    L: AsyncRead + AsyncWrite + Abort + Unpin,
    R: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let mut rightward = Way::new();
    let mut leftward = Way::new();
    let mut failure = None;
    let mut grace = pin!(sleep(Duration::ZERO));
    let mut grace_for = (State::Open, State::Open);
    poll_fn(|cx| {
        loop {
            let right_pending = match rightward.poll(cx, left, right) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = leftward.opposite_broke(&broken, Side::Left, Side::Right);
                    failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            let left_pending = match leftward.poll(cx, right, left) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = rightward.opposite_broke(&broken, Side::Right, Side::Left);
                    failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            if !(right_pending || left_pending) {
                return Poll::Ready(());
            }
            if failure.is_none() {
                return Poll::Pending;
            }
            let states = (rightward.state, leftward.state);
            if grace_for != states {
                grace_for = states;
                grace.set(sleep(GRACE));
            }
            ready!(grace.as_mut().poll(cx));
            grace_for = (State::Open, State::Open);
            rightward.grace_over(leftward.state);
            leftward.grace_over(rightward.state);
        }
    })
    .await;
    let aborted = match failure {
        Some((Side::Left, _)) if !rightward.in_order => {
            right.abort();
            true
        }
        Some((Side::Right, _)) if !leftward.in_order => {
            left.abort();
            true
        }
        Some(_) | None => false,
    };
    Spliced {
        to_right: rightward.written,
        to_left: leftward.written,
        failure,
        aborted,
    }
}

/// One direction.
struct Way {
    state: State,
    /// What was read and not yet taken: this part of this buffer. No buffer while the part is empty.
    buffer: Vec<u8>,
    rest: Range<usize>,
    /// Bytes were written since the last flush.
    unflushed: bool,
    written: u64,
    /// The source closed its side, and did not break before.
    in_order: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing can be written to the source: what had arrived from it before is read.
    Draining,
    /// The source has closed its side.
    Finishing,
    /// The sink is broken: the source's bytes are thrown away, so that it comes to reading the last answer.
    Discarding,
    Ended,
}

/// What broke a way.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Broken {
    fn into_error(self) -> io::Error {
        match self {
            Self::Reading(error) | Self::Writing(error) => error,
        }
    }
}

impl Way {
    fn new() -> Self {
        Self {
            state: State::Open,
            buffer: Vec::new(),
            rest: 0..0,
            unflushed: false,
            written: 0,
            in_order: false,
        }
    }

    /// Takes note that the way in the other direction, which leads from `source` to `sink`, broke, and says which side did.
    fn opposite_broke(&mut self, broken: &Broken, source: Side, sink: Side) -> Side {
        match broken {
            // This way would write to the stream that cannot even be read.
            Broken::Reading(_) => {
                self.end();
                source
            }
            // This way reads from the stream that takes nothing more. A server that answers early and closes does this.
            Broken::Writing(_) => {
                if self.state == State::Open {
                    self.state = State::Draining;
                }
                sink
            }
        }
    }

    /// Moves what can be moved. Ready once the way has ended; an error is reported once.
    fn poll<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<Result<(), Broken>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            if self.state == State::Ended {
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = ready!(self.poll_rest(cx, to)) {
                return self.sink_broke(error);
            }
            if self.state == State::Finishing {
                let closed = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                return match closed {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                        self.sink_broke(error)
                    }
                    // Some systems say "not connected" where both ends have closed in order.
                    Ok(()) | Err(_) => {
                        self.end();
                        Poll::Ready(Ok(()))
                    }
                };
            }
            match self.poll_read(cx, from) {
                Poll::Ready(Ok(0)) if self.state == State::Discarding => self.end(),
                Poll::Ready(Ok(0)) => {
                    self.in_order = true;
                    self.state = State::Finishing;
                }
                Poll::Ready(Ok(_)) if self.state == State::Discarding => self.release(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.end();
                    return Poll::Ready(Err(Broken::Reading(error)));
                }
                Poll::Pending => {
                    if self.unflushed && self.state != State::Discarding {
                        if let Err(error) = ready!(Pin::new(&mut *to).poll_flush(cx)) {
                            return self.sink_broke(error);
                        }
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        // Others of this thread get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read<F: AsyncRead + Unpin>(
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

    fn poll_rest<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut T,
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[self.rest.clone()]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.start += count;
            self.written += count as u64;
            self.unflushed = true;
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    fn sink_broke(&mut self, error: io::Error) -> Poll<Result<(), Broken>> {
        if self.state == State::Open {
            self.release();
            self.state = State::Discarding;
        } else {
            self.end();
        }
        Poll::Ready(Err(Broken::Writing(error)))
    }

    /// A source had its time. What it gave is still delivered.
    fn grace_over(&mut self, opposite: State) {
        let over = match self.state {
            State::Draining => self.rest.is_empty(),
            State::Discarding => opposite == State::Ended,
            State::Open | State::Finishing | State::Ended => false,
        };
        if over {
            self.end();
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.release();
    }

    /// Gives the buffer back to the thread.
    fn release(&mut self) {
        self.rest = 0..0;
        if !self.buffer.is_empty() {
            BUFFER.set(std::mem::take(&mut self.buffer));
        }
    }
}

thread_local! {
    /// The buffer that the thread's next read goes to. A way that keeps it leaves an empty one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of one read: large enough that system calls are few, small enough to stay in the cache until the write.
const BUFFER_LEN: usize = 64 * 1024;

/// How long, once a stream broke, either may go without a step towards its end: the broken one may still have what arrived
/// before, the other may have to read the last answer.
const GRACE: Duration = Duration::from_secs(1);

/// Reads of one way in one poll, before other tasks of the thread get their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests;
