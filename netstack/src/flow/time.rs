//! The time of one flow: decides when it wants to be looked at again, and does what is then due.
//! Holds the flow's own clock and reads no other.

use smoltcp::socket::tcp::State;
use smoltcp::time::Instant as Ticks;

use super::deadline::{Deadline, DeadlineKind};
use super::engine::is_opening;
use super::phase::Phase;
use super::{Due, End, Flow};
use crate::clock::Moment;
use crate::config::Config;

/// A clock that never runs backwards and may be put forward, in ticks.
pub(super) struct FlowClock {
    /// The latest moment it was given.
    pub(super) last: Moment,
    /// The time at which a packet last came or went, on the real clock.
    pub(super) active: i64,
    /// The path's time plus `ahead`.
    pub(super) shown: i64,
    /// The ticks by which it was put forward.
    ahead: i64,
    /// Until then the engine is not asked again although it claims to have something.
    rest_until: i64,
}

impl FlowClock {
    pub(super) fn new(now: Moment) -> FlowClock {
        FlowClock {
            last: now,
            active: now.real,
            shown: now.path,
            ahead: 0,
            rest_until: i64::MIN,
        }
    }

    /// Goes on to `now`, whatever order several threads arrive in.
    pub(super) fn tick(&mut self, now: Moment) {
        self.last = Moment {
            real: self.last.real.max(now.real),
            path: self.last.path.max(now.path),
        };
        self.shown = self.shown.max(now.path + self.ahead);
    }

    /// Puts it forward, as if the path had taken so much longer.
    pub(super) fn put_forward(&mut self, ticks: i64) {
        self.ahead += ticks;
        self.shown += ticks;
    }

    /// Lets the engine rest: it claims to have a packet and has none.
    pub(super) fn start_rest(&mut self) {
        self.rest_until = self.shown + REST;
    }

    pub(super) fn end_rest(&mut self) {
        self.rest_until = i64::MIN;
    }

    pub(super) fn note_activity(&mut self) {
        self.active = self.last.real;
    }
}

impl Flow {
    /// Does what is due. Early and repeated calls do nothing.
    pub(crate) fn handle_timeout(&mut self, config: &Config, now: Moment) {
        self.clock.tick(now);
        if self.reclaim_at().is_some_and(|at| at <= now.real)
            && let Phase::Live(live) = &mut self.phase
        {
            live.engine.reclaim();
        }
        let Phase::Live(live) = &self.phase else {
            return;
        };
        let Some(deadline) = live.deadline else {
            return;
        };
        if deadline.at.is_none_or(|at| at > deadline.kind.read(now)) {
            return;
        }
        match deadline.kind {
            // Nothing has come back, so nobody is there to hear of it.
            DeadlineKind::Connect => self.finish(End::TimedOut),
            DeadlineKind::Handshake
            | DeadlineKind::FinWait
            | DeadlineKind::LastAck
            | DeadlineKind::Linger => self.reset(config, End::TimedOut),
        }
    }

    /// Decides when this flow has something to send.
    pub(crate) fn due(&mut self) -> Due {
        if !self.replies.is_empty() {
            return Due::Now;
        }
        let Phase::Live(live) = &mut self.phase else {
            return Due::Never;
        };
        if live.waits_for_accept() {
            return Due::Never;
        }
        let clock = &mut self.clock;
        let state = live.engine.state();
        match live.engine.poll_at(clock.shown) {
            None => Due::Never,
            // With our FIN acknowledged nothing can be repeated. If the last window was closed, the
            // engine's probe timer still runs, and once it has expired the engine would send empty
            // segments without end.
            Some(at) if state == State::FinWait2 && at != Ticks::ZERO => Due::Never,
            Some(at) if at.total_micros() > clock.shown => {
                let excess = at.total_micros() - clock.shown - LONGEST_WAIT;
                clock.put_forward(excess.max(0));
                Due::At(at.total_micros() - clock.ahead)
            }
            Some(_) if clock.rest_until > clock.shown => Due::At(clock.rest_until - clock.ahead),
            Some(_) => Due::Now,
        }
    }

    /// Brings the deadline in line with the state. Without `now` it starts with the next call that
    /// knows the time.
    pub(super) fn renew_deadline(&mut self, config: &Config, now: Option<Moment>) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let Some(kind) = live.deadline_kind() else {
            live.deadline = None;
            return;
        };
        let unsent = live.engine.unsent();
        let mut deadline = live
            .deadline
            .filter(|deadline| deadline.kind == kind && unsent >= deadline.unsent)
            .unwrap_or(Deadline {
                kind,
                at: None,
                unsent,
            });
        if let (None, Some(now)) = (deadline.at, now) {
            let patience = i64::try_from(kind.patience(config).as_micros()).unwrap_or(i64::MAX);
            deadline.at = Some(kind.read(now).saturating_add(patience));
        }
        live.deadline = Some(deadline);
    }

    /// The time at which this flow's deadline falls due, and whether that is real time or the
    /// path's.
    pub(crate) fn deadline(&self) -> Option<(i64, bool)> {
        let Phase::Live(live) = &self.phase else {
            return None;
        };
        let deadline = live.deadline?;
        Some((deadline.at?, deadline.kind.is_real()))
    }

    /// The time at which its rings go back to the kernel unless something happens, in ticks of the
    /// real clock.
    pub(crate) fn reclaim_at(&self) -> Option<i64> {
        let Phase::Live(live) = &self.phase else {
            return None;
        };
        let engine = &live.engine;
        let idle = engine.sockets.is_committed()
            && self.window.is_empty()
            && engine.unsent() == 0
            && !is_opening(engine.state());
        idle.then(|| self.clock.active.saturating_add(RECLAIM_AFTER))
    }

    /// The latest moment it was given.
    pub(crate) fn last(&self) -> Moment {
        self.clock.last
    }
}

/// Longest wait before something is repeated: 4 s in ticks. The engine doubles its wait up to a
/// minute to spare a congested line (RFC 6298; <https://github.com/smoltcp-rs/smoltcp/pull/1023>).
/// Here the tunnel does that, and a loss means that a link or a relay failed: a remote that comes
/// back is tried again soon.
const LONGEST_WAIT: i64 = 4_000_000;
/// 10 ms in ticks.
const REST: i64 = 10_000;
/// 5 s in ticks: longer than the pauses within a dialogue of programs, short enough that thousands
/// of connections that said something once do not hold their pages.
const RECLAIM_AFTER: i64 = 5_000_000;
