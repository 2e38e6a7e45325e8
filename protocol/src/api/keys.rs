//! Requests and responses about the keys of the whole deployment. Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::UnixTime;

/// A key of the deployment that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeploymentKey {
    /// The key that signs the tickets of devices.
    Ticket,
    /// The CA by which devices, relays and people recognise the controller.
    Ca,
}

/// Asks for a new key in place of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The key to replace.
    pub key: DeploymentKey,
    /// Seconds for which the CA before counts as well, [`CA_GRACE_MIN_SECS`] to
    /// [`CA_GRACE_MAX_SECS`]; nothing is [`CA_GRACE_SECS`]. The ticket key before counts for as
    /// long as its tickets live, so for it this is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_secs: Option<u64>,
}

/// A key of the deployment, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentKeySummary {
    /// Its purpose.
    pub key: DeploymentKey,
    /// The id of a ticket key; the fingerprint of a CA, as in the join string.
    pub id: String,
    /// The time at which it was made; 0 if that was not noted.
    pub made: UnixTime,
    /// The one before, while it counts as well.
    pub previous: Option<PreviousKey>,
}

/// A key that was replaced and counts for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PreviousKey {
    /// Its id or fingerprint.
    pub id: String,
    /// Its end.
    pub ends: UnixTime,
    /// Devices that have not said that they know the new CA; 0 for a ticket key, which devices do
    /// not judge.
    pub devices_without: u64,
    /// The number of devices in all.
    pub devices_of: u64,
    /// Relays that have not said that they know the new CA; 0 for a ticket key.
    pub relays_without: u64,
    /// The number of relays in all.
    pub relays_of: u64,
}

/// Seconds for which the CA before a rotation counts, if nothing else was asked for: 30 days, in
/// which a laptop comes back from a holiday.
pub const CA_GRACE_SECS: u64 = 30 * 24 * 3_600;

/// Shortest such time, seconds: one day, so that nobody can lock a deployment out by one request.
pub const CA_GRACE_MIN_SECS: u64 = 24 * 3_600;

/// Longest such time, seconds: one year.
pub const CA_GRACE_MAX_SECS: u64 = 365 * 24 * 3_600;
