//! Decides when a change has arrived everywhere: at every device that is online and concerned, and
//! at the relays that must refuse what was revoked. Holds no clock and no store; who waits looks
//! again when something was confirmed.
//!
//! A device confirms the version of its netmap only when it is asked, which is while somebody waits
//! for it. A device for which a change means nothing has it at once.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::key::{DeviceId, RelayId};

/// Everybody who waits for changes to arrive.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    waits: BTreeMap<WaitId, Wait>,
    next: u64,
}

/// One wait, until [`Awaiting::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitId(u64);

#[derive(Debug)]
struct Wait {
    /// The version of the change log that devices must have applied.
    version: u64,
    /// The orders that relays must have applied.
    orders: u64,
    devices: BTreeSet<DeviceId>,
    relays: BTreeSet<RelayId>,
    devices_of: usize,
    relays_of: usize,
}

/// The state of one wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Devices that have not confirmed it.
    pub(crate) devices: BTreeSet<DeviceId>,
    /// Relays that have not.
    pub(crate) relays: BTreeSet<RelayId>,
    /// The number of devices that were waited for in all.
    pub(crate) devices_of: usize,
    /// The number of relays.
    pub(crate) relays_of: usize,
}

impl Progress {
    /// Returns whether it has arrived everywhere.
    pub(crate) fn is_complete(&self) -> bool {
        self.devices.is_empty() && self.relays.is_empty()
    }
}

impl Awaiting {
    /// Begins a wait for `version` at these devices, and for `orders` at these relays. `None`
    /// beyond [`WAITS_MAX`]: then the change is made, and nobody says where it has arrived.
    pub(crate) fn begin(
        &mut self,
        version: u64,
        devices: BTreeSet<DeviceId>,
        orders: u64,
        relays: BTreeSet<RelayId>,
    ) -> Option<WaitId> {
        if self.waits.len() >= WAITS_MAX {
            return None;
        }
        let id = WaitId(self.next);
        self.next += 1;
        let wait = Wait {
            version,
            orders,
            devices_of: devices.len(),
            relays_of: relays.len(),
            devices,
            relays,
        };
        self.waits.insert(id, wait);
        Some(id)
    }

    /// Returns whether somebody waits for `device` to apply a version up to `version`.
    pub(crate) fn asks(&self, device: DeviceId, version: u64) -> bool {
        let mut waits = self.waits.values();
        waits.any(|wait| wait.version <= version && wait.devices.contains(&device))
    }

    /// Notes that `device` has applied all changes up to `version`. Returns whether somebody waited
    /// for that.
    pub(crate) fn handle_device(&mut self, device: DeviceId, version: u64) -> bool {
        let waits = self.waits.values_mut();
        let confirmed = waits
            .filter(|wait| wait.version <= version)
            .filter_map(|wait| wait.devices.remove(&device).then_some(()));
        confirmed.count() > 0
    }

    /// Notes that `relay` has applied its orders up to `orders`. Returns whether somebody waited
    /// for that.
    pub(crate) fn handle_relay(&mut self, relay: RelayId, orders: u64) -> bool {
        let waits = self.waits.values_mut();
        let confirmed = waits
            .filter(|wait| wait.orders <= orders)
            .filter_map(|wait| wait.relays.remove(&relay).then_some(()));
        confirmed.count() > 0
    }

    /// Returns the state of a wait.
    pub(crate) fn progress(&self, id: WaitId) -> Progress {
        let wait = self.waits.get(&id);
        wait.map_or_else(Progress::default, |wait| Progress {
            devices: wait.devices.clone(),
            relays: wait.relays.clone(),
            devices_of: wait.devices_of,
            relays_of: wait.relays_of,
        })
    }

    /// Ends a wait.
    pub(crate) fn end(&mut self, id: WaitId) {
        self.waits.remove(&id);
    }
}

/// Changes of people that are waited for at once: each is a request that is open for some seconds.
const WAITS_MAX: usize = 256;

#[cfg(test)]
mod tests;
