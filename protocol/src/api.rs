//! Requests and responses of the controller's HTTP API, its paths, its error form and the join
//! string. All bodies are JSON.
//!
//! The types of `devices`, `relays`, networks, sessions and certificates have a file each, and so
//! has the `join_string`; all are named here.
//!
//! People authenticate by a session (`Authorization: Bearer ovs_…`), devices and relays by a
//! [`crate::proof::ChannelProof`].

use serde::{Deserialize, Serialize};

mod certificates;
mod devices;
pub mod dns;
mod join_string;
mod networks;
mod relays;
mod sessions;

pub use certificates::{
    CertificateRequest, CertificateResponse, NAME_KEY_LEN, NameCertificate, NameKey,
    NamesCaResponse, name_key_message,
};
pub use devices::{
    AUTH_KEY_LIFE_MAX_SECS, AUTH_KEY_LIFE_SECS, AuthKeyRequest, AuthKeyResponse, AuthKeySummary,
    Credential, DeviceReport, DeviceSummary, EnrolRequest, EnrolResponse, NamePolicy,
    TicketResponse,
};
pub use join_string::{JoinString, ParseJoinError};
pub use networks::{
    ALL_NETWORKS, ApproveRequest, JoinRequest, MemberRequest, MembershipSummary, NetworkChoice,
    NetworkRequest, NetworkSummary, OfferRequest, RouteSummary,
};
pub use relays::{
    HOLDERS_MAX, RELAY_HEARTBEAT_SECS, RELAY_TOKEN_LIFE_SECS, RelayHeartbeat, RelayOrders,
    RelayRegisterRequest, RelayRegisterResponse, RelaySummary, RelayTokenRequest,
    RelayTokenResponse, RelayTokenSummary,
};
pub use sessions::{
    LoginRequest, LoginResponse, PASSWORD_MAX, PASSWORD_MIN, PasswordRequest, SessionSummary,
    SessionsEnded, SetupRequest, SetupResponse,
};

