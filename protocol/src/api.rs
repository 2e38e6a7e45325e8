//! Requests and responses of the controller's HTTP API, its paths, its error form and the join
//! string. All bodies are JSON.
//!
//! The types of `devices`, `relays`, networks, `people`, `invitations`, sessions,
//! `login_requests`, rights, certificates, `identity_providers`, `trust_rules` and the deployment's
//! `keys` have a file each, and so have the `path`s and the `join_string`; all are named here.
//!
//! People authenticate by a session (`Authorization: Bearer ovs_…`), devices and relays by a
//! [`crate::proof::ChannelProof`].

use serde::{Deserialize, Serialize};

mod api_tokens;
mod certificates;
mod device_list;
mod devices;
pub mod dns;
mod identity_providers;
mod invitations;
mod join_string;
mod keys;
mod login_requests;
mod networks;
pub mod path;
mod people;
mod policies;
mod relays;
mod rights;
mod sessions;
mod trust_rules;

pub use api_tokens::{
    API_TOKEN_LIFE_MAX_SECS, API_TOKEN_LIFE_SECS, ApiTokenRequest, ApiTokenResponse,
    ApiTokenSummary,
};
pub use certificates::{
    CertificateRequest, CertificateResponse, NAME_KEY_LEN, NameCertificate, NameKey,
    NamesCaResponse, name_key_message,
};
pub use device_list::{
    Bar, Barred, DEVICE_LIFE_MAX_SECS, DeviceExpiry, DeviceQuery, DeviceRename, DeviceSort,
};
pub use devices::{
    AUTH_KEY_LIFE_MAX_SECS, AUTH_KEY_LIFE_SECS, AuthKeyRequest, AuthKeyResponse, AuthKeySummary,
    Credential, DeviceReport, DeviceSummary, EPHEMERAL_MAX_SECS, EPHEMERAL_MIN_SECS, EnrolRequest,
    EnrolResponse, KEY_SOURCES_MAX, NamePolicy, TagRequest, TicketResponse,
};
pub use identity_providers::{
    GROUPS_CLAIM, IdentityProviderRequest, IdentityProviderState, IdentityProviderSummary,
    IdentityProviderTest, SingleSignOnRequest, SingleSignOnResponse,
};
pub use invitations::{
    INVITATION_LIFE_MAX_SECS, INVITATION_LIFE_SECS, INVITATION_PREFIX, InvitationAcceptRequest,
    InvitationInfo, InvitationLookRequest, InvitationRequest, InvitationResponse, InvitationState,
    InvitationSummary, OneTimeLink, PASSWORD_RESET_LIFE_SECS, ParseLinkError, PasswordResetRequest,
    PasswordResetResponse, RESET_PREFIX, SignUpRequest,
};
pub use join_string::{FormerCas, JoinString, ParseJoinError};
pub use keys::{
    CA_GRACE_MAX_SECS, CA_GRACE_MIN_SECS, CA_GRACE_SECS, DeploymentKey, DeploymentKeySummary,
    PreviousKey, RotateRequest,
};
pub use login_requests::{
    LOGIN_WORDS_MAX, LoginAsked, LoginBeginRequest, LoginBegun, LoginCode, LoginPolled,
    LoginSecret, ParseCodeError, UserCode,
};
pub use networks::{
    ALL_NETWORKS, ApproveRequest, FORMER_NAME_MAX_SECS, FORMER_NAME_SECS, FormerName, JoinRequest,
    MemberRequest, MembershipSummary, NetworkChoice, NetworkRename, NetworkRequest, NetworkSummary,
    OfferRequest, RouteSummary,
};
pub use people::{
    DevicesOfPerson, ORGANISATION_NAME_MAX, OrganisationDelete, OrganisationDeleted,
    OrganisationRequest, OrganisationSummary, PersonRemoved, PersonSummary, RemovePersonRequest,
    RoleRequest, RoleSet,
};
pub use policies::{
    Applied, Confirmation, ExplainRequest, Explanation, POLICY_MAX, PolicyDocument, PolicyPreview,
    PolicyRequest, PolicyRevision, PolicyRollback, PolicySet, PolicyText, REACH_CHANGES_MAX,
    ReachAmong, ReachChange, Removed,
};
pub use relays::{
    HOLDERS_MAX, RELAY_HEARTBEAT_SECS, RELAY_TOKEN_LIFE_SECS, RelayHeartbeat, RelayOrders,
    RelayRegisterRequest, RelayRegisterResponse, RelaySummary, RelayTokenRequest,
    RelayTokenResponse, RelayTokenSummary,
};
pub use rights::{ParseRightError, Permission, Role};
pub use sessions::{
    LoginRequest, LoginResponse, PASSWORD_MAX, PASSWORD_MIN, PasswordRequest, SessionSummary,
    SessionsEnded, SetupRequest, SetupResponse,
};
pub use trust_rules::{
    ClaimMismatch, LIFETIME_MAX_SECS, LIFETIME_MIN_SECS, LIFETIME_SECS, TokenTestRequest,
    TokenTestResponse, TrustRuleRequest, TrustRuleSummary,
};

