//! Decides what every touch of a flow entails: who runs it, whether it waits for its turn or its
//! time, and whether it leaves the table. Holds nothing itself.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::Core;
use super::inbound::Segment;
use crate::clock::Moment;
use crate::flow::{Due, End, Flow, Verdict};
use crate::packet::{self, Payload, Tcp};
use crate::table::{FlowCell, Membership, Seat, SeatedFlow, TimeWait};

impl Core {
    /// Runs `work` on a flow, and then everything that a change of a flow entails.
    /// Without `now` the flow's own last moment has to do.
    pub(crate) fn run<R>(
        &self,
        cell: &Arc<FlowCell>,
        now: Option<i64>,
        work: impl FnOnce(&mut Flow, Moment) -> R,
    ) -> R {
        self.run_seated(cell, now, |seated, moment| work(&mut seated.flow, moment))
    }

    /// The same for work that changes how the stack has the flow.
    pub(super) fn run_seated<R>(
        &self,
        cell: &Arc<FlowCell>,
        now: Option<i64>,
        work: impl FnOnce(&mut SeatedFlow, Moment) -> R,
    ) -> R {
        let mut seated = cell.lock();
        let known = now.map(|now| cell.path.clock.moment(now));
        let moment = known.unwrap_or_else(|| seated.flow.last());
        self.drain_inbox(cell, &mut seated.flow, moment);
        let result = work(&mut seated, moment);
        self.settle(cell, seated, known);
        self.serve_inbox(cell, now);
        result
    }

    /// Hands a packet to its flow, or leaves it for the thread that is busy with that flow.
    pub(super) fn deliver(&self, now: i64, cell: &Arc<FlowCell>, segment: &Segment<'_>) {
        let Some(mut seated) = cell.try_lock() else {
            if !cell.push_inbox(segment.packet, INBOX_SLACK) {
                self.counters.drops.inbox_full.add(1);
            }
            self.serve_inbox(cell, Some(now));
            return;
        };
        let moment = cell.path.clock.moment(now);
        self.drain_inbox(cell, &mut seated.flow, moment);
        self.feed(&mut seated.flow, moment, segment.packet, &segment.tcp);
        self.settle(cell, seated, Some(moment));
        self.serve_inbox(cell, Some(now));
    }

