//! What the program does with a flow: decides what it may read and write and when it is woken; knows no packets.

use std::task::Waker;

use smoltcp::socket::tcp::State;

use super::{End, Flow, Transfer, is_opening};

impl Flow {
    /// Moves bytes out of the receive ring: `take` gets what lies there in one piece and says how much it took.
    pub(crate) fn read<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> Transfer<R> {
        if self.end == Some(End::Aborted) {
            return Transfer::Failed(End::Aborted);
        }
        if self.unread() > 0
            && let Some(engine) = &mut self.engine
        {
            let mut taken = 0;
            let result = engine.with_socket(|socket| {
                socket.recv(|bytes| {
                    let (count, result) = take(bytes);
                    taken = count;
                    (count, result)
                })
            });
            self.window.read = self.window.read.wrapping_add(taken as u32);
            self.rx_passed = (self.rx_passed + taken).min(self.window.capacity);
            // The ring is not empty, so the engine allows to read it whatever its state.
            return result.map_or(Transfer::Blocked, Transfer::Done);
        }
        if self.has_eof() {
            return Transfer::Finished;
        }
        match self.end {
            None => Transfer::Blocked,
            Some(End::Closed) => Transfer::Finished,
            Some(end) => Transfer::Failed(end),
        }
    }

    /// Moves bytes into the transmit ring: `fill` gets the room that lies there in one piece and says how much it used.
    pub(crate) fn write<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Transfer<R> {
        if let Some(end) = self.end.filter(|end| *end != End::Closed) {
            return Transfer::Failed(end);
        }
        if self.shut_wanted || self.reset_wanted {
            return Transfer::Finished;
        }
        let state = self.state();
        let Some(engine) = &mut self.engine else {
            return Transfer::Finished;
        };
        let (queued, capacity) = (
            engine.socket().send_queue(),
            engine.socket().send_capacity(),
        );
        // An empty ring is filled from its start.
        let before = if queued == 0 { 0 } else { self.tx_run };
        let room_left = capacity
            .min(self.share)
            .saturating_sub(queued)
            .min(engine.sockets.tx.reach().saturating_sub(before));
        if is_opening(state) || room_left == 0 {
            return Transfer::Blocked;
        }
        let mut filled = 0;
        let sent = engine.with_socket(|socket| {
            socket.send(|room| {
                let len = room.len().min(room_left);
                let (count, result) = fill(&mut room[..len]);
                filled = count;
                (count, result)
            })
        });
        self.tx_run = (before + filled).min(capacity);
        engine.sockets.tx.touch(self.tx_run);
        sent.map_or(Transfer::Finished, Transfer::Done)
    }

    /// The program sends no more: a FIN follows the bytes that are queued, unless a reset does.
    pub(crate) fn shutdown(&mut self) {
        if self.reset_wanted {
            return;
        }
        if is_opening(self.state()) {
            self.shut_wanted = true;
        } else {
            self.close_engine();
        }
    }

    pub(crate) fn wakers_mut(&mut self) -> &mut Wakers {
        &mut self.wakers
    }

    /// Whether the remote has acknowledged all that the program wrote, and its close if it closed; or never will.
    pub(crate) fn is_delivered(&self) -> bool {
        let closing = matches!(
            self.state(),
            State::FinWait1 | State::Closing | State::LastAck
        );
        self.end.is_some() || self.unsent() == 0 && !self.shut_wanted && !closing
    }

    /// Takes out the wakers of those who can go on. They are called when the flow is no longer locked.
    pub(crate) fn take_wakers(&mut self) -> [Option<Waker>; 4] {
        if self.wakers.is_empty() {
            return [None, None, None, None];
        }
        let delivered = self.wakers.delivered.is_some() && self.is_delivered();
        if !self.held {
            return [
                self.wakers.open.take(),
                self.wakers.read.take(),
                self.wakers.write.take(),
                self.wakers.delivered.take_if(|_| delivered),
            ];
        }
        let over = self.end.is_some();
        let opening = !over && is_opening(self.state());
        let readable = over || self.unread() > 0 || self.has_eof();
        let writable = over
            || self.reset_wanted
            || !opening
                && self.engine.as_ref().is_none_or(|engine| {
                    let socket = engine.socket();
                    let limit = socket.send_capacity().min(self.share);
                    let free = limit.saturating_sub(socket.send_queue());
                    let has_memory =
                        socket.send_queue() == 0 || engine.sockets.tx.reach() > self.tx_run;
                    !socket.may_send() || free >= limit / WRITER_SHARE && has_memory
                });
        [
            self.wakers.open.take_if(|_| !opening),
            self.wakers.read.take_if(|_| readable),
            self.wakers.write.take_if(|_| writable),
            self.wakers.delivered.take_if(|_| delivered),
        ]
    }
}

/// A writer that waits is woken when a quarter of the ring is free: each wake-up moves a good piece.
const WRITER_SHARE: usize = 4;

/// Those who wait for this flow: one for each thing there is to wait for.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    pub(crate) open: Option<Waker>,
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    /// Of whoever closes the stack.
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
