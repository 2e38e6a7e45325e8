//! Requests and responses about trust rules, by which jobs enrol with the token of their own
//! provider. Re-exported by [`crate::api`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::key::Secret;
use crate::tag::Tag;

/// Asks for a trust rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRuleRequest {
    /// Its name, a label that no other rule of the organisation has.
    pub name: String,
    /// The issuer, exactly as claim `iss` has it.
    pub issuer: String,
    /// The audience, exactly as claim `aud` has it; it belongs to one organisation.
    pub audience: String,
    /// Claims and the exact values that they must have, as text. `a/b` names the field `b` of
    /// claim `a`.
    pub claims: BTreeMap<String, String>,
    /// Labels of the networks that devices may join by it; none = the default network.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Tags that its devices get.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// The name of its devices, in which `{claim}` stands for a claim's value; empty = the name
    /// that the job asks for.
    #[serde(default)]
    pub device_name: String,
    /// Seconds after which a device is removed in any case, from [`LIFETIME_MIN_SECS`] to
    /// [`LIFETIME_MAX_SECS`]; `None` = [`LIFETIME_SECS`].
    #[serde(default)]
    pub lifetime_secs: Option<u64>,
    /// Certificates in PEM of the CA by which the issuer's server is known; `None` = public ones.
    #[serde(default)]
    pub issuer_ca: Option<String>,
    /// The issuer's JSON Web Key Set, if the controller cannot reach the issuer.
    #[serde(default)]
    pub jwks: Option<String>,
}

/// Default life of a device by a trust rule, seconds: the longest that a job of GitHub runs.
pub const LIFETIME_SECS: u64 = 6 * 3_600;
/// Shortest life of a device by a trust rule, seconds: enough to come in.
pub const LIFETIME_MIN_SECS: u64 = 10;
/// Longest life of a device by a trust rule, seconds: 30 days.
pub const LIFETIME_MAX_SECS: u64 = 30 * 24 * 3_600;

/// A trust rule, for lists and as the answer to a request for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrustRuleSummary {
    /// Its name.
    pub name: String,
    /// Its id, which devices that it enrolled are listed with.
    pub id: String,
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: String,
    /// The claims and their values.
    pub claims: BTreeMap<String, String>,
    /// Labels of its networks.
    pub networks: Vec<String>,
    /// Tags that its devices get.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// The name of its devices; empty = the name that the job asks for.
    #[serde(default)]
    pub device_name: String,
    /// Seconds after which a device is removed in any case.
    pub lifetime_secs: u64,
    /// The issuer's server is known by a CA of the rule.
    #[serde(default)]
    pub has_issuer_ca: bool,
    /// The issuer's keys stand in the rule.
    #[serde(default)]
    pub has_jwks: bool,
    /// Its weaknesses, each a sentence that says who could come in and what helps.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Devices enrolled by it.
    pub uses: u64,
    /// The last of these uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<UnixTime>,
    /// The time at which it was made.
    pub created: UnixTime,
}

/// Asks how a token would be judged. Nothing is enrolled, and the token is not used up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenTestRequest {
    /// The token.
    pub token: Secret,
}

/// The judgement of a token, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenTestResponse {
    /// The rule by which a device would come in.
    pub rule: Option<String>,
    /// The reason why none does, as the job would hear it.
    pub refusal: Option<String>,
    /// For each rule of the token's issuer and audience, the claims that do not fit.
    pub rules: BTreeMap<String, Vec<ClaimMismatch>>,
}

/// A claim of a token that a rule does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimMismatch {
    /// The name of the claim.
    pub claim: String,
    /// The value that the rule asks for.
    pub wanted: String,
    /// The value that the token has.
    pub found: Option<String>,
}
