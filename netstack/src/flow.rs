//! One TCP connection: decides how it answers packets, time and its program; holds its rings but no
//! lock and no queue.
//!
//! `live --both sides closed, or reset, or a deadline--> over`. The engine knows the states of a
//! live connection, the program's wishes stand beside it, and a flow that is over keeps its engine
//! only as long as the program has received bytes left to read.

use std::collections::VecDeque;

use smoltcp::socket::tcp::State;

use self::engine::{Engine, is_opening};
use self::phase::{Closing, Holder, Live, Over, Phase};
use self::program::Wakers;
use self::time::FlowClock;
use self::window::{SentRecord, Window};
use crate::arena::RingPair;
use crate::clock::Moment;
use crate::config::Config;
use crate::key::FlowKey;
use crate::packet;

mod deadline;
mod engine;
mod phase;
mod program;
mod segments;
mod time;
mod window;

pub(crate) struct Flow {
    phase: Phase,
    clock: FlowClock,
    window: Window,
    sent: SentRecord,
    /// The remote said that it sends no more.
    eof: bool,
    /// Answers the engine gave to single packets, and the last word of a flow that is over.
    replies: VecDeque<Vec<u8>>,
    wakers: Wakers,
    /// Bytes it may have queued, since others send as well.
    share: usize,
}

/// The reason for which a flow is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed.
    Closed,
    /// The remote reset it.
    Reset,
    /// The remote refused it.
    Refused,
    /// We reset it at the program's wish.
    Aborted,
    /// A deadline of ours.
    TimedOut,
    /// The remote is gone, or cannot be reached.
    Unreachable,
    /// The engine failed.
    Panicked,
}

/// The time at which a flow wants to be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// In ticks of the path's clock.
    At(i64),
    Never,
}

/// The fate of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    /// It ends beyond the window we announced.
    OutOfWindow,
    /// There is no memory for it; the remote sends it again.
    NoMemory,
    /// The flow is over.
    Over,
}

/// A packet that a flow put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emission {
    pub(crate) len: usize,
    pub(crate) retransmission: bool,
}

/// The outcome of a program's read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer<R> {
    Done(R),
    /// Nothing can be moved now.
    Blocked,
    /// This direction was closed in good order.
    Finished,
    Failed(End),
}

impl Flow {
    /// A flow that opens towards the remote.
    pub(crate) fn connect(
        key: &FlowKey,
        config: &Config,
        rings: RingPair,
        seed: u64,
        now: Moment,
    ) -> Option<Flow> {
        let window = Window::new(rings.rx.len());
        let mut engine = Engine::new(config, rings, seed, now.path);
        let holder = Holder::Program(Closing::Unasked);
        engine
            .connect(key)
            .then(|| Flow::new(window, engine, holder, now))
    }

    /// A flow that waits for exactly one SYN and does not answer it before `accept`.
    pub(crate) fn listen(
        key: &FlowKey,
        config: &Config,
        rings: RingPair,
        seed: u64,
        now: Moment,
    ) -> Option<Flow> {
        let window = Window::new(rings.rx.len());
        let mut engine = Engine::new(config, rings, seed, now.path);
        engine
            .listen(key)
            .then(|| Flow::new(window, engine, Holder::Undecided, now))
    }

    fn new(window: Window, engine: Engine, holder: Holder, now: Moment) -> Flow {
        Flow {
            phase: Phase::Live(Live {
                engine,
                holder,
                deadline: None,
            }),
            clock: FlowClock::new(now),
            window,
            sent: SentRecord::default(),
            eof: false,
            replies: VecDeque::new(),
            wakers: Wakers::default(),
            share: usize::MAX,
        }
    }

    /// Brings deadlines and the program's wishes in line with the state. Belongs after every other
    /// call. `now` is unknown to a program's call; then a deadline starts with the next call that
    /// knows it.
    pub(crate) fn settle(&mut self, config: &Config, now: Option<Moment>) {
        self.eof = self.has_eof();
        if let Phase::Live(live) = &mut self.phase {
            if live.holder.wants_fin() && !is_opening(live.engine.state()) {
                live.holder.fin_handed_over();
                live.engine.close();
            }
            // Nobody will ever read what is left, and the remote has to know that its bytes went
            // nowhere.
            let lost = !matches!(live.holder, Holder::Program(_)) && live.engine.unread() > 0;
            if lost {
                live.holder.ask_for_reset();
            }
            if (lost || live.holder.wants_reset()) && live.is_delivered() {
                self.reset(config, End::Aborted);
            } else if live.engine.state() == State::TimeWait && self.due() != Due::Now {
                self.finish(End::Closed);
            }
        }
        if let Phase::Over(over) = &mut self.phase
            && over
                .remains
                .as_ref()
                .is_some_and(|engine| engine.unread() == 0)
        {
            over.remains = None;
        }
        self.renew_deadline(config, now);
    }

