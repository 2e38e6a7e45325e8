//! Requests and responses about a person's logins: setup, login, a new password, and the open
//! sessions. Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::key::{NetworkId, Secret};

/// Makes the owner account, the first organisation and its default network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// Printed by the controller at its first start.
    pub setup_token: Secret,
    /// Owner's email.
    pub email: String,
    /// Owner's password, [`PASSWORD_MIN`] to [`PASSWORD_MAX`] characters.
    pub password: Secret,
    /// Organisation's name, for people.
    pub organisation: String,
    /// Label of the default network.
    pub network: String,
}

/// Fewest characters of a password (no second factor exists yet).
pub const PASSWORD_MIN: usize = 15;
/// Most characters of a password.
pub const PASSWORD_MAX: usize = 1_024;

/// Setup is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetupResponse {
    /// The id of the network that was made, which is the default one.
    pub network: NetworkId,
    /// The owner is logged in.
    pub session: LoginResponse,
}

/// Logs a person in by email and password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The email address that the account goes by.
    pub email: String,
    /// The password of the account.
    pub password: Secret,
    /// Name or number of the organisation, for an account that is in several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

/// A session of a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginResponse {
    /// Bearer token, `ovs_…`.
    pub session: Secret,
    /// Its end.
    pub expires: UnixTime,
    /// The email address that the account goes by.
    pub email: String,
    /// Organisation's name.
    pub organisation: String,
}

/// Changes the password; all other sessions of the account end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The current password.
    pub old: Secret,
    /// The new password, [`PASSWORD_MIN`] to [`PASSWORD_MAX`] characters.
    pub new: Secret,
}

/// A session, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionSummary {
    /// The id by which the session can be ended; not a secret.
    pub id: String,
    /// This is the session that asks.
    pub current: bool,
    /// The time at which it began; approximate for a session of an earlier version.
    pub created: UnixTime,
    /// The time of its last use, accurate to some minutes.
    pub last_used: UnixTime,
    /// The time at which it ends even if it is used.
    pub expires: UnixTime,
    /// The address from which it was opened: an IPv4 address, or the /56 of an IPv6 one; empty if
    /// it was not recorded.
    pub source: String,
    /// Name of the organisation that it is a login to.
    #[serde(default)]
    pub organisation: String,
}

/// The answer to a request that ends sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionsEnded {
    /// The number of sessions that were ended.
    pub ended: u64,
}