/// An RFC 9457 problem document, sent with content type [`PROBLEM_TYPE`] and every HTTP status from
/// 400 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The kind of the problem, for programs.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// One line for people: what happened.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// The cause, and what to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Do not ask again sooner, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u32>,
}

/// Content type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Kinds of problems: one per thing that a program does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The request is malformed or a value is out of range.
    BadRequest,
    /// The email or the password is wrong.
    WrongPassword,
    /// The setup token is wrong, or setup was done before.
    SetupRefused,
    /// There is no valid session or proof, or the device or relay that sent it is not known.
    NotAuthenticated,
    /// The caller is known but not allowed to do this.
    Forbidden,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The auth key or relay token is not known.
    KeyUnknown,
    /// The auth key or relay token has expired.
    KeyExpired,
    /// The one-off auth key or relay token was used before.
    KeyUsed,
    /// The auth key was revoked.
    KeyRevoked,
    /// The token of a job is not believed, no trust rule accepts it, or it was used before.
    TokenRefused,
    /// The keys of a token's issuer cannot be fetched; the same token may be accepted later.
    IssuerUnreachable,
    /// The device was removed; enrol again.
    DeviceRemoved,
    /// The device is disabled: an admin can enable it again.
    DeviceDisabled,
    /// The device has to prove its right again, by an auth key or a login.
    DeviceExpired,
    /// The controller does not know the device and never removed one with this id: its database is
    /// older than the device. Enrol again.
    DeviceUnknown,
    /// The controller does not know the relay: it was removed, or the database is older than the
    /// relay. Register again with a new token.
    RelayUnknown,
    /// The name is in use and the key's policy is `fail`.
    NameTaken,
    /// The account is in several organisations, or in none of the name that was given.
    ChooseOrganisation,
    /// The request does not fit the present state; `detail` says what to do.
    Conflict,
    /// No such network in the organisation.
    UnknownNetwork,
    /// The policy is not understood, or one of its tests does not hold.
    PolicyRefused,
    /// Another policy counts than the one that the caller knows.
    PolicyChanged,
    /// Too many requests; see `retry_after_secs`.
    TooMany,
    /// The controller cannot answer now.
    Unavailable,
    /// A fault of the controller.
    Internal,
    /// A kind from a later version.
    #[serde(other)]
    Other,
}

/// The controller's answer to [`path::HEALTH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// An owner account exists.
    pub set_up: bool,
    /// Fingerprints of the CAs by which the controller is recognised, as
    /// [`RelayOrders::cas`] has them.
    #[serde(default)]
    pub cas: Vec<String>,
}

/// Largest request body before authentication, bytes.
pub const REQUEST_MAX: usize = 16 * 1024;

/// Largest response body other than the netmap stream, bytes.
pub const RESPONSE_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