    /// Runs the flows that are due, and forgets closed connections whose time has come.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        let now = self.ticks(now);
        let due = self.timers().take_due(now);
        for (at, cell) in due {
            self.run_seated(&cell, Some(now), |seated, moment| {
                let SeatedFlow { flow, seat } = seated;
                seat.armed = seat.armed.filter(|armed| *armed != at);
                flow.handle_timeout(&self.config, moment);
            });
        }
        self.table.expire(now, self.config.max_flows);
    }

    /// Serves the packets that came in while the flow was locked. Every thread that has unlocked a
    /// flow does this: a packet is put into the inbox before the lock is tried, so either the
    /// holder sees the packet or the sender finds the lock free.
    pub(super) fn serve_inbox(&self, cell: &Arc<FlowCell>, now: Option<i64>) {
        while cell.has_inbox() {
            let Some(mut seated) = cell.try_lock() else {
                return;
            };
            let known = now.map(|now| cell.path.clock.moment(now));
            let moment = known.unwrap_or_else(|| seated.flow.last());
            self.drain_inbox(cell, &mut seated.flow, moment);
            self.settle(cell, seated, known);
        }
    }

    pub(super) fn drain_inbox(&self, cell: &FlowCell, flow: &mut Flow, moment: Moment) {
        for packet in cell.take_inbox() {
            // It was parsed before it was put there.
            if let Ok(packet::Ip {
                payload: Payload::Tcp(tcp),
                ..
            }) = packet::parse(&packet)
            {
                self.feed(flow, moment, &packet, &tcp);
            }
        }
    }

    fn feed(&self, flow: &mut Flow, moment: Moment, packet: &[u8], tcp: &Tcp) {
        match flow.handle_packet(&self.config, moment, packet, tcp) {
            Verdict::Taken => {}
            Verdict::OutOfWindow => self.counters.drops.out_of_window.add(1),
            Verdict::NoMemory => self.counters.drops.ring_budget.add(1),
            Verdict::Over => self.counters.drops.no_flow.add(1),
        }
    }

    /// Lets a flow bring its wishes in line with its state, and concludes.
    pub(super) fn settle(
        &self,
        cell: &Arc<FlowCell>,
        mut seated: MutexGuard<'_, SeatedFlow>,
        known: Option<Moment>,
    ) {
        seated.flow.settle(&self.config, known);
        let due = seated.flow.due();
        self.conclude(cell, seated, due);
    }

    /// Queues, arms, counts and removes a flow as its state wants it, unlocks it, and only then
    /// tells others.
    pub(super) fn conclude(
        &self,
        cell: &Arc<FlowCell>,
        mut seated: MutexGuard<'_, SeatedFlow>,
        due: Due,
    ) {
        let path = &cell.path;
        let SeatedFlow { flow, seat } = &mut *seated;
        let mut announce = false;
        if seat.membership == Membership::HalfOpen && !flow.is_opening() {
            seat.membership = Membership::Counted;
            self.counters.half_open.subtract(1);
        }
        let busy = flow.is_busy(seat.busy);
        if std::mem::replace(&mut seat.busy, busy) != busy {
            path.set_busy(busy);
        }
        flow.set_share(path.share());
        let leaving = flow.is_over() && seat.membership != Membership::Removed;
        if leaving {
            seat.membership = Membership::Removed;
            for packet in flow.take_replies() {
                let pushed = path.queue().push_control(packet);
                self.count(pushed);
                announce |= pushed.announce;
            }
        } else if due == Due::Now && !seat.queued && !flow.is_over() {
            seat.queued = true;
            announce |= path
                .queue()
                .push_flow(cell.clone(), self.config.mtu, flow.has_data());
        }
        let mut timer_changed = self.arm(cell, flow, seat, due);
        let rest = flow.final_ack().map(|(seq, ack)| TimeWait {
            until: self.time_wait_end(flow.last()),
            seq,
            ack,
        });
        let panicked = flow.end() == Some(End::Panicked);
        let wakers = flow.take_wakers();
        drop(seated);

        if leaving && self.table.remove(cell, rest) {
            self.counters.flows.subtract(1);
            if cell.inbound {
                path.inbound.fetch_sub(1, Relaxed);
            }
            if panicked {
                self.counters.flows_panicked.add(1);
            }
            timer_changed |= rest.is_some_and(|rest| self.is_news(rest.until));
        }
        wakers.into_iter().flatten().for_each(Waker::wake);
        if timer_changed {
            self.shell.timer_changed();
        }
        if announce {
            self.shell.packets_ready(path.remote);
        }
    }

    /// Keeps at most one entry per flow, never later than the flow wants. Returns whether to notify
    /// the shell.
    fn arm(&self, cell: &Arc<FlowCell>, flow: &Flow, seat: &mut Seat, due: Due) -> bool {
        if flow.is_over() {
            if let Some(at) = seat.armed.take() {
                self.timers().disarm(at, cell.id);
            }
            return false;
        }
        let clock = &cell.path.clock;
        let poll = match due {
            Due::At(at) => clock.real(at),
            Due::Now | Due::Never => None,
        };
        let deadline = match flow.deadline() {
            Some((at, true)) => Some(at),
            Some((at, false)) => clock.real(at),
            None => None,
        };
        let all = [poll, deadline, flow.reclaim_at()];
        let Some(wanted) = all.into_iter().flatten().min() else {
            return false;
        };
        if seat.armed.is_some_and(|armed| armed <= wanted) {
            return false;
        }
        let mut timers = self.timers();
        if let Some(at) = seat.armed.replace(wanted) {
            timers.disarm(at, cell.id);
        }
        timers.arm(wanted, cell);
        drop(timers);
        self.is_news(wanted)
    }
}

/// Bytes an inbox takes beyond one receive ring: headers, and acknowledgements for the other
/// direction.
const INBOX_SLACK: usize = 256 * 1_024;
