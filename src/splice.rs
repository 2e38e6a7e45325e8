//! Moves bytes both ways between two streams until both ways have ended. It opens nothing, and how a piece is moved is up to
//! [`PourInto`]: between a socket and the overlay no byte is copied on the way to the ring, and what waits, waits there.
//!
//! ```text
//! each way:  Open --EOF--> Finishing (rest, then shutdown of the write side) --> Ended
//!            write fails: Discarding; of the broken stream what had arrived is still read (Draining)
//!            read fails:  both ways Ended
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

pub use pour::{Broken, Held, HostSocket, PourInto};

mod pour;

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
    L: PourInto<R> + AsyncWrite + Abort,
    R: PourInto<L> + AsyncWrite + Abort,
{
    let mut rightward = Way::default();
    let mut leftward = Way::default();
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
#[derive(Default)]
struct Way {
    state: State,
    held: Held,
    written: u64,
    /// The source closed its side, and did not break before.
    in_order: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Nothing can be written to the source: what had arrived from it before is read.
    Draining,
    /// The source has closed its side.
    Finishing,
    /// The sink is broken: the source's bytes are thrown away, so that it comes to reading the last answer.
    Discarding,
    Ended,
}

impl Way {
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
        F: PourInto<T>,
        T: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            self.held.begin();
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Finishing => {
                    let closed = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    return match closed {
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                            self.broke(Broken::Writing(error))
                        }
                        // Some systems say "not connected" where both ends have closed in order.
                        Ok(()) | Err(_) => {
                            self.end();
                            Poll::Ready(Ok(()))
                        }
                    };
                }
                State::Discarding => match ready!(self.held.poll_discard(cx, from)) {
                    Ok(0) => self.end(),
                    Ok(_) => {}
                    Err(error) => return self.broke(Broken::Reading(error)),
                },
                State::Open | State::Draining => {
                    match ready!(from.poll_pour(cx, to, &mut self.held)) {
                        Ok(0) => {
                            self.in_order = true;
                            self.state = State::Finishing;
                        }
                        Ok(count) => self.written += count as u64,
                        Err(broken) => return self.broke(broken),
                    }
                }
            }
        }
        // Others of this thread get their turn.
        self.held.begin();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn broke(&mut self, broken: Broken) -> Poll<Result<(), Broken>> {
        match (&broken, self.state) {
            (Broken::Writing(_), State::Open) => {
                self.held.release();
                self.state = State::Discarding;
            }
            (Broken::Writing(_) | Broken::Reading(_), _) => self.end(),
        }
        Poll::Ready(Err(broken))
    }

    /// A source had its time. What it gave is still delivered.
    fn grace_over(&mut self, opposite: State) {
        let over = match self.state {
            State::Draining => self.held.waits_for_source(),
            State::Discarding => opposite == State::Ended,
            State::Open | State::Finishing | State::Ended => false,
        };
        if over {
            self.end();
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.held.release();
    }
}

/// How long, once a stream broke, either may go without a step towards its end: the broken one may still have what arrived
/// before, the other may have to read the last answer.
const GRACE: Duration = Duration::from_secs(1);

/// Pieces of one way in one poll, before other tasks of the thread get their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests;
