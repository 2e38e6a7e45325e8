//! What all parts of one stack share, and what every touch of a flow entails.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::{Emitted, Shell};
use crate::arena::RingPair;
use crate::config::Config;
use crate::datagram::UdpTable;
use crate::device::Room;
use crate::flow::{Due, Flow, Verdict};
use crate::listen::Listeners;
use crate::packet::{self, Payload};
use crate::path::{Moment, Path, Pushed, Turn, Wants};
use crate::ping::Pings;
use crate::stats::{Counters, Stats};
use crate::table::AddressHash;
use crate::table::{FlowCell, FlowKey, Table, TimeWait};
use crate::timers::Timers;

/// Locks are taken in this order and none is held while the shell or a waker is called: listener or UDP socket, flow,
/// then one of table shard, path queue, timers, inbox.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) local: Vec<IpAddr>,
    pub(crate) shell: Arc<dyn Shell>,
    pub(crate) table: Table,
    pub(crate) listeners: Listeners,
    pub(crate) sockets: UdpTable,
    pub(crate) pings: Pings,
    pub(crate) counters: Counters,
    epoch: Instant,
    paths: RwLock<HashMap<IpAddr, Arc<Path>, AddressHash>>,
    timers: Mutex<Timers>,
    /// What the shell believes `poll_timeout` to be, in ticks.
    timeout_told: AtomicI64,
    random_keys: (u64, u64),
    randoms_drawn: AtomicU64,
    next_flow: AtomicU64,
}

