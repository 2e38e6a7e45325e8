//! Decides how much of one relay's memory each network and each sender may hold, and who gives some
//! up when all of it is used. Holds sums, no frame and no clock.
//!
//! A sender that finds the memory full, and holds less than half as much as the largest holder,
//! takes the place of that one: first the largest network pays, in it the largest sender. So one
//! network never takes memory that another one needs, and a single network has all of it as long as
//! no other wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use overlan_protocol::credit::{DEFAULT_WINDOW, WINDOW_MAX};
use overlan_protocol::key::DeviceId;
use parking_lot::Mutex;

use crate::egress::SHED_PART;

/// The sums of one relay. All methods may be called by several threads at once.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Most that may wait, bytes.
    max: usize,
    total: Sums,
    /// Those of networks and devices that are attached or have frames here. Innermost of all locks.
    networks: Mutex<BTreeMap<u32, Network>>,
}

/// The memory that one device holds in one network, over all of its connections.
#[derive(Debug)]
pub(crate) struct Account {
    memory: Arc<Memory>,
    vni: u32,
    device: DeviceId,
    network: Arc<Sums>,
    own: Arc<Sums>,
}

/// The senders whose frames must be dropped so that others have room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Victims {
    /// The network that pays.
    pub(crate) vni: u32,
    /// Its largest senders.
    pub(crate) devices: BTreeSet<DeviceId>,
}

#[derive(Debug, Default)]
struct Sums {
    /// Cost of the frames that wait, bytes.
    queued: AtomicUsize,
    /// By how much windows are larger than at first, bytes.
    grown: AtomicUsize,
}

impl Sums {
    fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn grown(&self) -> usize {
        self.grown.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Network {
    sums: Arc<Sums>,
    senders: BTreeMap<DeviceId, Arc<Sums>>,
    /// The time at which a search for a victim on its behalf last found none.
    found_none: Option<Instant>,
}

impl Memory {
    /// `max`: most that may wait on the whole relay, bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            total: Sums::default(),
            networks: Mutex::default(),
        })
    }

    /// Most that may wait for one receiver, bytes.
    pub(crate) fn receiver_max(&self) -> usize {
        self.max / 4
    }

    /// Most that all windows may have grown by, bytes. The other half holds the first windows of
    /// 512 pairs, should all of their receivers stall at once.
    fn grown_max(&self) -> usize {
        self.max / 2
    }

    /// The account of `device` in the network `vni`; the same one for all of its connections.
    pub(crate) fn account(self: &Arc<Self>, vni: u32, device: DeviceId) -> Account {
        let mut networks = self.networks.lock();
        let network = networks.entry(vni).or_default();
        let own = network.senders.entry(device).or_default().clone();
        Account {
            memory: self.clone(),
            vni,
            device,
            network: network.sums.clone(),
            own,
        }
    }

    /// Cost of all frames that wait, bytes.
    pub(crate) fn queued(&self) -> usize {
        self.total.queued()
    }

    /// By how much all windows have grown, bytes.
    pub(crate) fn grown(&self) -> usize {
        self.total.grown()
    }
}

impl Account {
    /// The network's number.
    pub(crate) fn vni(&self) -> u32 {
        self.vni
    }

