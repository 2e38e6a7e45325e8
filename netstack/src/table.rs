//! Decides which flow a packet belongs to; holds all flows of a stack and the memory of those just
//! closed.
//!
//! Flows are found by their four numbers in 64 shards, each with a lock of its own, under a keyed
//! hash that is computed once per packet. When both sides have closed, a few numbers stay in a
//! flow's place for a second and a half, and are forgotten in order of age.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use siphasher::sip::SipHasher13;

use crate::key::FlowKey;

pub(crate) use cell::{FlowCell, FlowPath, Membership, Seat, SeatedFlow};

mod cell;

/// A connection that is over, kept to answer a repeated FIN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeWait {
    /// In ticks of the real clock.
    pub(crate) until: i64,
    /// The numbers of the last acknowledgement.
    pub(crate) seq: u32,
    pub(crate) ack: u32,
}

/// One place of the table.
#[derive(Clone)]
pub(crate) enum TableSlot {
    Live(Arc<FlowCell>),
    TimeWait(TimeWait),
}

pub(crate) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// In order of expiry, because all wait equally long.
    expiring: Mutex<VecDeque<(i64, FlowKey)>>,
    hash_keys: (u64, u64),
}

type Shard = HashMap<Hashed, TableSlot, PassThrough>;

impl Table {
    pub(crate) fn new(hash_keys: (u64, u64)) -> Table {
        Table {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            expiring: Mutex::new(VecDeque::new()),
            hash_keys,
        }
    }

    /// The keyed hash of a connection, so that a remote cannot choose ports that collide.
    pub(crate) fn hash(&self, key: &FlowKey) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.hash_keys.0, self.hash_keys.1);
        for end in [key.local, key.remote] {
            match end.ip() {
                IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
                IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
            }
            hasher.write_u16(end.port());
        }
        hasher.finish()
    }

    pub(crate) fn get(&self, key: FlowKey, hash: u64) -> Option<TableSlot> {
        self.shard(hash).get(&Hashed { hash, key }).cloned()
    }

    /// Puts a flow where nothing is. Returns whether that was so.
    pub(crate) fn insert(&self, flow: &Arc<FlowCell>) -> bool {
        use std::collections::hash_map::Entry;
        match self.shard(flow.hash).entry(Hashed {
            hash: flow.hash,
            key: flow.key,
        }) {
            Entry::Vacant(vacant) => {
                vacant.insert(TableSlot::Live(flow.clone()));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Takes this very flow out, leaving `rest` in its place. Returns whether it was there.
    pub(crate) fn remove(&self, flow: &Arc<FlowCell>, rest: Option<TimeWait>) -> bool {
        let hashed = Hashed {
            hash: flow.hash,
            key: flow.key,
        };
        let removed = {
            let mut shard = self.shard(flow.hash);
            match shard.get(&hashed) {
                Some(TableSlot::Live(found)) if Arc::ptr_eq(found, flow) => match rest {
                    Some(rest) => shard.insert(hashed, TableSlot::TimeWait(rest)).is_some(),
                    None => shard.remove(&hashed).is_some(),
                },
                Some(TableSlot::Live(_) | TableSlot::TimeWait(_)) | None => false,
            }
        };
        if let (true, Some(rest)) = (removed, rest) {
            self.expiring.lock().push_back((rest.until, flow.key));
        }
        removed
    }

    /// Forgets a closed connection before its time.
    pub(crate) fn forget(&self, key: FlowKey, hash: u64) {
        let mut shard = self.shard(hash);
        if let Some(TableSlot::TimeWait(_)) = shard.get(&Hashed { hash, key }) {
            shard.remove(&Hashed { hash, key });
        }
    }

    /// Forgets the closed connections whose time has come, and the oldest beyond `max` of them.
    pub(crate) fn expire(&self, now: i64, max: usize) {
        loop {
            let (until, key) = {
                let mut expiring = self.expiring.lock();
                match expiring.front() {
                    Some((until, _)) if *until <= now || expiring.len() > max => {}
                    _ => return,
                }
                match expiring.pop_front() {
                    Some(entry) => entry,
                    None => return,
                }
            };
            let hash = self.hash(&key);
            let mut shard = self.shard(hash);
            if let Some(TableSlot::TimeWait(found)) = shard.get(&Hashed { hash, key })
                && found.until == until
            {
                shard.remove(&Hashed { hash, key });
            }
        }
    }

    pub(crate) fn next_expiry(&self) -> Option<i64> {
        self.expiring.lock().front().map(|(until, _)| *until)
    }

    pub(crate) fn time_wait(&self) -> usize {
        self.expiring.lock().len()
    }

    /// The flows that match, in the order in which they were made. Looks at every flow there is.
    pub(crate) fn flows(&self, wanted: impl Fn(&FlowCell) -> bool) -> Vec<Arc<FlowCell>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            shard.lock().retain(|_, slot| {
                if let TableSlot::Live(flow) = slot
                    && wanted(flow)
                {
                    found.push(flow.clone());
                }
                true
            });
        }
        found.sort_unstable_by_key(|flow| flow.id);
        found
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The low bits choose a place within the shard, so the high ones choose the shard.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        shard.lock()
    }
}

/// Shards of the table: enough that two cores rarely want the same lock.
const SHARDS: usize = 64;

/// A key that carries its keyed hash, so that it is computed once per packet.
#[derive(PartialEq, Eq)]
struct Hashed {
    hash: u64,
    key: FlowKey,
}

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

/// Hashes the addresses of remotes. They are given out by the network's controller, so nobody can
/// choose many that collide; the key keeps their places unknown all the same.
#[derive(Clone, Copy)]
pub(crate) struct AddressHash(u64);

impl AddressHash {
    pub(crate) fn new(key: u64) -> AddressHash {
        AddressHash(key)
    }
}

impl BuildHasher for AddressHash {
    type Hasher = AddressHash;

    fn build_hasher(&self) -> AddressHash {
        *self
    }
}

impl Hasher for AddressHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of a 128-bit product, so that every bit reaches all places a table looks at.
        let product = u128::from(self.0 ^ word) * u128::from(ODD);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// The golden ratio in 64 bits: its product spreads neighbouring numbers as far as possible.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Default, Clone, Copy)]
struct PassThrough(u64);

impl BuildHasher for PassThrough {
    type Hasher = PassThrough;

    fn build_hasher(&self) -> PassThrough {
        PassThrough(0)
    }
}

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is called; this keeps the promise of the trait for anything else.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
