//! Keeps the reports of devices, in memory only. Decides nothing; [`crate::placement`] uses the
//! round trips.

use std::collections::BTreeMap;

use overlan_protocol::api::DeviceReport;
use overlan_protocol::key::{DeviceId, RelayId};

/// The newest report of each device.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    devices: BTreeMap<DeviceId, DeviceReport>,
}

impl Reports {
    /// Keeps a report in place of an older one. If there are too many, that of another device is
    /// forgotten.
    pub(crate) fn put(&mut self, device: DeviceId, report: DeviceReport) {
        if self.devices.len() >= REPORTS_MAX && !self.devices.contains_key(&device) {
            self.devices.pop_first();
        }
        self.devices.insert(device, report);
    }

    /// Forgets a removed device.
    pub(crate) fn remove(&mut self, device: DeviceId) {
        self.devices.remove(&device);
    }

    /// Returns the round trips in milliseconds between a device and the relays that it measured.
    pub(crate) fn round_trips(&self, device: DeviceId) -> BTreeMap<RelayId, u32> {
        let report = self.devices.get(&device);
        let measured = report.map(|report| report.round_trips_ms.iter().copied());
        measured.into_iter().flatten().collect()
    }
}

/// Most reports kept; each has at most 64 relays, so they take some 100 MB at worst.
const REPORTS_MAX: usize = 65_536;
