//! Decides which host index a new device gets. Knows no device; the caller lists the taken ones.
//!
//! A database that was restored from a copy does not know which indices were given out after the
//! copy was made, and nobody can tell it before a new device asks. So each run of the controller
//! starts at a place of its own: two runs that know nothing of each other do not give out the same
//! index.

use std::time::Duration;

use overlan_protocol::HostIndex;
use overlan_protocol::address::{HOST_MAX, HOST_MIN};
use overlan_protocol::key::Lineage;

/// Returns the first host index from `from` on that is not in `taken`, starting over after the last
/// one. `None` if all are taken.
///
/// `taken` comes in ascending order and may repeat; it holds the indices in use and those released
/// less than [`QUARANTINE`] ago.
pub(crate) fn next_free(from: HostIndex, taken: &[HostIndex]) -> Option<HostIndex> {
    lowest_free(from, taken).or_else(|| lowest_free(HostIndex::MIN, taken))
}

fn lowest_free(from: HostIndex, taken: &[HostIndex]) -> Option<HostIndex> {
    let mut candidate = from.get();
    for host in taken.iter().map(|host| host.get()) {
        if host > candidate {
            break;
        }
        if host == candidate {
            candidate += 1;
        }
    }
    HostIndex::new(candidate)
}

/// Returns the index at which the run with this random id begins. Two runs with `n` and `m` new
/// devices in one network collide with a probability of (n + m) / 4,194,302: less than 1 in 4,000
/// for a thousand devices.
pub(crate) fn place_of_run(run: Lineage) -> HostIndex {
    let places = u128::from(HOST_MAX - HOST_MIN + 1);
    let place = u32::try_from(u128::from_le_bytes(run.0) % places).unwrap_or(0);
    HostIndex::new(HOST_MIN + place).unwrap_or(HostIndex::MIN)
}

/// The time for which the index of a removed device stays unused, seconds: an address that somebody
/// wrote down or cached must not reach another device soon.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Most devices in one network: a snapshot of them is one line of the netmap stream.
pub(crate) const NETWORK_DEVICES_MAX: u32 = 50_000;

#[cfg(test)]
mod tests;
