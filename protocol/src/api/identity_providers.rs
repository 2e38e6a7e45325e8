//! Requests and responses about the identity provider of an organisation, by which its people log
//! in. Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use super::{LoginBeginRequest, LoginBegun};
use crate::UnixTime;
use crate::key::Secret;

/// Sets the identity provider of an organisation, in place of the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderRequest {
    /// The issuer, exactly as claim `iss` of its tokens has it.
    pub issuer: String,
    /// The id under which the provider knows this controller.
    pub client_id: String,
    /// The secret by which this controller proves to be that client; `None` keeps the one before,
    /// if the issuer and the client are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Domains of emails that the provider may speak for: somebody who logs in for the first time
    /// and has a verified one becomes a member. None = only people who are in the organisation or
    /// have an open invitation.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The claim with a person's groups; empty = [`GROUPS_CLAIM`].
    #[serde(default)]
    pub groups_claim: String,
    /// Certificates in PEM of the CA by which the provider's server is known; `None` = public
    /// ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ca: Option<String>,
}

/// The claim that has a person's groups at most identity providers.
pub const GROUPS_CLAIM: &str = "groups";

/// The identity provider of an organisation, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityProviderState {
    /// The address to which the provider sends browsers back: it must be registered there, exactly
    /// like this.
    pub redirect_uri: String,
    /// The provider.
    pub provider: Option<IdentityProviderSummary>,
}

/// An identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityProviderSummary {
    /// The issuer.
    pub issuer: String,
    /// The id under which the provider knows this controller.
    pub client_id: String,
    /// Domains of emails whose holders become members at their first login.
    pub domains: Vec<String>,
    /// The claim with a person's groups.
    pub groups_claim: String,
    /// The provider's server is known by a CA of its own.
    pub has_issuer_ca: bool,
    /// The time at which it was set.
    pub changed: UnixTime,
    /// People of the organisation who have logged in by it.
    pub people: u64,
}

/// The answer of an identity provider that was asked for its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityProviderTest {
    /// The address at which people log in.
    pub authorization_endpoint: String,
    /// The address at which this controller gets tokens.
    pub token_endpoint: String,
    /// The scopes that this controller asks for.
    pub scopes: Vec<String>,
    /// Things that work, and should be otherwise.
    pub warnings: Vec<String>,
}

/// Begins a login by the identity provider of an organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SingleSignOnRequest {
    /// The program that asks.
    pub asker: LoginBeginRequest,
    /// Name or number of the organisation; not needed on a controller where one organisation alone
    /// has an identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

/// A login by an identity provider has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SingleSignOnResponse {
    /// The login request. The page shows its code, so that the person sees that it is this one.
    pub request: LoginBegun,
    /// The address that the person opens in a browser.
    pub url: String,
}
