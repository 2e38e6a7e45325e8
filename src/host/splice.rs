//! Moves bytes both ways between two streams until both ways have ended. It opens nothing, and how
//! a piece is moved is up to
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
use tokio::time::{Instant, sleep, timeout};

use patience::Watch;

pub use ending::{Abort, ResetOnDrop};
pub use patience::{HALF_CLOSED, Patience};
pub use pour::{Broken, HeldBytes, HostSocket, PourInto};

mod ending;

mod patience;

mod pour;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplicedSide {
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
    pub failure: Option<(SplicedSide, io::Error)>,
    /// Whether a stream was told to abort: the other one than broke, or both because no byte moved
    /// for too long.
    pub aborted: bool,
    /// Whether no byte moved for too long.
    pub expired: bool,
}

/// Copies both ways until both have ended. The end of one way closes the write side of the stream
/// that it leads to, and the other way goes on, for as long as the default [`Patience`] lets it.
///
/// If a stream breaks, what had arrived from it is still delivered. Then the other stream is told
/// to [`Abort::abort`], unless the broken one had closed its side in order before. The caller drops
/// both.
///
/// If this is dropped before both ways have ended, neither source has made that end: both streams
/// are told to abort.
pub async fn splice<L, R>(left: &mut L, right: &mut R) -> Spliced
where
    L: PourInto<R> + AsyncWrite + Abort,
    R: PourInto<L> + AsyncWrite + Abort,
{
    splice_within(left, right, Patience::default()).await
}

/// The same with another patience. If it is over, both streams are told to abort.
pub async fn splice_within<L, R>(left: &mut L, right: &mut R, patience: Patience) -> Spliced
where
    L: PourInto<R> + AsyncWrite + Abort,
    R: PourInto<L> + AsyncWrite + Abort,
{
    let mut both = StreamPair {
        left,
        right,
        ended: false,
    };
    let mut rightward = Direction::default();
    let mut leftward = Direction::default();
    let mut failure = None;
    let mut grace = pin!(sleep(Duration::ZERO));
    let mut grace_for = (rightward.step(), leftward.step());
    let mut watch = Watch::new(patience, Instant::now());
    let mut alarm = pin!(sleep(Duration::ZERO));
    let expired = poll_fn(|cx| {
        let StreamPair { left, right, .. } = &mut both;
        loop {
            let right_pending = match rightward.poll(cx, *left, *right) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = leftward.opposite_broke(
                        &broken,
                        rightward.written > 0,
                        SplicedSide::Left,
                        SplicedSide::Right,
                    );
                    failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            let left_pending = match leftward.poll(cx, *right, *left) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = rightward.opposite_broke(
                        &broken,
                        leftward.written > 0,
                        SplicedSide::Right,
                        SplicedSide::Left,
                    );
                    failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            if !(right_pending || left_pending) {
                return Poll::Ready(false);
            }
            if watch.is_needed() {
                let now = Instant::now();
                let is_half_closed = rightward.in_order || leftward.in_order;
                watch.handle(now, rightward.written + leftward.written, is_half_closed);
                while let Some(deadline) = watch.deadline() {
                    if deadline <= now {
                        return Poll::Ready(true);
                    }
                    // A later deadline is looked at when the alarm goes off.
                    if alarm.deadline() > deadline || alarm.deadline() <= now {
                        alarm.as_mut().reset(deadline);
                    }
                    if alarm.as_mut().poll(cx).is_pending() {
                        break;
                    }
                }
            }
            if failure.is_none() {
                return Poll::Pending;
            }
            let steps = (rightward.step(), leftward.step());
            if grace_for != steps {
                grace_for = steps;
                grace.set(sleep(rightward.grace().min(leftward.grace())));
            }
            ready!(grace.as_mut().poll(cx));
            grace_for = Default::default();
            rightward.grace_over(leftward.state);
            leftward.grace_over(rightward.state);
        }
    })
    .await;
    let aborted = match failure {
        _ if expired => {
            both.left.abort();
            both.right.abort();
            true
        }
        Some((SplicedSide::Left, _)) if !rightward.in_order => {
            abort_after_delivery(both.right).await;
            true
        }
        Some((SplicedSide::Right, _)) if !leftward.in_order => {
            abort_after_delivery(both.left).await;
            true
        }
        Some(_) | None => false,
    };
    both.ended = true;
    Spliced {
        to_right: rightward.written,
        to_left: leftward.written,
        failure,
        aborted,
        expired,
    }
}

/// Both streams, until their ends are known to be those that their sources made.
struct StreamPair<'a, L: Abort, R: Abort> {
    left: &'a mut L,
    right: &'a mut R,
    ended: bool,
}

impl<L: Abort, R: Abort> Drop for StreamPair<'_, L, R> {
    fn drop(&mut self) {
        if !self.ended {
            self.left.abort();
            self.right.abort();
        }
    }
}

