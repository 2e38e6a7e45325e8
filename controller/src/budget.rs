//! Decides how often a device may change what others are told: each change is written to disk, told to every member, and some to all
//! relays. Holds no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlan_protocol::key::DeviceId;

use crate::rate::{Allowance, Pace};

/// What devices changed lately.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    devices: BTreeMap<DeviceId, Allowance>,
}

impl Changes {
    /// Counts one change of a device; or says how long it must wait before one.
    pub(crate) fn count(&mut self, now: Instant, device: DeviceId) -> Result<(), Duration> {
        if self.devices.len() >= DEVICES_MAX {
            self.devices.retain(|_, allowance| !allowance.is_whole(now));
        }
        let allowance = self
            .devices
            .entry(device)
            .or_insert_with(|| Allowance::new(now));
        allowance.take(now, CHANGES)
    }
}

/// What a person or a program that starts does in a row fits into the burst; a loop goes on at one in six seconds.
const CHANGES: Pace = Pace {
    burst: 40,
    every: Duration::from_secs(6),
};

/// Devices remembered before those are forgotten whose allowance is whole again: as many as one network has. Each one that is kept
/// made changes within the last minutes.
const DEVICES_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_one_device_is_slowed_down_and_no_other() {
        let start = tokio::time::Instant::now().into_std();
        let (looping, other) = (DeviceId([1; 16]), DeviceId([2; 16]));
        let mut changes = Changes::default();
        let mut made = 0;
        for tenth in 0..36_000u64 {
            let now = start + Duration::from_millis(100 * tenth);
            made += u32::from(changes.count(now, looping).is_ok());
            if tenth % 600 == 0 {
                assert_eq!(
                    changes.count(now, other),
                    Ok(()),
                    "in minute {}",
                    tenth / 600
                );
            }
        }
        assert_eq!(made, 40 + 600 - 1, "in an hour");
        assert!(changes.count(start, looping).is_err());
    }
}
