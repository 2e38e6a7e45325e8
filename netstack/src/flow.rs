//! One TCP connection: decides how it answers packets, time and its program; holds its rings but no lock, clock or queue.
//!
//! `opening --handshake--> open --both sides closed, or reset, or a deadline--> over`. A flow that is over keeps its
//! engine only as long as the program has received bytes left to read.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Instant as Ticks;

use self::deadline::{Deadline, DeadlineKind};
use self::engine::{Engine, Window};
use self::program::Wakers;
use crate::arena::RingPair;
use crate::config::Config;
use crate::device::{Room, Wire};
use crate::packet::{self, Tcp};
use crate::path::Moment;
use crate::table::FlowKey;

mod deadline;
mod engine;
mod program;

pub(crate) struct Flow {
    engine: Option<Engine>,
    /// Why it is over, once it is.
    end: Option<End>,
    /// The remote said that it sends no more.
    eof: bool,
    /// The SYN-ACK waits until the program accepts.
    paused: bool,
    /// The program sends no more; kept while the engine cannot say so yet.
    shut_wanted: bool,
    /// A reset follows what is queued, once the remote has acknowledged that.
    reset_wanted: bool,
    /// A handle exists.
    held: bool,
    deadline: Option<Deadline>,
    /// Answers the engine gave to single packets.
    replies: VecDeque<Vec<u8>>,
    last: Moment,
    /// When a packet last came or went, in ticks of the real clock.
    active: i64,
    /// How far this flow's clock was put forward, in ticks.
    ahead: i64,
    /// What this flow's clock shows.
    clock: i64,
    /// Until then the engine is not asked again although it claims to have something.
    rest_until: i64,
    window: Window,
    /// Bytes the program has read since the receive ring was last given back, up to its size.
    rx_passed: usize,
    /// Bytes the program has written since the transmit ring was last empty.
    tx_run: usize,
    /// The remote had no room for more when the engine last took notice.
    remote_full: bool,
    /// One past the highest sequence number sent.
    sent_to: Option<u32>,
    /// What the remote acknowledged last, and how often it has said so in vain since.
    acknowledged: Option<u32>,
    repeated: u8,
    /// Sequence and acknowledgement number of the acknowledgement sent in TIME-WAIT.
    final_ack: Option<(u32, u32)>,
    wakers: Wakers,
    /// It has much to send, and its path counts it.
    busy: bool,
    /// Bytes it may have queued, as others send, too.
    pub(crate) share: usize,
    /// The flow is in its path's queue, or being served from it.
    pub(crate) queued: bool,
    /// The due time of its entry in the timer table, in ticks of the real clock.
    pub(crate) armed: Option<i64>,
    /// It counts as half-open.
    pub(crate) half_open: bool,
    /// It was taken out of the table, or never was in it.
    pub(crate) removed: bool,
}

/// Why a flow is over.
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

/// When a flow wants to be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// In ticks of the path's clock.
    At(i64),
    Never,
}

/// What became of a packet.
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

/// What a flow put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emission {
    pub(crate) len: usize,
    pub(crate) retransmission: bool,
}

