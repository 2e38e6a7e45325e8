//! The parts that all handles of one stack share; decides what every touch of a flow entails.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLock};
use siphasher::sip::SipHasher13;

use self::backlog::Listeners;
use self::echoes::Echoes;
use self::inbound::Segment;
use self::mailboxes::Mailboxes;
use self::timers::Timers;
use crate::arena::RingPair;
use crate::clock::Moment;
use crate::config::Config;
use crate::device::Room;
use crate::flow::{Due, End, Flow, Verdict};
use crate::key::FlowKey;
use crate::packet::{self, Payload, Tcp};
use crate::path::{Path, Pushed, Turn, TurnSource, Wants};
use crate::shell::{Emitted, Shell};
use crate::stats::{Counters, Stats};
use crate::table::{
    AddressHash, FlowCell, FlowPath, Membership, Seat, SeatedFlow, Table, TimeWait,
};

pub(crate) use self::backlog::Listener;
pub(crate) use self::echoes::PendingEcho;
pub use self::echoes::Pong;
pub(crate) use self::mailboxes::Mailbox;

mod backlog;
mod echoes;
mod inbound;
mod mailboxes;
mod outbound;
mod timers;

/// Locks are taken in this order and none is held while the shell or a waker is called: listener or
/// UDP socket, flow, then one of table shard, path queue, timers, inbox.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) local: Vec<IpAddr>,
    pub(crate) shell: Arc<dyn Shell>,
    pub(crate) table: Table,
    pub(crate) listeners: Listeners,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) echoes: Echoes,
    pub(crate) counters: Counters,
    epoch: Instant,
    paths: RwLock<HashMap<IpAddr, Arc<FlowPath>, AddressHash>>,
    timers: Mutex<Timers>,
    /// The time that the shell believes `poll_timeout` to be, in ticks.
    reported_timeout: AtomicI64,
    random_keys: (u64, u64),
    randoms_drawn: AtomicU64,
    next_flow: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        config: Config,
        local: &[IpAddr],
        now: Instant,
        seed: [u8; 32],
        shell: Arc<dyn Shell>,
    ) -> Core {
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&seed[index * 8..][..8]);
            u64::from_le_bytes(bytes)
        };
        Core {
            config,
            local: local.to_vec(),
            shell,
            table: Table::new((word(0), word(1))),
            listeners: Listeners::default(),
            mailboxes: Mailboxes::default(),
            echoes: Echoes::default(),
            counters: Counters::default(),
            epoch: now,
            paths: RwLock::new(HashMap::with_hasher(AddressHash::new(word(0) ^ word(3)))),
            timers: Mutex::new(Timers::default()),
            reported_timeout: AtomicI64::new(i64::MAX),
            random_keys: (word(2), word(3)),
            randoms_drawn: AtomicU64::new(0),
            next_flow: AtomicU64::new(0),
        }
    }

    /// Microseconds since the stack was made; 0 for anything before.
    pub(crate) fn ticks(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) fn instant(&self, ticks: i64) -> Instant {
        self.epoch + Duration::from_micros(u64::try_from(ticks).unwrap_or(0))
    }

    /// A number that nobody can guess without the seed.
    pub(crate) fn random(&self) -> u64 {
        let drawn = self.randoms_drawn.fetch_add(1, Relaxed);
        SipHasher13::new_with_keys(self.random_keys.0, self.random_keys.1)
            .hash(&drawn.to_le_bytes())
    }

    pub(crate) fn local_address_for(&self, remote: IpAddr) -> Option<IpAddr> {
        self.local
            .iter()
            .copied()
            .find(|local| local.is_ipv4() == remote.is_ipv4())
    }

    pub(crate) fn known_path(&self, remote: IpAddr) -> Option<Arc<FlowPath>> {
        self.paths.read().get(&remote).cloned()
    }

    /// The path to `remote`, new if need be. `None` beyond the number of remotes a stack keeps
    /// apart.
    pub(crate) fn path(&self, remote: IpAddr) -> Option<Arc<FlowPath>> {
        if let Some(path) = self.known_path(remote) {
            return Some(path);
        }
        let mut paths = self.paths.write();
        if paths.len() >= MAX_REMOTES {
            // Nobody can take hold of a path while the map is locked.
            paths.retain(|_, path| Arc::strong_count(path) > 1 || !path.is_idle());
        }
        if paths.len() >= MAX_REMOTES && !paths.contains_key(&remote) {
            return None;
        }
        Some(
            paths
                .entry(remote)
                .or_insert_with(|| Arc::new(Path::new(remote)))
                .clone(),
        )
    }

    /// Rings for a new flow over `path`. `None` when the budget for them is used up.
    fn lend_rings(&self, path: &FlowPath) -> Option<RingPair> {
        let Config {
            rx_ring, tx_ring, ..
        } = self.config;
        let ring = path.ring(self.config.rings.awake());
        self.config.rings.lend(ring.min(rx_ring), ring.min(tx_ring))
    }

    fn new_cell(
        &self,
        key: FlowKey,
        hash: u64,
        inbound: bool,
        path: Arc<FlowPath>,
        flow: Flow,
    ) -> Arc<FlowCell> {
        let id = self.next_flow.fetch_add(1, Relaxed);
        self.counters.flows_opened.add(1);
        Arc::new(FlowCell::new(id, key, hash, inbound, path, flow))
    }

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
    fn run_seated<R>(
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
    fn deliver(&self, now: i64, cell: &Arc<FlowCell>, segment: &Segment<'_>) {
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

    /// Appends the next packet for `remote` to `buffer[at..]`.
    pub(crate) fn poll_packet(
        &self,
        now: Instant,
        remote: IpAddr,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let now = self.ticks(now);
        let path = self.known_path(remote)?;
        let quantum = self.config.mtu;
        loop {
            let turn = {
                let mut queue = path.queue();
                if let Some(packet) = queue.pop_control() {
                    return Some(self.emit_whole(&packet, Room::new(buffer, at)));
                }
                queue.take_turn(quantum)?
            };
            let emitted = match &turn.source {
                TurnSource::Flow(flow) => self.run_turn(now, flow.clone(), turn, buffer, at),
                TurnSource::Datagrams => {
                    let (packet, announce) = path.queue().finish_datagram_turn(turn);
                    if announce {
                        self.shell.packets_ready(remote);
                    }
                    packet.map(|packet| self.emit_whole(&packet, Room::new(buffer, at)))
                }
            };
            if emitted.is_some() {
                return emitted;
            }
        }
    }

    /// Gives the flow of `turn` its turn.
    fn run_turn(
        &self,
        now: i64,
        cell: Arc<FlowCell>,
        turn: Turn<Arc<FlowCell>>,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let mut seated = cell.lock();
        let SeatedFlow { flow, seat } = &mut *seated;
        let moment = cell.path.clock.moment(now);
        self.drain_inbox(&cell, flow, moment);
        let emission = flow.poll_packet(&self.config, moment, buffer, at);
        flow.settle(&self.config, Some(moment));
        let due = flow.due();
        let wants = if due == Due::Now && !flow.is_over() {
            Wants::More
        } else {
            Wants::Nothing
        };
        let len = emission.map_or(0, |emission| emission.len);
        let (stays, announce) = cell.path.queue().finish_turn(turn, len, wants);
        seat.queued = stays;
        self.conclude(&cell, seated, due);
        if announce {
            self.shell.packets_ready(cell.path.remote);
        }
        self.serve_inbox(&cell, Some(now));
        let emission = emission?;
        if emission.retransmission {
            self.counters.retransmits.add(1);
        }
        self.counters.packets_out.add(1);
        self.counters.bytes_out.add(len as u64);
        Some(Emitted {
            len,
            flow_id: flow_id(cell.hash),
        })
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

    /// Serves what came in while the flow was locked, which every thread does that has unlocked
    /// one: a packet is put into the inbox before the lock is tried, so either the holder sees the
    /// packet or the sender finds the lock free.
    fn serve_inbox(&self, cell: &Arc<FlowCell>, now: Option<i64>) {
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

    fn drain_inbox(&self, cell: &FlowCell, flow: &mut Flow, moment: Moment) {
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

    /// Lets a flow take its state in, and concludes.
    fn settle(
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
    fn conclude(&self, cell: &Arc<FlowCell>, mut seated: MutexGuard<'_, SeatedFlow>, due: Due) {
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

    /// Keeps at most one entry per flow, never later than the flow wants. Returns whether the shell
    /// has to be told.
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

    /// Returns whether the shell does not know yet that something is due at `at`.
    fn is_news(&self, at: i64) -> bool {
        self.reported_timeout.fetch_min(at, Relaxed) > at
    }

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        // An entry that is armed from here on is compared with nothing, and so reported.
        self.reported_timeout.store(i64::MAX, Relaxed);
        let flows = self.timers().next();
        let closed = self.table.next_expiry();
        let next = flows.into_iter().chain(closed).min();
        if let Some(next) = next {
            self.reported_timeout.fetch_min(next, Relaxed);
        }
        next
    }

    fn time_wait_end(&self, last: Moment) -> i64 {
        last.real + i64::try_from(self.config.time_wait.as_micros()).unwrap_or(0)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock()
    }

    /// Hands out a packet that was built before, and counts it.
    fn emit_whole(&self, packet: &[u8], mut room: Room<'_>) -> Emitted {
        room.put(packet);
        self.counters.packets_out.add(1);
        self.counters.bytes_out.add(packet.len() as u64);
        let flow_id = packet::ends(packet).map_or(0, |(local, remote)| {
            flow_id(self.table.hash(&FlowKey { local, remote }))
        });
        Emitted {
            len: packet.len(),
            flow_id,
        }
    }

    /// Counts what a bounded queue did not keep.
    fn count(&self, pushed: Pushed) {
        if pushed.dropped > 0 {
            self.counters.drops.answer_limit.add(pushed.dropped);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let rings = self.config.rings.usage();
        Stats {
            flows: self.counters.flows.get(),
            half_open: self.counters.half_open.get(),
            time_wait: self.table.time_wait() as u64,
            timers: self.timers().len() as u64,
            flows_opened: self.counters.flows_opened.get(),
            flows_panicked: self.counters.flows_panicked.get(),
            ring_bytes: rings.lent as u64,
            ring_committed: rings.committed as u64,
            packets_in: self.counters.packets_in.get(),
            bytes_in: self.counters.bytes_in.get(),
            packets_out: self.counters.packets_out.get(),
            bytes_out: self.counters.bytes_out.get(),
            retransmits: self.counters.retransmits.get(),
            drops: self.counters.drops.read(),
        }
    }
}

/// Remotes a stack keeps apart: as many as one network has members.
const MAX_REMOTES: usize = 65_536;
/// Bytes an inbox takes beyond one receive ring: headers, and acknowledgements for the other
/// direction.
const INBOX_SLACK: usize = 256 * 1_024;

fn flow_id(hash: u64) -> u8 {
    hash as u8
}
