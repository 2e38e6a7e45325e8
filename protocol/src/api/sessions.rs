//! What a person asks about logins: a new password, the sessions that are open.

use serde::{Deserialize, Serialize};

use crate::key::Secret;

/// Asks for another password; all other sessions of the account end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password as it is.
    pub old: Secret,
    /// The password as it shall be, [`super::PASSWORD_MIN`] to [`super::PASSWORD_MAX`] characters.
    pub new: Secret,
}

/// A session, for lists. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// By which it is ended; no secret.
    pub id: String,
    /// Says whether it is the one that asks.
    pub current: bool,
    /// The time at which it began; for one of an earlier version, about.
    pub created: u64,
    /// The time at which it was used last, to some minutes.
    pub last_used: u64,
    /// Its end, if it is used until then.
    pub expires: u64,
    /// Address from which it was opened: an IPv4 address, or the /56 of an IPv6 one; empty if that
    /// was not noted.
    pub source: String,
}

/// How many sessions were ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    /// The number of sessions that were ended.
    pub ended: u64,
}