/// Paths of the API. `GET` reads, `POST` changes, `DELETE` removes.
pub mod path {
    /// GET: [`super::Health`]. No authentication.
    pub const HEALTH: &str = "/v1/health";
    /// POST [`super::SetupRequest`] → [`super::SetupResponse`]. Authenticated by the setup token in
    /// the body.
    pub const SETUP: &str = "/v1/setup";
    /// POST [`super::LoginRequest`] → [`super::LoginResponse`]. With a device proof as well if a
    /// device of the person asks.
    pub const LOGIN: &str = "/v1/login";
    /// POST [`super::PasswordRequest`] → [`super::SessionsEnded`]. Session.
    pub const PASSWORD: &str = "/v1/password";
    /// DELETE: ends the session that asks.
    pub const SESSION: &str = "/v1/session";
    /// GET: list of [`super::SessionSummary`]; DELETE: ends all others → [`super::SessionsEnded`];
    /// DELETE `/{id}`: ends one. Session.
    pub const SESSIONS: &str = "/v1/sessions";
    /// GET: list of [`super::NetworkSummary`]; POST [`super::NetworkRequest`] →
    /// [`super::NetworkSummary`]; DELETE `/{label}`: removes an empty one, with `?force` any but
    /// the default one. Session.
    ///
    /// POST `/{label}/devices` [`super::MemberRequest`] → [`super::MembershipSummary`]: puts a
    /// device in; DELETE `/{label}/devices/{id}`: takes it out, so that it cannot come back by
    /// itself.
    pub const NETWORKS: &str = "/v1/networks";
    /// GET: list of [`super::DeviceSummary`]; DELETE `/{id}`: removes a device for good; POST
    /// `/{id}/approve` `{}` → list of [`super::MembershipSummary`]: lets a waiting device in.
    /// Session.
    pub const DEVICES: &str = "/v1/devices";
    /// POST [`super::AuthKeyRequest`] → [`super::AuthKeyResponse`]; GET: list of
    /// [`super::AuthKeySummary`]; DELETE `/{id}`: revokes. Session.
    pub const AUTH_KEYS: &str = "/v1/auth-keys";
    /// POST [`super::RelayTokenRequest`] → [`super::RelayTokenResponse`]; GET: list of
    /// [`super::RelayTokenSummary`]; DELETE `/{id}`: revokes. Session.
    pub const RELAY_TOKENS: &str = "/v1/relay-tokens";
    /// GET: list of [`super::RelaySummary`]; DELETE `/{name}`: removes a relay for good. Session.
    pub const RELAYS: &str = "/v1/relays";
    /// GET `?network=<label>`: [`crate::api::dns::DnsSummary`]; without a network that of the
    /// default one. Session.
    pub const DNS: &str = "/v1/dns";
    /// POST [`crate::api::dns::DnsRecordRequest`] → [`crate::api::dns::DnsRecordSummary`]. Session.
    pub const DNS_RECORDS: &str = "/v1/dns/records";
    /// POST [`crate::api::dns::DnsRecordRemoval`] → [`crate::api::dns::DnsRemoved`]. Session.
    pub const DNS_RECORDS_REMOVE: &str = "/v1/dns/records/remove";
    /// POST [`crate::api::dns::DnsZoneRequest`] → [`crate::api::dns::DnsZoneSummary`]. Session.
    pub const DNS_ZONES: &str = "/v1/dns/zones";
    /// POST [`crate::api::dns::DnsZoneRemoval`] → [`crate::api::dns::DnsRemoved`]. Session.
    pub const DNS_ZONES_REMOVE: &str = "/v1/dns/zones/remove";
    /// POST [`super::EnrolRequest`] → [`super::EnrolResponse`]. Authenticated by the credential in
    /// the body.
    pub const ENROL: &str = "/v1/enrol";
    /// POST `{}` → [`super::TicketResponse`]. Device proof.
    pub const DEVICE_TICKET: &str = "/v1/device/ticket";
    /// GET: an endless stream of lines, each a [`crate::netmap::MapEvent`];
    /// `?since=<version>&lineage=<lineage>` asks for deltas from there. Device proof. While the
    /// stream is open the device counts as online.
    pub const DEVICE_NETMAP: &str = "/v1/device/netmap";
    /// POST [`super::DeviceReport`] → `{}`. Device proof.
    pub const DEVICE_REPORT: &str = "/v1/device/report";
    /// DELETE: removes the device that asks. Device proof.
    pub const DEVICE: &str = "/v1/device";
    /// POST [`super::OfferRequest`] → list of [`super::RouteSummary`]. Device proof.
    pub const DEVICE_ROUTES: &str = "/v1/device/routes";
    /// GET: list of [`super::RouteSummary`]; POST [`super::ApproveRequest`] →
    /// [`super::RouteSummary`]. Session.
    pub const ROUTES: &str = "/v1/routes";
    /// GET: list of [`super::NetworkChoice`]; POST [`super::JoinRequest`] →
    /// [`super::MembershipSummary`]; DELETE `/{label}`: the device leaves. Device proof.
    pub const DEVICE_NETWORKS: &str = "/v1/device/networks";
    /// POST [`super::CertificateRequest`] → [`super::CertificateResponse`]. Device proof.
    pub const DEVICE_CERTIFICATES: &str = "/v1/device/certificates";
    /// GET: [`super::NamesCaResponse`]. No authentication.
    pub const NAMES_CA: &str = "/v1/names-ca";
    /// POST [`super::RelayRegisterRequest`] → [`super::RelayRegisterResponse`]. Authenticated by
    /// the relay token in the body.
    pub const RELAY_REGISTER: &str = "/v1/relay/register";
    /// POST [`super::RelayHeartbeat`] → [`super::RelayOrders`]. Relay proof.
    pub const RELAY_HEARTBEAT: &str = "/v1/relay/heartbeat";
}

/// An RFC 9457 problem document, sent with content type [`PROBLEM_TYPE`] and every HTTP status from
/// 400 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The device was removed; enrol again.
    DeviceRemoved,
    /// The controller does not know the device and never removed one with this id: its database is
    /// older than the device. Enrol again.
    DeviceUnknown,
    /// The controller does not know the relay: it was removed, or the database is older than the
    /// relay. Register again with a new token.
    RelayUnknown,
    /// The name is in use and the key's policy is `fail`.
    NameTaken,
    /// No such network in the organisation.
    UnknownNetwork,
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
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// An owner account exists.
    pub set_up: bool,
}

/// Largest request body before authentication, bytes.
pub const REQUEST_MAX: usize = 16 * 1024;

/// Largest response body other than the netmap stream, bytes.
pub const RESPONSE_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
