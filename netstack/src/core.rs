//! All that the handles of one stack share: its flows, paths, listeners, sockets, timers and
//! counters. Decides when and under which number something new may be made; reads no clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLock};
use siphasher::sip::SipHasher13;

use self::backlog::Listeners;
use self::echoes::Echoes;
use self::mailboxes::Mailboxes;
use self::timers::Timers;
use crate::arena::RingPair;
use crate::clock::Moment;
use crate::config::Config;
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::path::{Path, Pushed};
use crate::shell::Shell;
use crate::stats::{Counters, Stats};
use crate::table::{AddressHash, FlowCell, FlowPath, Table};

pub(crate) use self::backlog::Listener;
pub(crate) use self::echoes::PendingEcho;
pub use self::echoes::Pong;
pub(crate) use self::mailboxes::Mailbox;

mod backlog;
mod echoes;
mod inbound;
mod mailboxes;
mod outbound;
mod running;
mod timers;
mod turns;

/// The shared state of one stack. Locks are taken in this order and none is held while the shell or
/// a waker is called: listener or UDP socket, flow, then one of table shard, path queue, timers,
/// inbox.
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

    /// Counts the packets that a bounded queue did not keep.
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
