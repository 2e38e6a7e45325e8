//! Reads the clocks for the shells of this crate. Deciding code takes the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use overlan_transport::clock::{now, wall};

/// Returns wall-clock time, milliseconds since the Unix epoch; a clock before 1970 counts as 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads milliseconds of wall-clock time"
)]
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
