//! The phases of a connection as types: what a live one has that one that is over lacks, and what
//! its program still wants of it. The states of the TCP handshake itself are the engine's.

use smoltcp::socket::tcp::State;

use super::End;
use super::deadline::{Deadline, DeadlineKind};
use super::engine::{Engine, is_opening};

/// `Live` until the first [`End`], then `Over` for good.
pub(super) enum Phase {
    Live(Live),
    Over(Over),
}

/// A connection that opens, is open, or closes.
pub(super) struct Live {
    pub(super) engine: Engine,
    pub(super) holder: Holder,
    pub(super) deadline: Option<Deadline>,
}

/// A connection that has ended.
pub(super) struct Over {
    pub(super) end: End,
    /// Kept as long as the program has received bytes left to read.
    pub(super) remains: Option<Engine>,
}

/// The program's part in a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Inbound and not accepted yet; the SYN-ACK waits for that.
    Undecided,
    /// A handle exists.
    Program(Closing),
    /// The handle was dropped; what is queued is still delivered.
    Nobody(Closing),
}

/// The end that the program wants for its own direction, as far as the engine has not been asked
/// for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It may write more, unless the engine has its FIN already.
    Unasked,
    /// With a FIN, once the handshake is complete.
    Fin,
    /// With a reset, once the remote has acknowledged what is queued.
    Reset,
    /// With a FIN once the handshake is complete, and with a reset once that is acknowledged.
    FinThenReset,
}

impl Phase {
    pub(super) fn engine(&self) -> Option<&Engine> {
        match self {
            Phase::Live(live) => Some(&live.engine),
            Phase::Over(over) => over.remains.as_ref(),
        }
    }

    pub(super) fn engine_mut(&mut self) -> Option<&mut Engine> {
        match self {
            Phase::Live(live) => Some(&mut live.engine),
            Phase::Over(over) => over.remains.as_mut(),
        }
    }
}

impl Live {
    /// Returns whether nothing may be sent because the program has not accepted.
    pub(super) fn waits_for_accept(&self) -> bool {
        let half_open = || matches!(self.engine.state(), State::Listen | State::SynReceived);
        self.holder == Holder::Undecided && half_open()
    }

    /// Returns whether the program has ended its direction in order.
    pub(super) fn has_shut(&self) -> bool {
        let state = self.engine.state();
        let open = matches!(state, State::Established | State::CloseWait);
        self.holder.wants_fin() || !open && !is_opening(state)
    }

    /// Returns whether the remote has acknowledged all that the program wrote, and its close if it
    /// closed.
    pub(super) fn is_delivered(&self) -> bool {
        let closing = matches!(
            self.engine.state(),
            State::FinWait1 | State::Closing | State::LastAck
        );
        self.engine.unsent() == 0 && !self.holder.wants_fin() && !closing
    }

    /// The patience that the present state calls for.
    pub(super) fn deadline_kind(&self) -> Option<DeadlineKind> {
        let held = matches!(self.holder, Holder::Program(_));
        match (self.engine.state(), held) {
            (State::SynSent, _) => Some(DeadlineKind::Connect),
            (State::SynReceived, _) => Some(DeadlineKind::Handshake),
            _ if self.holder.wants_reset() => Some(DeadlineKind::Linger),
            (State::FinWait2, false) => Some(DeadlineKind::FinWait),
            (State::FinWait1 | State::Closing | State::LastAck, false) => {
                Some(DeadlineKind::Linger)
            }
            (State::Closing | State::LastAck, true) => Some(DeadlineKind::LastAck),
            _ => None,
        }
    }
}

impl Holder {
    pub(super) fn wants_fin(self) -> bool {
        matches!(self.closing(), Some(Closing::Fin | Closing::FinThenReset))
    }

    pub(super) fn wants_reset(self) -> bool {
        matches!(self.closing(), Some(Closing::Reset | Closing::FinThenReset))
    }

    /// Returns whether the program has said that it writes no more, and the engine may not know.
    pub(super) fn has_asked(self) -> bool {
        !matches!(self.closing(), None | Some(Closing::Unasked))
    }

    pub(super) fn ask_for_fin(&mut self) {
        self.change(|closing| match closing {
            Closing::Unasked | Closing::Fin => Closing::Fin,
            Closing::Reset | Closing::FinThenReset => closing,
        });
    }

    pub(super) fn ask_for_reset(&mut self) {
        self.change(|closing| match closing {
            Closing::Unasked | Closing::Reset => Closing::Reset,
            Closing::Fin | Closing::FinThenReset => Closing::FinThenReset,
        });
    }

    /// Takes note that the engine has the FIN.
    pub(super) fn fin_handed_over(&mut self) {
        self.change(|closing| match closing {
            Closing::Unasked | Closing::Fin => Closing::Unasked,
            Closing::Reset | Closing::FinThenReset => Closing::Reset,
        });
    }

    fn closing(self) -> Option<Closing> {
        match self {
            Holder::Undecided => None,
            Holder::Program(closing) | Holder::Nobody(closing) => Some(closing),
        }
    }

    fn change(&mut self, change: impl FnOnce(Closing) -> Closing) {
        match self {
            Holder::Undecided => {}
            Holder::Program(closing) | Holder::Nobody(closing) => *closing = change(*closing),
        }
    }
}
