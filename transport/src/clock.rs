//! The two clocks of a shell: one for deadlines, and one for tickets and people. Deciding code
//! reads neither: it takes the time as an argument.

use std::time::Instant;

use overlan_protocol::UnixTime;

/// Returns the time by which deadlines are kept. It follows the runtime's clock, so that tests with
/// paused time work.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time of the host's wall clock, which tickets, certificates and people go by.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the shells' one reading of the wall clock; judging takes it as an argument"
)]
pub fn wall() -> UnixTime {
    std::time::SystemTime::now().into()
}