/// Resets a stream when the other end has what was written, or does not take it for too long.
async fn abort_after_delivery(stream: &impl Abort) {
    let delivered = poll_fn(|cx| stream.poll_delivered(cx));
    let _in_time = timeout(DELIVERY_MAX, delivered).await;
    stream.abort();
}

/// One direction.
#[derive(Default)]
struct Direction {
    state: DirectionState,
    held: HeldBytes,
    written: u64,
    /// Bytes of the source that were thrown away.
    discarded: u64,
    /// The source closed its side, and did not break before.
    in_order: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum DirectionState {
    #[default]
    Open,
    /// Nothing can be written to the source: what had arrived from it before is read.
    Draining,
    /// The source has closed its side.
    Finishing,
    /// The sink is broken: the source's bytes are thrown away, so that it comes to reading the last
    /// answer.
    Discarding,
    /// The sink is gone after it answered: the source's bytes are thrown away until it sends none
    /// for a moment, because a program that meets a reset while it sends does not read the answer.
    Lingering,
    Ended,
}

impl Direction {
    /// Takes note that the way in the other direction, which leads from `source` to `sink`, broke,
    /// and says which side did. `answered`: that way has delivered something.
    fn opposite_broke(
        &mut self,
        broken: &Broken,
        answered: bool,
        source: SplicedSide,
        sink: SplicedSide,
    ) -> SplicedSide {
        match broken {
            // This way would write to the stream that cannot even be read.
            Broken::Reading(_) => {
                if answered && self.state == DirectionState::Open {
                    self.held.release();
                    self.state = DirectionState::Lingering;
                } else {
                    self.end();
                }
                source
            }
            // This way reads from the stream that takes nothing more. A server that answers early
            // and closes does this.
            Broken::Writing(_) => {
                if self.state == DirectionState::Open {
                    self.state = DirectionState::Draining;
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
                DirectionState::Ended => return Poll::Ready(Ok(())),
                DirectionState::Finishing => {
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
                DirectionState::Discarding | DirectionState::Lingering => {
                    match ready!(self.held.poll_discard(cx, from)) {
                        Ok(0) => self.end(),
                        Ok(count) => {
                            self.discarded += count as u64;
                            if self.state == DirectionState::Lingering
                                && self.discarded > LINGER_BYTES_MAX
                            {
                                self.end();
                            }
                        }
                        Err(error) => return self.broke(Broken::Reading(error)),
                    }
                }
                DirectionState::Open | DirectionState::Draining => {
                    match ready!(from.poll_pour(cx, to, &mut self.held)) {
                        Ok(0) => {
                            self.in_order = true;
                            self.state = DirectionState::Finishing;
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
            (Broken::Writing(_), DirectionState::Open) => {
                self.held.release();
                self.state = DirectionState::Discarding;
            }
            (Broken::Writing(_) | Broken::Reading(_), _) => self.end(),
        }
        Poll::Ready(Err(broken))
    }

    /// What has to change, once a stream broke, before [`Direction::grace`] begins again.
    fn step(&self) -> (DirectionState, u64) {
        match self.state {
            DirectionState::Lingering => (self.state, self.discarded),
            DirectionState::Open
            | DirectionState::Draining
            | DirectionState::Finishing
            | DirectionState::Discarding
            | DirectionState::Ended => (self.state, 0),
        }
    }

    /// The time that this way has for its next step, once a stream broke.
    fn grace(&self) -> Duration {
        match self.state {
            DirectionState::Lingering => LINGER,
            DirectionState::Open
            | DirectionState::Draining
            | DirectionState::Finishing
            | DirectionState::Discarding
            | DirectionState::Ended => GRACE,
        }
    }

    /// A source had its time. What it gave is still delivered.
    fn grace_over(&mut self, opposite: DirectionState) {
        let over = match self.state {
            DirectionState::Draining => self.held.waits_for_source(),
            DirectionState::Discarding => opposite == DirectionState::Ended,
            DirectionState::Lingering => true,
            DirectionState::Open | DirectionState::Finishing | DirectionState::Ended => false,
        };
        if over {
            self.end();
        }
    }

    fn end(&mut self) {
        self.state = DirectionState::Ended;
        self.held.release();
    }
}

/// How long, once a stream broke, either may go without a step towards its end: the broken one may
/// still have what arrived before, the other may have to read the last answer.
const GRACE: Duration = Duration::from_secs(1);

/// Silence after which a program that was answered is not sending any more: many turns of its own
/// loop, and soon enough for one that only waits for the reset.
const LINGER: Duration = Duration::from_millis(200);

/// Bytes that a program which was answered may go on to send before it is reset all the same: more
/// than lies on any path.
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// How long a stream whose other side broke may take to be given what came before: a program that
/// reads at all has read what the kernel keeps for it by then.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// Pieces of one way in one poll, before other tasks of the thread get their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests;