impl Inner {
    pub(crate) fn new(
        config: Config,
        local: &[IpAddr],
        now: Instant,
        seed: [u8; 32],
        shell: Arc<dyn Shell>,
    ) -> Inner {
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&seed[index * 8..][..8]);
            u64::from_le_bytes(bytes)
        };
        Inner {
            config,
            local: local.to_vec(),
            shell,
            table: Table::new((word(0), word(1))),
            listeners: Listeners::default(),
            sockets: UdpTable::default(),
            pings: Pings::default(),
            counters: Counters::default(),
            epoch: now,
            paths: RwLock::new(HashMap::with_hasher(AddressHash::new(word(0) ^ word(3)))),
            timers: Mutex::new(Timers::default()),
            timeout_told: AtomicI64::new(i64::MAX),
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

    /// A number nobody can guess who does not know the seed.
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

    pub(crate) fn known_path(&self, remote: IpAddr) -> Option<Arc<Path>> {
        self.paths
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&remote)
            .cloned()
    }

    /// The path to `remote`, new if need be. `None` beyond the number of remotes a stack keeps apart.
    pub(crate) fn path(&self, remote: IpAddr) -> Option<Arc<Path>> {
        if let Some(path) = self.known_path(remote) {
            return Some(path);
        }
        let mut paths = self.paths.write().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn lend_rings(&self, path: &Path) -> Option<RingPair> {
        let Config {
            rx_ring, tx_ring, ..
        } = self.config;
        let ring = path.ring(self.config.rings.awake());
        self.config.rings.lend(ring.min(rx_ring), ring.min(tx_ring))
    }

    pub(crate) fn new_cell(
        &self,
        key: FlowKey,
        hash: u64,
        inbound: bool,
        path: Arc<Path>,
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
        let mut flow = cell.lock();
        let known = now.map(|now| cell.path.moment(now));
        let moment = known.unwrap_or_else(|| flow.last());
        self.drain_inbox(cell, &mut flow, moment);
        let result = work(&mut flow, moment);
        flow.settle(&self.config, known);
        let due = flow.due();
        self.conclude(cell, flow, due);
        self.serve_inbox(cell, now);
        result
    }

    /// Hands a packet to its flow, or leaves it for whoever is busy with that flow.
    pub(crate) fn deliver(&self, now: i64, cell: &Arc<FlowCell>, packet: &[u8], tcp: &packet::Tcp) {
        let Some(mut flow) = cell.try_lock() else {
            if !cell.push_inbox(packet, INBOX_SLACK) {
                self.counters.drops.inbox_full.add(1);
            }
            self.serve_inbox(cell, Some(now));
            return;
        };
        let moment = cell.path.moment(now);
        self.drain_inbox(cell, &mut flow, moment);
        self.feed(&mut flow, moment, packet, tcp);
        flow.settle(&self.config, Some(moment));
        let due = flow.due();
        self.conclude(cell, flow, due);
        self.serve_inbox(cell, Some(now));
    }

    /// Gives the flow of `turn` its turn.
    pub(super) fn run_turn(
        &self,
        now: i64,
        cell: Arc<FlowCell>,
        turn: Turn,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let mut flow = cell.lock();
        let moment = cell.path.moment(now);
        self.drain_inbox(&cell, &mut flow, moment);
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
        flow.queued = stays;
        self.conclude(&cell, flow, due);
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

    /// Whoever unlocks a flow serves what came in meanwhile: a packet is put into the inbox before the lock is tried,
    /// so either the holder sees the packet or the sender finds the lock free.
    fn serve_inbox(&self, cell: &Arc<FlowCell>, now: Option<i64>) {
        while cell.has_inbox() {
            let Some(mut flow) = cell.try_lock() else {
                return;
            };
            let known = now.map(|now| cell.path.moment(now));
            let moment = known.unwrap_or_else(|| flow.last());
            self.drain_inbox(cell, &mut flow, moment);
            flow.settle(&self.config, known);
            let due = flow.due();
            self.conclude(cell, flow, due);
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

    fn feed(&self, flow: &mut Flow, moment: Moment, packet: &[u8], tcp: &packet::Tcp) {
        match flow.handle_packet(&self.config, moment, packet, tcp) {
            Verdict::Taken => {}
            Verdict::OutOfWindow => self.counters.drops.out_of_window.add(1),
            Verdict::NoMemory => self.counters.drops.ring_budget.add(1),
            Verdict::Over => self.counters.drops.no_flow.add(1),
        }
    }

    /// Queues, arms, counts and removes a flow as its state wants it, unlocks it, and only then tells others.
    pub(super) fn conclude(&self, cell: &Arc<FlowCell>, mut flow: MutexGuard<'_, Flow>, due: Due) {
        let path = &cell.path;
        let mut announce = false;
        if flow.half_open && !flow.is_opening() {
            flow.half_open = false;
            self.counters.half_open.subtract(1);
        }
        if let Some(busy) = flow.note_busy() {
            path.set_busy(busy);
        }
        flow.share = path.share();
        let leaving = flow.is_over() && !flow.removed;
        if leaving {
            flow.removed = true;
            for packet in flow.take_replies() {
                let pushed = path.queue().push_control(packet);
                self.count(pushed);
                announce |= pushed.announce;
            }
        } else if due == Due::Now && !flow.queued && !flow.is_over() {
            flow.queued = true;
            let has_data = flow.has_data();
            announce |= path
                .queue()
                .push_flow(cell.clone(), self.config.mtu, has_data);
        }
        let told = self.arm(cell, &mut flow, due);
        let rest = flow.final_ack().map(|(seq, ack)| TimeWait {
            until: self.time_wait_end(flow.last()),
            seq,
            ack,
        });
        let panicked = flow.end() == Some(crate::flow::End::Panicked);
        let wakers = flow.take_wakers();
        drop(flow);

        let mut timer_changed = told;
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

    /// Keeps at most one entry per flow, never later than the flow wants. Returns whether the shell has to be told.
    fn arm(&self, cell: &Arc<FlowCell>, flow: &mut Flow, due: Due) -> bool {
        let path = &cell.path;
        let wanted = if flow.is_over() {
            if let Some(at) = flow.armed.take() {
                self.timers().disarm(at, cell.id);
            }
            return false;
        } else {
            let poll = match due {
                Due::At(at) => path.real(at),
                Due::Now | Due::Never => None,
            };
            let deadline = match flow.deadline() {
                Some((at, true)) => Some(at),
                Some((at, false)) => path.real(at),
                None => None,
            };
            let all = [poll, deadline, flow.reclaim_at()];
            let Some(first) = all.into_iter().flatten().min() else {
                return false;
            };
            first
        };
        if flow.armed.is_some_and(|armed| armed <= wanted) {
            return false;
        }
        let mut timers = self.timers();
        if let Some(at) = flow.armed.replace(wanted) {
            timers.disarm(at, cell.id);
        }
        timers.arm(wanted, cell);
        drop(timers);
        self.is_news(wanted)
    }

    /// Whether the shell does not know yet that something is due at `at`.
    fn is_news(&self, at: i64) -> bool {
        self.timeout_told.fetch_min(at, Relaxed) > at
    }

    pub(super) fn poll_timeout(&self) -> Option<i64> {
        // What is armed from here on is compared with nothing, and so told.
        self.timeout_told.store(i64::MAX, Relaxed);
        let flows = self.timers().next();
        let closed = self.table.next_expiry();
        let next = flows.into_iter().chain(closed).min();
        if let Some(next) = next {
            self.timeout_told.fetch_min(next, Relaxed);
        }
        next
    }

    fn time_wait_end(&self, last: Moment) -> i64 {
        last.real + i64::try_from(self.config.time_wait.as_micros()).unwrap_or(0)
    }

    pub(crate) fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out a packet that was built before, and counts it.
    pub(super) fn emit_whole(&self, packet: &[u8], mut room: Room<'_>) -> Emitted {
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
    pub(crate) fn count(&self, pushed: Pushed) {
        if pushed.dropped > 0 {
            self.counters.drops.answer_limit.add(pushed.dropped);
        }
    }

    pub(super) fn stats(&self) -> Stats {
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
/// Bytes an inbox takes beyond one receive ring: headers, and acknowledgements for the other direction.
const INBOX_SLACK: usize = 256 * 1_024;

fn flow_id(hash: u64) -> u8 {
    hash as u8
}