    /// Ends the flow and tells the remote.
    pub(crate) fn reset(&mut self, config: &Config, end: End) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        self.replies.clear();
        let speechless = matches!(
            live.engine.state(),
            State::SynSent | State::Listen | State::Closed | State::TimeWait
        );
        if !speechless {
            live.engine.abort();
            let mut packet = Vec::new();
            self.egress(config, &mut packet, 0);
            if !packet.is_empty() {
                if let Some(sent_to) = self.sent.sent_to {
                    // While it repeats itself the engine names a number that the remote may have
                    // passed, and a reset outside of the window is ignored.
                    packet::set_sequence(&mut packet, sent_to);
                }
                self.replies.push_back(packet);
            }
        }
        self.finish(end);
    }

    /// Ends the flow without a word.
    pub(crate) fn finish(&mut self, end: End) {
        if self.is_over() {
            return;
        }
        self.eof = self.has_eof();
        let remains = None;
        let ended = std::mem::replace(&mut self.phase, Phase::Over(Over { end, remains }));
        // Bytes that arrived before the end stay readable, unless the program threw the flow away
        // itself.
        if let (Phase::Live(live), Phase::Over(over)) = (ended, &mut self.phase)
            && matches!(live.holder, Holder::Program(_))
            && !matches!(end, End::Panicked | End::Aborted)
        {
            over.remains = Some(live.engine);
        }
    }

    /// Ends the flow and forgets what it had to say: there is nobody to say it to.
    pub(crate) fn cut(&mut self) {
        self.finish(End::Unreachable);
        self.replies.clear();
    }

    /// The outcome of the attempt to open; `None` while it goes on.
    pub(crate) fn opened(&self) -> Option<Result<(), End>> {
        match &self.phase {
            Phase::Over(over) if over.end == End::Closed => Some(Ok(())),
            Phase::Over(over) => Some(Err(over.end)),
            Phase::Live(live) => (!is_opening(live.engine.state())).then_some(Ok(())),
        }
    }

    /// The trace that stays in the table when this flow, which is over, leaves it: sequence and
    /// acknowledgement number of the answer to a repeated FIN.
    pub(crate) fn final_ack(&self) -> Option<(u32, u32)> {
        self.sent
            .final_ack
            .filter(|_| self.end() == Some(End::Closed))
    }

    /// The last words of a flow that is over.
    pub(crate) fn take_replies(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.replies)
    }

    /// Bytes of its receive ring, and so the largest window it announces.
    pub(crate) fn rx_ring(&self) -> usize {
        self.window.capacity
    }

    /// Returns whether its next packet may carry data.
    pub(crate) fn has_data(&self) -> bool {
        self.replies.is_empty() && self.unsent() > 0
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// The reason for its end, once it is over.
    pub(crate) fn end(&self) -> Option<End> {
        match &self.phase {
            Phase::Live(_) => None,
            Phase::Over(over) => Some(over.end),
        }
    }

    /// Returns whether its handshake goes on.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if is_opening(live.engine.state()))
    }

    /// Returns whether the SYN that an inbound flow was made for has been understood.
    pub(crate) fn has_syn(&self) -> bool {
        self.state() == State::SynReceived
    }

    fn has_eof(&self) -> bool {
        self.eof
            || matches!(
                self.state(),
                State::CloseWait | State::LastAck | State::Closing | State::TimeWait
            )
    }

    /// Bytes the program has written and the remote has not acknowledged.
    fn unsent(&self) -> usize {
        self.phase.engine().map_or(0, Engine::unsent)
    }

    fn state(&self) -> State {
        self.phase.engine().map_or(State::Closed, Engine::state)
    }
}

#[cfg(test)]
mod tests;
