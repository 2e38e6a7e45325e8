//! Moves bytes both ways between two streams until both ways have ended. It opens nothing, and
//! [`PourInto`] moves a piece: between a socket and the overlay, no byte is copied on the way to
//! the ring, and bytes that wait do so there.
//!
//! ```text
//! each way:  Open --EOF--> Finishing (rest, then shutdown of the write side) --> Ended
//!            write fails: Discarding; what had arrived from the broken stream is read (Draining)
//!            read fails:  both ways Ended
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep, timeout};

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

/// The end of both ways.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes that the second stream took.
    pub to_right: u64,
    /// Bytes that the first stream took.
    pub to_left: u64,
    /// The stream that broke first, if not both closed in order.
    pub failure: Option<(SplicedSide, io::Error)>,
    /// True if a stream was aborted: the one that did not break, or both because no byte moved for
    /// too long.
    pub aborted: bool,
    /// True if no byte moved for too long.
    pub expired: bool,
}

/// Copies both ways until both have ended. The end of one way closes the write side of the stream
/// that it leads to, and the other way goes on, for as long as the default [`Patience`] lets it.
///
/// If a stream breaks, what had arrived from it is still delivered. Then the other stream is
/// aborted (see [`Abort::abort`]), unless the broken one had closed its side in order before. The
/// caller drops both.
///
/// If this is dropped before both ways have ended, neither source has made that end, and both
/// streams are aborted.
pub async fn splice<L, R>(left: &mut L, right: &mut R) -> Spliced
where
    L: PourInto<R> + AsyncWrite + Abort,
    R: PourInto<L> + AsyncWrite + Abort,
{
    splice_within(left, right, Patience::default()).await
}

/// The same with another patience. If it is over, both streams are aborted.
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
    let mut ways = BothWays::default();
    let mut grace = pin!(sleep(Duration::ZERO));
    let mut grace_for = ways.steps();
    let mut watch = Watch::new(patience, Instant::now());
    let mut alarm = pin!(sleep(Duration::ZERO));
    let expired = poll_fn(|cx| {
        loop {
            if !ways.poll(cx, &mut *both.left, &mut *both.right) {
                return Poll::Ready(false);
            }
            if watch.is_needed() && ways.has_expired(cx, &mut watch, alarm.as_mut()) {
                return Poll::Ready(true);
            }
            if ways.failure.is_none() {
                return Poll::Pending;
            }
            if grace_for != ways.steps() {
                grace_for = ways.steps();
                grace.set(sleep(ways.grace()));
            }
            ready!(grace.as_mut().poll(cx));
            grace_for = Default::default();
            ways.grace_over();
        }
    })
    .await;
    let aborted = match ways.failure {
        _ if expired => {
            both.left.abort();
            both.right.abort();
            true
        }
        Some((SplicedSide::Left, _)) if !ways.rightward.in_order => {
            abort_after_delivery(both.right).await;
            true
        }
        Some((SplicedSide::Right, _)) if !ways.leftward.in_order => {
            abort_after_delivery(both.left).await;
            true
        }
        Some(_) | None => false,
    };
    both.ended = true;
    Spliced {
        to_right: ways.rightward.written,
        to_left: ways.leftward.written,
        failure: ways.failure,
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

/// Resets a stream when the other end has taken all that was written, or does not take it for too
/// long.
async fn abort_after_delivery(stream: &impl Abort) {
    let delivered = poll_fn(|cx| stream.poll_delivered(cx));
    let _in_time = timeout(DELIVERY_MAX, delivered).await;
    stream.abort();
}

/// Both directions, and the stream that broke first.
#[derive(Default)]
struct BothWays {
    rightward: Direction,
    leftward: Direction,
    failure: Option<(SplicedSide, io::Error)>,
}

impl BothWays {
    /// Moves all that can be moved. Returns whether one of the ways has not ended.
    fn poll<L, R>(&mut self, cx: &mut Context<'_>, left: &mut L, right: &mut R) -> bool
    where
        L: PourInto<R> + AsyncWrite,
        R: PourInto<L> + AsyncWrite,
    {
        loop {
            let right_pending = match self.rightward.poll(cx, left, right) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = self.leftward.opposite_broke(
                        &broken,
                        self.rightward.written > 0,
                        SplicedSide::Left,
                        SplicedSide::Right,
                    );
                    self.failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            let left_pending = match self.leftward.poll(cx, right, left) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(broken)) => {
                    let side = self.rightward.opposite_broke(
                        &broken,
                        self.leftward.written > 0,
                        SplicedSide::Right,
                        SplicedSide::Left,
                    );
                    self.failure.get_or_insert((side, broken.into_error()));
                    continue;
                }
            };
            return right_pending || left_pending;
        }
    }

    /// Returns whether no byte has moved for too long; if not, `alarm` wakes the task in time.
    fn has_expired(
        &self,
        cx: &mut Context<'_>,
        watch: &mut Watch,
        mut alarm: Pin<&mut Sleep>,
    ) -> bool {
        let now = Instant::now();
        let is_half_closed = self.rightward.in_order || self.leftward.in_order;
        let moved = self.rightward.written + self.leftward.written;
        watch.handle(now, moved, is_half_closed);
        while let Some(deadline) = watch.deadline() {
            if deadline <= now {
                return true;
            }
            // A later deadline is looked at when the alarm goes off.
            if alarm.deadline() > deadline || alarm.deadline() <= now {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        false
    }

    fn steps(&self) -> [(DirectionState, u64); 2] {
        [self.rightward.step(), self.leftward.step()]
    }

    fn grace(&self) -> Duration {
        self.rightward.grace().min(self.leftward.grace())
    }

    fn grace_over(&mut self) {
        self.rightward.grace_over(self.leftward.state);
        self.leftward.grace_over(self.rightward.state);
    }
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
    /// Nothing can be written to the source: bytes that had arrived from it before are still read.
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

    /// Moves all that can be moved. Ready once the way has ended; an error is reported once.
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

    /// Returns values that change with each step of this way, once a stream broke:
    /// [`Direction::grace`] then begins again.
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

    /// Ends a way whose source had its time. Bytes that it gave are still delivered.
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

/// Time, once a stream broke, that either may go without a step towards its end: the broken one may
/// still have what arrived before, the other may have to read the last answer.
const GRACE: Duration = Duration::from_secs(1);

/// Silence after which a program that was answered is not sending any more: many turns of its own
/// loop, and soon enough for one that only waits for the reset.
const LINGER: Duration = Duration::from_millis(200);

/// Bytes that a program which was answered may go on to send before it is reset all the same: more
/// than lies on any path.
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// Time that a stream whose other side broke may take for what came before: a program that reads at
/// all has read by then what the kernel keeps for it.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// Pieces of one way in one poll, before other tasks of the thread get their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests;
