//! Requests and responses about a person's logins: a new password, and the open sessions.

use serde::{Deserialize, Serialize};

use crate::key::Secret;

/// Changes the password; all other sessions of the account end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The current password.
    pub old: Secret,
    /// The new password, [`super::PASSWORD_MIN`] to [`super::PASSWORD_MAX`] characters.
    pub new: Secret,
}

/// A session, for lists. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// The id by which the session can be ended; not a secret.
    pub id: String,
    /// This is the session that asks.
    pub current: bool,
    /// The time at which it began; approximate for a session of an earlier version.
    pub created: u64,
    /// The time of its last use, accurate to some minutes.
    pub last_used: u64,
    /// The time at which it ends even if it is used.
    pub expires: u64,
    /// The address from which it was opened: an IPv4 address, or the /56 of an IPv6 one; empty if
    /// it was not recorded.
    pub source: String,
}

/// The answer to a request that ends sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    /// The number of sessions that were ended.
    pub ended: u64,
}