/// What a program's read or write came to.
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
        let mut flow = Flow::new(config, rings, seed, now);
        let opening = flow.engine.as_mut()?.connect(key);
        opening.then_some(flow)
    }

    /// A flow that waits for exactly one SYN and does not answer it before `accept`.
    pub(crate) fn listen(
        key: &FlowKey,
        config: &Config,
        rings: RingPair,
        seed: u64,
        now: Moment,
    ) -> Option<Flow> {
        let mut flow = Flow::new(config, rings, seed, now);
        flow.paused = true;
        flow.held = false;
        let listening = flow.with_socket(|socket| {
            socket.pause_synack(true);
            socket.listen(key.local).is_ok()
        });
        listening.unwrap_or(false).then_some(flow)
    }

    fn new(config: &Config, rings: RingPair, seed: u64, now: Moment) -> Flow {
        Flow {
            window: Window::new(rings.rx.len()),
            engine: Some(Engine::new(config, rings, seed, now.path)),
            end: None,
            eof: false,
            paused: false,
            shut_wanted: false,
            reset_wanted: false,
            held: true,
            deadline: None,
            replies: VecDeque::new(),
            last: now,
            active: now.real,
            ahead: 0,
            clock: now.path,
            rest_until: i64::MIN,
            rx_passed: 0,
            tx_run: 0,
            remote_full: false,
            sent_to: None,
            acknowledged: None,
            repeated: 0,
            final_ack: None,
            wakers: Wakers::default(),
            busy: false,
            share: usize::MAX,
            queued: false,
            armed: None,
            half_open: false,
            removed: false,
        }
    }

    pub(crate) fn handle_packet(
        &mut self,
        config: &Config,
        now: Moment,
        packet: &[u8],
        tcp: &Tcp,
    ) -> Verdict {
        self.tick(now);
        if !self.window.admits(tcp) {
            return Verdict::OutOfWindow;
        }
        if self.is_old_news(tcp) {
            return Verdict::Taken;
        }
        let before = self.state();
        let queued = self.unsent();
        let Some(engine) = self.engine.as_mut().filter(|_| self.end.is_none()) else {
            return Verdict::Over;
        };
        let (extent, capacity) = (self.window.extent(tcp), self.window.capacity);
        let mut reached = (self.rx_passed + extent).min(capacity);
        if !engine.sockets.rx.has_room(reached, false) {
            // Behind what was read there is nothing: the same pages can be used from their start.
            let is_empty = self.window.is_empty();
            if is_empty {
                engine.sockets.reclaim_rx();
                self.rx_passed = 0;
                reached = extent.min(capacity);
            }
            if !engine.sockets.rx.has_room(reached, is_empty) {
                return Verdict::NoMemory;
            }
        }
        engine.sockets.rx.touch(reached);
        self.active = self.last.real;
        let mut reply = Vec::new();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut wire = Wire {
                mtu: config.mtu,
                inbound: Some(packet),
                outbound: Room::new(&mut reply, 0),
            };
            engine.ingress(self.clock, &mut wire);
        }));
        if polled.is_err() {
            self.finish(End::Panicked);
            return Verdict::Taken;
        }
        if !reply.is_empty() {
            if self.replies.len() == MAX_REPLIES {
                self.replies.pop_front();
            }
            self.replies.push_back(reply);
        }
        self.rest_until = i64::MIN;
        let after = self.state();
        if self.window.start.is_none()
            && !matches!(after, State::Listen | State::SynSent | State::Closed)
        {
            // Only the segment that carried the remote's first sequence number leads here.
            self.window.start = Some(tcp.seq);
        }
        self.window.note(tcp);
        if tcp.ack != self.acknowledged {
            (self.acknowledged, self.repeated) = (tcp.ack, 0);
        } else if tcp.payload_len == 0 {
            self.repeated = self.repeated.saturating_add(1);
        }
        match (before, after) {
            (State::SynSent, State::Closed) => self.finish(End::Refused),
            // Out of the half-open state a reset leads back to LISTEN; this flow was for one connection only.
            (State::SynReceived, State::Listen) => self.finish(End::Reset),
            (State::LastAck, State::Closed) if !tcp.rst => self.finish(End::Closed),
            (_, State::Closed) => self.finish(End::Reset),
            _ => {}
        }
        self.note_window(config, tcp, before, queued);
        Verdict::Taken
    }

    /// In LAST-ACK the engine ignores a window that opens unless the same segment acknowledges something. It would
    /// find out with its next probe, a second later or many; so the probe is sent now.
    fn note_window(&mut self, config: &Config, tcp: &Tcp, before: State, queued: usize) {
        let ignored = before == State::LastAck && self.unsent() == queued;
        if !ignored {
            self.remote_full = tcp.window == 0;
        } else if self.remote_full && tcp.window > 0 && queued > 0 {
            self.run_timer(config);
        }
    }

    /// Whether an acknowledgement says nothing while only our FIN is under way. Three of these make the engine stop its
    /// retransmission timer in favour of a fast retransmission, which it then does not do because no data is queued.
    fn is_old_news(&self, tcp: &Tcp) -> bool {
        let bare = tcp.payload_len == 0 && !tcp.syn && !tcp.fin && !tcp.rst;
        bare && tcp.ack != self.sent_to
            && matches!(
                self.state(),
                State::FinWait1 | State::Closing | State::LastAck
            )
            && self.unsent() == 0
    }

    /// Writes the next packet, if there is one, to `buffer` from `at` on, which grows as far as it has to.
    pub(crate) fn poll_packet(
        &mut self,
        config: &Config,
        now: Moment,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emission> {
        self.tick(now);
        self.active = self.last.real;
        let len = if let Some(reply) = self.replies.pop_front() {
            Room::new(buffer, at).put(&reply);
            reply.len()
        } else if self.due() == Due::Now {
            let len = self.egress(config, buffer, at);
            if len == 0 && self.due() == Due::Now {
                // The engine claims to have something and has not: look again later instead of spinning.
                self.rest_until = self.clock + REST;
            }
            len
        } else {
            0
        };
        if len == 0 {
            return None;
        }
        let packet = &mut buffer[at..at + len];
        let Some(tcp) = packet::emitted_tcp(packet) else {
            return Some(Emission {
                len,
                retransmission: false,
            });
        };
        let occupied = tcp.payload_len as u32 + u32::from(tcp.syn) + u32::from(tcp.fin);
        let end = tcp.seq.wrapping_add(occupied);
        let behind = |sent: u32| (end.wrapping_sub(sent) as i32) <= 0;
        let retransmission = occupied > 0 && self.sent_to.is_some_and(behind);
        if !retransmission && occupied > 0 {
            self.sent_to = Some(end);
        }
        if !tcp.syn {
            packet::narrow_window(packet);
        }
        if matches!(self.state(), State::Closing | State::TimeWait) {
            self.final_ack = tcp.ack.map(|ack| (end, ack));
        }
        Some(Emission {
            len,
            retransmission,
        })
    }

    /// Does what is due. Early and repeated calls do nothing.
    pub(crate) fn handle_timeout(&mut self, config: &Config, now: Moment) {
        self.tick(now);
        if self.reclaim_at().is_some_and(|at| at <= now.real)
            && let Some(engine) = &mut self.engine
        {
            engine.sockets.reclaim();
            self.rx_passed = 0;
        }
        let Some(deadline) = self.deadline else {
            return;
        };
        let Some(at) = deadline.at else { return };
        if at > deadline.kind.read(now) {
            return;
        }
        match deadline.kind {
            // Nothing has come back, so nobody is there to be told.
            DeadlineKind::Connect => self.finish(End::TimedOut),
            DeadlineKind::Handshake
            | DeadlineKind::FinWait
            | DeadlineKind::LastAck
            | DeadlineKind::Linger => {
                self.reset(config, End::TimedOut);
            }
        }
    }

    /// The path lost what was in flight: what is unacknowledged goes out again with the flow's next turn, not when its time has come.
    pub(crate) fn handle_restored(&mut self, config: &Config, now: Moment) {
        self.tick(now);
        self.rest_until = i64::MIN;
        self.run_timer(config);
    }

    /// Lets the engine's timer expire. It has to be done here and now: put off to the flow's turn, an acknowledgement that comes before
    /// would start the timer anew, and what else the flow has to say would hide it.
    fn run_timer(&mut self, config: &Config) {
        if self.end.is_some() || self.state() == State::TimeWait {
            return;
        }
        if self.repeated >= REPEATED_ACKS && self.unsent() > 0 {
            // The engine may be about to repeat its first segment, and keeps no time for the rest until that is out. It goes nowhere:
            // what follows counts it as not sent, with everything else.
            self.egress(config, &mut Vec::new(), 0);
        }
        let late = self.clock + LONGEST_RTO;
        let Some(engine) = &mut self.engine else {
            return;
        };
        let expired = catch_unwind(AssertUnwindSafe(|| engine.expire(late, config.mtu)));
        if expired.is_err() {
            return self.finish(End::Panicked);
        }
        if self.remote_full && self.unsent() > 0 {
            // The probe of a closed window needs its turn, so the flow's clock goes on to when it is due. Nothing is in flight whose
            // round trip would seem to take that long.
            self.ahead += LONGEST_RTO;
            self.clock = late;
        }
    }

    /// Brings deadlines and the program's wishes in line with the state. Belongs after every other call.
    /// `now` is unknown to a program's call; then a deadline starts with the next call that knows it.
    pub(crate) fn settle(&mut self, config: &Config, now: Option<Moment>) {
        self.eof = self.has_eof();
        let state = self.state();
        if self.shut_wanted && !is_opening(state) {
            self.shut_wanted = false;
            self.close_engine();
        }
        // Nobody will ever read what is left, and the remote has to know that its bytes went nowhere.
        self.reset_wanted |= !self.held && self.unread() > 0;
        if self.reset_wanted && self.is_delivered() {
            self.reset(config, End::Aborted);
        }
        if self.state() == State::TimeWait && self.end.is_none() && self.due() != Due::Now {
            self.finish(End::Closed);
        }
        if self.end.is_some() && self.unread() == 0 {
            self.engine = None;
        }
        self.renew_deadline(config, now);
    }

    fn renew_deadline(&mut self, config: &Config, now: Option<Moment>) {
        let Some(kind) = self.deadline_kind() else {
            self.deadline = None;
            return;
        };
        let unsent = self.unsent();
        let progress = match self.deadline {
            Some(deadline) if deadline.kind == kind => unsent < deadline.unsent,
            Some(_) | None => true,
        };
        if progress {
            self.deadline = Some(Deadline {
                kind,
                at: None,
                unsent,
            });
        }
        if let (Some(deadline), Some(now)) = (&mut self.deadline, now)
            && deadline.at.is_none()
        {
            let patience = match kind {
                DeadlineKind::Connect => config.connect_timeout,
                DeadlineKind::Handshake => config.syn_received_timeout,
                DeadlineKind::FinWait => config.fin_wait_timeout,
                DeadlineKind::LastAck => config.last_ack_timeout,
                DeadlineKind::Linger => config.linger_timeout,
            };
            let patience = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
            deadline.at = Some(kind.read(now).saturating_add(patience));
        }
    }

    fn deadline_kind(&self) -> Option<DeadlineKind> {
        if self.end.is_some() {
            return None;
        }
        match (self.state(), self.held) {
            (State::SynSent, _) => Some(DeadlineKind::Connect),
            (State::SynReceived, _) => Some(DeadlineKind::Handshake),
            _ if self.reset_wanted => Some(DeadlineKind::Linger),
            (State::FinWait2, false) => Some(DeadlineKind::FinWait),
            (State::FinWait1 | State::Closing | State::LastAck, false) => {
                Some(DeadlineKind::Linger)
            }
            (State::Closing | State::LastAck, true) => Some(DeadlineKind::LastAck),
            _ => None,
        }
    }

    pub(crate) fn due(&mut self) -> Due {
        if !self.replies.is_empty() {
            return Due::Now;
        }
        if self.end.is_some() || self.is_waiting_for_accept() {
            return Due::Never;
        }
        let (clock, ahead, state) = (self.clock, self.ahead, self.state());
        let Some(engine) = &mut self.engine else {
            return Due::Never;
        };
        match engine.poll_at(clock) {
            None => Due::Never,
            // With our FIN acknowledged nothing can be repeated. If the last window was closed, the engine's probe
            // timer still runs, and once it has expired the engine would send empty segments without end.
            Some(at) if state == State::FinWait2 && at != Ticks::ZERO => Due::Never,
            Some(at) if at.total_micros() > clock => {
                let excess = (at.total_micros() - clock - LONGEST_WAIT).max(0);
                self.ahead += excess;
                self.clock += excess;
                Due::At(at.total_micros() - self.ahead)
            }
            Some(_) if self.rest_until > clock => Due::At(self.rest_until - ahead),
            Some(_) => Due::Now,
        }
    }

    /// When this flow's deadline falls due: in ticks of the real clock, or of the path's.
    pub(crate) fn deadline(&self) -> Option<(i64, bool)> {
        let deadline = self.deadline?;
        Some((deadline.at?, deadline.kind.is_real()))
    }

    /// When its rings go back to the kernel unless something happens, in ticks of the real clock.
    pub(crate) fn reclaim_at(&self) -> Option<i64> {
        let engine = self.engine.as_ref().filter(|_| self.end.is_none())?;
        let idle = engine.sockets.is_committed()
            && self.window.is_empty()
            && engine.socket().send_queue() == 0
            && !is_opening(self.state());
        idle.then(|| self.active.saturating_add(RECLAIM_AFTER))
    }

    /// What has to stay in the table when this flow, which is over, leaves it: sequence and acknowledgement number of
    /// the answer to a repeated FIN.
    pub(crate) fn final_ack(&self) -> Option<(u32, u32)> {
        self.final_ack.filter(|_| self.end == Some(End::Closed))
    }

    /// The last words of a flow that is over.
    pub(crate) fn take_replies(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.replies)
    }

    /// Bytes of its receive ring, and so the largest window it announces.
    pub(crate) fn rx_ring(&self) -> usize {
        self.window.capacity
    }

    /// The latest moment it was told.
    pub(crate) fn last(&self) -> Moment {
        self.last
    }

    /// Lets the SYN-ACK go. From now on there is a handle.
    pub(crate) fn accept(&mut self) {
        self.held = true;
        self.paused = false;
        self.with_socket(|socket| socket.pause_synack(false));
    }

    /// The program has let go. What is queued still goes out, and then the end that the program has made, or a reset if it made none.
    pub(crate) fn release(&mut self, config: &Config) {
        self.held = false;
        let state = self.state();
        if state == State::SynSent {
            // Nobody has answered yet; should somebody, there will be no such flow.
            self.finish(End::Aborted);
        } else if state == State::SynReceived && self.paused {
            self.reset(config, End::Aborted);
        } else if !self.has_shut() {
            self.reset_wanted = true;
        }
    }

    /// Ends the flow with a reset, which the remote gets after what is queued.
    pub(crate) fn reset_when_delivered(&mut self) {
        self.reset_wanted = true;
    }

    /// Ends the flow and tells the remote.
    pub(crate) fn reset(&mut self, config: &Config, end: End) {
        if self.end.is_some() {
            return;
        }
        self.replies.clear();
        let speechless = matches!(
            self.state(),
            State::SynSent | State::Listen | State::Closed | State::TimeWait
        );
        if let Some(engine) = self.engine.as_mut().filter(|_| !speechless) {
            engine.with_socket(|socket| socket.abort());
            let mut packet = Vec::new();
            self.egress(config, &mut packet, 0);
            if !packet.is_empty() {
                if let Some(sent_to) = self.sent_to {
                    // While it repeats itself the engine names a number the remote may have left behind, and a reset
                    // outside of the window is ignored.
                    packet::set_sequence(&mut packet, sent_to);
                }
                self.replies.push_back(packet);
            }
        }
        self.finish(end);
    }

    /// Ends the flow without a word.
    pub(crate) fn finish(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.eof = self.has_eof();
        self.end = Some(end);
        self.deadline = None;
        // Bytes that arrived before the end stay readable, unless the program threw the flow away itself.
        if end == End::Panicked || end == End::Aborted || !self.held {
            self.engine = None;
        }
    }

    /// Ends the flow and forgets what it had to say: there is nobody to say it to.
    pub(crate) fn cut(&mut self) {
        self.finish(End::Unreachable);
        self.replies.clear();
    }

    /// What came of the attempt to open; `None` while it goes on.
    pub(crate) fn opened(&self) -> Option<Result<(), End>> {
        match self.end {
            Some(End::Closed) => Some(Ok(())),
            Some(end) => Some(Err(end)),
            None => (!is_opening(self.state())).then_some(Ok(())),
        }
    }

    /// Whether it has begun to have much to send, or ceased to; `None` without a change.
    pub(crate) fn note_busy(&mut self) -> Option<bool> {
        let unsent = self.unsent();
        let limit = if self.busy { BUSY_UNTIL } else { BUSY_FROM };
        let busy = self.end.is_none() && unsent >= limit;
        (std::mem::replace(&mut self.busy, busy) != busy).then_some(busy)
    }

    /// Whether its next packet may carry data.
    pub(crate) fn has_data(&self) -> bool {
        self.replies.is_empty() && self.unsent() > 0
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// What ended it, once it is over.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether the handshake of an inbound flow goes on.
    pub(crate) fn is_opening(&self) -> bool {
        self.end.is_none() && is_opening(self.state())
    }

    /// Whether the SYN that an inbound flow was made for has been understood.
    pub(crate) fn has_syn(&self) -> bool {
        self.state() == State::SynReceived
    }

    /// The flow's own clock never runs backwards, whatever order several threads arrive in.
    fn tick(&mut self, now: Moment) {
        self.last = Moment {
            real: self.last.real.max(now.real),
            path: self.last.path.max(now.path),
        };
        self.clock = self.clock.max(now.path + self.ahead);
    }

    /// Returns how many bytes were written from `at` on.
    fn egress(&mut self, config: &Config, buffer: &mut Vec<u8>, at: usize) -> usize {
        let Some(engine) = &mut self.engine else {
            return 0;
        };
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut wire = Wire {
                mtu: config.mtu,
                inbound: None,
                outbound: Room::new(buffer, at),
            };
            engine.egress(self.clock, &mut wire);
            wire.outbound.at() - at
        }));
        polled.unwrap_or_else(|_| {
            self.finish(End::Panicked);
            0
        })
    }

    fn close_engine(&mut self) {
        self.with_socket(|socket| {
            // No answer follows that could carry an acknowledgement, and smoltcp would hold back window updates with it.
            socket.set_ack_delay(None);
            socket.close();
        });
    }

    /// Whether the program has ended its direction in order.
    fn has_shut(&self) -> bool {
        let open = matches!(self.state(), State::Established | State::CloseWait);
        self.shut_wanted || !open && !is_opening(self.state())
    }

    fn has_eof(&self) -> bool {
        self.eof
            || matches!(
                self.state(),
                State::CloseWait | State::LastAck | State::Closing | State::TimeWait
            )
    }

    /// Bytes the program may read.
    fn unread(&self) -> usize {
        // In the half-open state the bytes may still be replaced by those of another SYN.
        if is_opening(self.state()) {
            return 0;
        }
        self.engine
            .as_ref()
            .map_or(0, |engine| engine.socket().recv_queue())
    }

    /// Bytes the program has written and the remote has not acknowledged.
    fn unsent(&self) -> usize {
        self.engine
            .as_ref()
            .map_or(0, |engine| engine.socket().send_queue())
    }

    fn is_waiting_for_accept(&self) -> bool {
        self.paused && matches!(self.state(), State::Listen | State::SynReceived)
    }

    fn state(&self) -> State {
        self.engine
            .as_ref()
            .map_or(State::Closed, |engine| engine.socket().state())
    }

    fn with_socket<R>(&mut self, work: impl for<'a> FnOnce(&mut Socket<'a>) -> R) -> Option<R> {
        self.engine.as_mut().map(|engine| engine.with_socket(work))
    }
}