    /// Counts frames that cost `cost` as waiting, if there is room for them.
    #[must_use]
    pub(crate) fn charge(&self, cost: usize) -> bool {
        let before = self.memory.total.queued.fetch_add(cost, Ordering::Relaxed);
        if before + cost > self.memory.max {
            self.memory.total.queued.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        self.network.queued.fetch_add(cost, Ordering::Relaxed);
        self.own.queued.fetch_add(cost, Ordering::Relaxed);
        true
    }

    /// Counts frames that cost `cost` as waiting no longer.
    pub(crate) fn discharge(&self, cost: usize) {
        self.own.queued.fetch_sub(cost, Ordering::Relaxed);
        self.network.queued.fetch_sub(cost, Ordering::Relaxed);
        self.memory.total.queued.fetch_sub(cost, Ordering::Relaxed);
    }

    /// Returns the senders that have to give way to frames of this account that cost `cost`. `None`
    /// = none of them holds so much more, and the frames have to go.
    pub(crate) fn victims(&self, now: Instant, cost: usize) -> Option<Victims> {
        let mut networks = self.memory.networks.lock();
        let (most, largest) = networks
            .iter()
            .map(|(vni, network)| (network.sums.queued(), *vni))
            .max()?;
        if largest != self.vni && deserves(self.network.queued(), cost, most) {
            return networks.get(&largest)?.largest_senders(largest, |_| true);
        }
        let network = networks.get_mut(&self.vni)?;
        if network.found_none.is_some_and(|at| now < at + SEARCH_AGAIN) {
            return None;
        }
        let own = self.own.queued();
        let found = network.largest_senders(self.vni, |held| deserves(own, cost, held));
        network.found_none = found.is_none().then_some(now);
        found
    }

    /// The largest window that the relay can afford in this network: that of the greedy ones
    /// shrinks when more than half of the memory is used.
    pub(crate) fn ceiling(&self) -> u32 {
        let (queued, max) = (self.memory.queued(), self.memory.max);
        if queued <= max / 2 {
            return WINDOW_MAX;
        }
        // From half of the largest down to nothing; the state machine keeps its floor. A network
        // that holds little keeps as much as it needs.
        let left = max.saturating_sub(queued) / 32;
        let modest = (max / MODEST).saturating_sub(self.network.queued()) / 4;
        left.max(modest).min(WINDOW_MAX as usize) as u32
    }

    /// Reserves up to `wanted` of the bytes by which windows may grow, and returns their number.
    /// One network leaves a third to the others.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        let network = self.network.grown();
        let mut granted = 0;
        let total = &self.memory.total.grown;
        let taken = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| {
            let free = self.memory.grown_max().saturating_sub(grown);
            granted = wanted.min((2 * free).saturating_sub(network) / 3);
            Some(grown + granted)
        });
        let granted = taken.map_or(0, |_| granted);
        self.network.grown.fetch_add(granted, Ordering::Relaxed);
        granted
    }

    /// Gives back reserved bytes.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.network.grown.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.total.grown.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut networks = self.memory.networks.lock();
        let Some(network) = networks.get_mut(&self.vni) else {
            return;
        };
        // One count is the list's, one is this account's.
        if Arc::strong_count(&self.own) == 2 {
            network.senders.remove(&self.device);
        }
        if network.senders.is_empty() {
            networks.remove(&self.vni);
        }
    }
}

impl Network {
    /// Returns the largest senders among those whose holdings `pays` selects: as many as together
    /// hold a part of the whole that is worth the search.
    fn largest_senders(&self, vni: u32, pays: impl Fn(usize) -> bool) -> Option<Victims> {
        let senders = self.senders.iter();
        let mut by_size: Vec<(usize, DeviceId)> = senders
            .map(|(device, sums)| (sums.queued(), *device))
            .filter(|(held, _)| *held > 0 && pays(*held))
            .collect();
        by_size.sort_unstable_by(|a, b| b.cmp(a));
        let (mut left, mut devices) = (self.sums.queued() / SHED_PART, BTreeSet::new());
        for (held, device) in by_size {
            devices.insert(device);
            left = left.saturating_sub(held);
            if left == 0 {
                break;
            }
        }
        (!devices.is_empty()).then_some(Victims { vni, devices })
    }
}

/// Returns whether somebody who holds `held` may take the place of the largest holder for `cost`
/// more. Half, so that two of about the same size do not take turns in dropping each other's
/// frames.
pub(crate) fn deserves(held: usize, cost: usize, largest: usize) -> bool {
    held + cost <= largest / 2
}

/// Most that may wait on the whole relay, bytes, and a quarter of it for one receiver: eight pairs
/// with the largest window, or 256 with the first one. Credit keeps honest sources far below.
pub(crate) const QUEUED_MAX: usize = 512 * 1024 * 1024;

/// A network that holds less than this part of the memory keeps its windows, however much others
/// hold.
const MODEST: usize = 8;

/// Time after which a network that found no victim searches its members again.
const SEARCH_AGAIN: Duration = Duration::from_millis(10);

const _: () = assert!(512 * DEFAULT_WINDOW as usize <= QUEUED_MAX / 2);

#[cfg(test)]
mod tests;
