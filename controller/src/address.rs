//! Decides which host index a new device gets. Knows no device; the caller lists what is taken.

use overlan_protocol::address::{HOST_MAX, HOST_MIN};

/// The lowest host index from `from` on that is not in `taken`, which comes in ascending order and may repeat; `None` if there is
/// none.
///
/// `taken` holds the indices in use and those released less than [`QUARANTINE_SECS`] ago.
pub(crate) fn lowest_free(from: u32, taken: impl IntoIterator<Item = u32>) -> Option<u32> {
    let mut candidate = from.max(HOST_MIN);
    for host in taken {
        if host > candidate {
            break;
        }
        if host == candidate {
            candidate += 1;
        }
    }
    (candidate <= HOST_MAX).then_some(candidate)
}

/// How long the index of a removed device stays unused, seconds: what somebody wrote down or cached must not reach another
/// device soon.
pub(crate) const QUARANTINE_SECS: u64 = 7 * 24 * 3_600;

/// Where indices for new devices begin after the database went back in time, `highest` being the highest one that it knew then: in
/// the time that is lost others may have got those that follow, and their tickets live on.
pub(crate) fn after_gap(highest: u32) -> u32 {
    let from = highest.saturating_add(GAP + 1);
    if from > HOST_MAX { HOST_MIN } else { from }
}

/// Indices left out after the database went back in time: as many devices as may have come in one network since the backup.
pub(crate) const GAP: u32 = 4_096;

/// Most devices in one network: a snapshot of them is one line of the netmap stream.
pub(crate) const NETWORK_DEVICES_MAX: u32 = 50_000;

#[cfg(test)]
mod tests;