/// Longest wait before something is repeated, in ticks. The engine doubles its wait up to a minute to spare a congested line; here
/// the tunnel does that, and a loss means that a link or a relay failed: whoever comes back is tried again soon.
const LONGEST_WAIT: i64 = 4_000_000;

/// A flow with so many bytes queued is busy until few are left: more than any message of a dialogue, and far apart, so that a
/// steady stream does not change sides.
const BUSY_FROM: usize = 128 << 10;
const BUSY_UNTIL: usize = 16 << 10;

/// Repeated acknowledgements after which the engine sends its first segment again (RFC 5681).
const REPEATED_ACKS: u8 = 3;

/// Answers a flow keeps: three repeated acknowledgements make the remote send again, and a few more do no harm.
const MAX_REPLIES: usize = 8;
/// 10 ms in ticks.
const REST: i64 = 10_000;
/// The longest retransmission time of the engine: 60 s in ticks.
const LONGEST_RTO: i64 = 60_000_000;
/// 5 s in ticks: longer than the pauses within a dialogue of programs, short enough that thousands of connections that
/// said something once do not hold their pages.
const RECLAIM_AFTER: i64 = 5_000_000;

fn is_opening(state: State) -> bool {
    matches!(state, State::Listen | State::SynSent | State::SynReceived)
}

fn ticks(clock: i64) -> Ticks {
    Ticks::from_micros(clock)
}

#[cfg(test)]
mod tests;
