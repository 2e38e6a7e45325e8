//! What the engine counts. Numbers only grow; whoever wants a rate subtracts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::lock;

/// Counters of one engine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets that came in and passed the filter.
    pub packets_in: Count,
    /// Their bytes.
    pub bytes_in: Count,
    /// Packets that went out.
    pub packets_out: Count,
    /// Their bytes.
    pub bytes_out: Count,
    /// Times a peer had packets and no credit.
    pub credit_waits: Count,
    /// What was dropped, by reason.
    pub drops: Reasons,
}

impl Counters {
    /// All counters by name, drops as `drop_<reason>`.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        let mut all: BTreeMap<String, u64> = BTreeMap::from([
            ("packets_in".into(), self.packets_in.get()),
            ("bytes_in".into(), self.bytes_in.get()),
            ("packets_out".into(), self.packets_out.get()),
            ("bytes_out".into(), self.bytes_out.get()),
            ("credit_waits".into(), self.credit_waits.get()),
        ]);
        for (reason, count) in lock(&self.drops.counts).iter() {
            all.insert(format!("drop_{reason}"), *count);
        }
        all
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Numbers by reason; reasons are names in the code, so there are few.
#[derive(Debug, Default)]
pub struct Reasons {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Reasons {
    pub(crate) fn add(&self, reason: &'static str) {
        *lock(&self.counts).entry(reason).or_default() += 1;
    }

    /// How often `reason` occurred.
    pub fn get(&self, reason: &str) -> u64 {
        lock(&self.counts).get(reason).copied().unwrap_or_default()
    }
}
