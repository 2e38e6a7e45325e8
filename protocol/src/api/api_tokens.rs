//! Requests and responses about API tokens, by which programs act for a person. Re-exported by
//! [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::key::Secret;

/// Makes an API token for the person who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApiTokenRequest {
    /// A name for people, 1 to 100 characters.
    pub name: String,
    /// Names of the permissions that it has, such as `devices:read`; at least one, and none that
    /// the person does not have.
    pub scopes: Vec<String>,
    /// Seconds until it expires, at most [`API_TOKEN_LIFE_MAX_SECS`]; `None` =
    /// [`API_TOKEN_LIFE_SECS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_secs: Option<u64>,
}

/// Default life of an API token, seconds: 90 days.
pub const API_TOKEN_LIFE_SECS: u64 = 90 * 24 * 3_600;
/// Longest life of an API token, seconds: one year.
pub const API_TOKEN_LIFE_MAX_SECS: u64 = 365 * 24 * 3_600;

/// A new API token; its text is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiTokenResponse {
    /// `ovt_<id>_<secret>`.
    pub token: Secret,
    /// The token without its secret.
    pub summary: ApiTokenSummary,
}

/// An API token, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiTokenSummary {
    /// Public part of the token.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Names of the permissions that it has, as long as its person has them.
    pub scopes: Vec<String>,
    /// Its beginning.
    pub created: UnixTime,
    /// Its end.
    pub expires: UnixTime,
    /// The time of its last use, accurate to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<UnixTime>,
    /// The address of its last use; empty if it was not used.
    #[serde(default)]
    pub last_source: String,
}
