//! The program's side of a flow: decides what it may read and write, how it ends, and when it is
//! woken; knows no packets.

use std::task::Waker;

use smoltcp::socket::tcp::State;

use super::engine::is_opening;
use super::phase::{Closing, Holder, Phase};
use super::{End, Flow, Transfer};

impl Flow {
    /// Lets the SYN-ACK go. From now on there is a handle.
    pub(crate) fn accept(&mut self) {
        if let Phase::Live(live) = &mut self.phase {
            live.holder = Holder::Program(Closing::Unasked);
            live.engine.accept();
        }
    }

    /// The program has let go. What is queued still goes out, and then the end that the program has
    /// made, or a reset if it made none.
    pub(crate) fn release(&mut self) {
        let live = match &mut self.phase {
            Phase::Live(live) => live,
            Phase::Over(over) => return over.remains = None,
        };
        if live.engine.state() == State::SynSent {
            // No answer has come yet; if one does, it will find no such flow.
            return self.finish(End::Aborted);
        }
        if let Holder::Program(closing) = live.holder {
            let has_shut = live.has_shut();
            live.holder = Holder::Nobody(closing);
            if !has_shut {
                live.holder.ask_for_reset();
            }
        }
    }

    /// Ends the flow with a reset, which the remote gets after what is queued.
    pub(crate) fn reset_when_delivered(&mut self) {
        if let Phase::Live(live) = &mut self.phase {
            live.holder.ask_for_reset();
        }
    }

    /// The program sends no more: a FIN follows the bytes that are queued, unless a reset does.
    pub(crate) fn shutdown(&mut self) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        if is_opening(live.engine.state()) {
            live.holder.ask_for_fin();
        } else if !live.holder.wants_reset() {
            live.engine.close();
        }
    }

    /// Moves bytes out of the receive ring: `take` gets what lies there in one piece and says how
    /// much it took.
    pub(crate) fn read<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> Transfer<R> {
        if let Some(engine) = self.phase.engine_mut().filter(|it| it.unread() > 0) {
            let (taken, result) = engine.read(take);
            self.window.read = self.window.read.wrapping_add(taken as u32);
            // The ring is not empty, so the engine allows to read it whatever its state.
            return result.map_or(Transfer::Blocked, Transfer::Done);
        }
        let end = self.end();
        if end == Some(End::Aborted) {
            return Transfer::Failed(End::Aborted);
        }
        if self.has_eof() {
            return Transfer::Finished;
        }
        match end {
            None => Transfer::Blocked,
            Some(End::Closed) => Transfer::Finished,
            Some(end) => Transfer::Failed(end),
        }
    }

    /// Moves bytes into the transmit ring: `fill` gets the room that lies there in one piece and
    /// says how much it used.
    pub(crate) fn write<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Transfer<R> {
        let live = match &mut self.phase {
            Phase::Live(live) => live,
            Phase::Over(over) if over.end == End::Closed => return Transfer::Finished,
            Phase::Over(over) => return Transfer::Failed(over.end),
        };
        if live.holder.has_asked() {
            return Transfer::Finished;
        }
        let room = live.engine.room_to_write(self.share);
        if is_opening(live.engine.state()) || room == 0 {
            return Transfer::Blocked;
        }
        let written = live.engine.write(room, fill);
        written.map_or(Transfer::Finished, Transfer::Done)
    }

    /// Sets the bytes that it may have queued, since others send as well.
    pub(crate) fn set_share(&mut self, bytes: usize) {
        self.share = bytes;
    }

    /// Returns whether it has much to send, given whether it had until now.
    pub(crate) fn is_busy(&self, was_busy: bool) -> bool {
        let limit = if was_busy { BUSY_UNTIL } else { BUSY_FROM };
        matches!(&self.phase, Phase::Live(live) if live.engine.unsent() >= limit)
    }

    pub(crate) fn wakers_mut(&mut self) -> &mut Wakers {
        &mut self.wakers
    }

    /// Returns whether the remote has acknowledged all that the program wrote, and its close if it
    /// closed; or never will.
    pub(crate) fn is_delivered(&self) -> bool {
        match &self.phase {
            Phase::Live(live) => live.is_delivered(),
            Phase::Over(_) => true,
        }
    }

    /// Takes out the wakers of those who can go on. They are called when the flow is no longer
    /// locked.
    pub(crate) fn take_wakers(&mut self) -> [Option<Waker>; 4] {
        if self.wakers.is_empty() {
            return [None, None, None, None];
        }
        let eof = self.has_eof();
        let wakers = &mut self.wakers;
        let (open, readable, writable, delivered) = match &self.phase {
            Phase::Over(_) => (true, true, true, true),
            Phase::Live(live) => {
                let delivered = wakers.delivered.is_some() && live.is_delivered();
                match live.holder {
                    Holder::Undecided | Holder::Nobody(_) => (true, true, true, delivered),
                    Holder::Program(_) => {
                        let engine = &live.engine;
                        let open = !is_opening(engine.state());
                        let writable =
                            live.holder.wants_reset() || open && engine.is_writable(self.share);
                        (open, eof || engine.unread() > 0, writable, delivered)
                    }
                }
            }
        };
        [
            wakers.open.take_if(|_| open),
            wakers.read.take_if(|_| readable),
            wakers.write.take_if(|_| writable),
            wakers.delivered.take_if(|_| delivered),
        ]
    }
}

/// A flow with so many bytes queued is busy until few are left: more than any message of a
/// dialogue, and far apart, so that a steady stream does not change sides.
const BUSY_FROM: usize = 128 << 10;
const BUSY_UNTIL: usize = 16 << 10;

/// Those who wait for this flow: one for each thing there is to wait for.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    pub(crate) open: Option<Waker>,
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    /// Of the task that closes the stack.
    pub(crate) delivered: Option<Waker>,
}

impl Wakers {
    fn is_empty(&self) -> bool {
        self.open.is_none()
            && self.read.is_none()
            && self.write.is_none()
            && self.delivered.is_none()
    }
}
