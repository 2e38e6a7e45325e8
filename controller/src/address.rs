//! Decides which host index a new device gets. Knows no device; the caller lists what is taken.

use overlan_protocol::address::{HOST_MAX, HOST_MIN};

/// The lowest host index that is not in `taken`, which comes in ascending order and may repeat; `None` if there is none.
///
/// `taken` holds the indices in use and those released less than [`QUARANTINE_SECS`] ago.
pub(crate) fn lowest_free(taken: impl IntoIterator<Item = u32>) -> Option<u32> {
    let mut candidate = HOST_MIN;
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

/// Most devices in one network: a snapshot of them is one line of the netmap stream.
pub(crate) const NETWORK_DEVICES_MAX: u32 = 50_000;

#[cfg(test)]
mod tests;
