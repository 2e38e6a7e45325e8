//! The health of the controller session. Decides which refusals mean that this device takes no
//! part.

use overlan_protocol::UnixTime;
use overlan_protocol::api::{Bar, ProblemKind};
use overlan_transport::https::HttpsError;

/// The health of the controller session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No attempt has ended yet.
    Connecting,
    /// The session is open, and the netmap is the controller's newest.
    Connected {
        /// The time when it began.
        since: UnixTime,
    },
    /// The last attempt failed, and another follows.
    Unreachable {
        /// The reason.
        error: String,
    },
    /// The controller does not know this device: it was restored from an older backup, or removed
    /// the device long ago. The keys are put aside, and the controller is asked again.
    Unknown,
    /// The controller knows this device and lets it take no part. It is asked again.
    Barred {
        /// The reason.
        why: Bar,
        /// The controller's words for it, with what to do.
        reason: String,
    },
    /// The controller removed this device; its state was erased.
    Removed,
}

/// Returns the reason if the controller refused because this device takes no part.
pub(super) fn barred(error: &HttpsError) -> Option<Bar> {
    let problem = error.problem();
    let reasons = [
        (ProblemKind::DeviceDisabled, Bar::Disabled),
        (ProblemKind::DeviceExpired, Bar::Expired),
    ];
    let found = reasons.iter().find(|(kind, _)| problem == Some(*kind));
    found.map(|(_, why)| *why)
}
