//! Requests and responses of the controller's HTTP API, its paths, its error form and the join
//! string. All bodies are JSON.
//!
//! People authenticate by a session (`Authorization: Bearer ovs_…`), devices and relays by a
//! [`crate::proof::ChannelProof`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::HostPort;
use crate::frame::Vni;
use crate::key::{
    DeviceId, Fingerprint, IdentityKey, Lineage, NetworkId, RelayId, Secret, TunnelKey,
};
use crate::netmap::Owner;
use crate::ticket::TicketKeys;

mod certificates;
pub mod dns;
mod networks;
mod sessions;

pub use certificates::{
    CertificateRequest, CertificateResponse, NAME_KEY_LEN, NameCertificate, NameKey,
    NamesCaResponse, name_key_message,
};
pub use networks::{
    ALL_NETWORKS, ApproveRequest, JoinRequest, MemberRequest, MembershipSummary, NetworkChoice,
    NetworkRequest, OfferRequest, RouteSummary,
};

pub use sessions::{PasswordRequest, SessionSummary, SessionsEnded};

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

/// Makes the owner account, the first organisation and its default network.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
pub struct SetupResponse {
    /// The id of the network that was made, which is the default one.
    pub network: NetworkId,
    /// The owner is logged in.
    pub session: LoginResponse,
}

/// Logs a person in by email and password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The email address that the account goes by.
    pub email: String,
    /// The password of the account.
    pub password: Secret,
}

/// A session of a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginResponse {
    /// Bearer token, `ovs_…`.
    pub session: Secret,
    /// Its end, seconds since the Unix epoch.
    pub expires: u64,
    /// The email address that the account goes by.
    pub email: String,
    /// Organisation's name.
    pub organisation: String,
}

/// A network, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// The id of the network.
    pub id: NetworkId,
    /// The label of the network, as names have it.
    pub name: String,
    /// Devices join this network when they name none.
    pub default: bool,
    /// Number of devices.
    pub devices: u32,
    /// Number of those that are online.
    pub online: u32,
}

/// A device, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSummary {
    /// The id of the device.
    pub id: DeviceId,
    /// The name that it asked for; its label in each network may be another one.
    pub label: String,
    /// The networks that it is a member of.
    pub networks: Vec<MembershipSummary>,
    /// Labels of the networks that it joins when it is approved; none if it does not wait.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// The person or the auth key that enrolled it.
    pub owner: Owner,
    /// The note of the auth key that enrolled it; empty without one.
    #[serde(default)]
    pub owner_note: String,
    /// It holds a controller session.
    pub online: bool,
    /// It is removed after it goes offline.
    pub ephemeral: bool,
    /// Name of its home relay, if it has one.
    pub relay: Option<String>,
}

/// Asks for an auth key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthKeyRequest {
    /// Labels of the networks that devices may join by it; none = the default network.
    #[serde(default)]
    pub networks: Vec<String>,
    /// May enrol more than one device.
    #[serde(default)]
    pub reusable: bool,
    /// Its devices are removed after going offline.
    #[serde(default)]
    pub ephemeral: bool,
    /// Its devices wait for a person before they are in any network.
    #[serde(default)]
    pub approval: bool,
    /// Seconds until it expires, at most [`AUTH_KEY_LIFE_MAX_SECS`]; `None` =
    /// [`AUTH_KEY_LIFE_SECS`].
    #[serde(default)]
    pub expires_in_secs: Option<u64>,
    /// The rule for a device whose name is taken.
    #[serde(default)]
    pub on_name_taken: NamePolicy,
    /// A note for people.
    #[serde(default)]
    pub note: String,
}

/// Default life of an auth key, seconds: one day.
pub const AUTH_KEY_LIFE_SECS: u64 = 24 * 3_600;
/// Longest life of an auth key, seconds: one year.
pub const AUTH_KEY_LIFE_MAX_SECS: u64 = 365 * 24 * 3_600;

/// The rule that enrolment follows if a device, a record or a gateway host has the wanted name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamePolicy {
    /// Append a number to the name.
    #[default]
    Suffix,
    /// Take over the name and remove the other device if it is offline and was enrolled by the same
    /// key; otherwise do as `Suffix` does.
    TakeOverOffline,
    /// Refuse the request.
    Fail,
}

/// A new auth key; its text is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuthKeyResponse {
    /// `ovk_<id>_<secret>`.
    pub key: Secret,
    /// The key without its secret.
    pub summary: AuthKeySummary,
}

/// An auth key, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthKeySummary {
    /// Public part of the key.
    pub id: String,
    /// Labels of its networks.
    pub networks: Vec<String>,
    /// May enrol more than one device.
    pub reusable: bool,
    /// Its devices are ephemeral.
    pub ephemeral: bool,
    /// Its devices wait for a person.
    #[serde(default)]
    pub approval: bool,
    /// Its end, seconds since the Unix epoch.
    pub expires: u64,
    /// Devices enrolled by it.
    pub uses: u32,
    /// The key was revoked: nobody can enrol by it any more.
    pub revoked: bool,
    /// The note that was made with the key.
    pub note: String,
}

/// Asks for a relay token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayTokenRequest {
    /// Short name that the relay will have, a label such as `ams-1`.
    pub name: String,
}

/// A relay token: registers one relay once, within [`RELAY_TOKEN_LIFE_SECS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayTokenResponse {
    /// `ovr_<id>_<secret>`.
    pub token: Secret,
    /// Its end, seconds since the Unix epoch.
    pub expires: u64,
}

/// Life of a relay token, seconds: one day.
pub const RELAY_TOKEN_LIFE_SECS: u64 = 24 * 3_600;

/// A relay token without its secret, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayTokenSummary {
    /// Public part of the token.
    pub id: String,
    /// Name of the relay that it registers.
    pub name: String,
    /// Its end, seconds since the Unix epoch.
    pub expires: u64,
    /// A relay was registered by it.
    pub used: bool,
}

/// A relay, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaySummary {
    /// The id of the relay.
    pub id: RelayId,
    /// The name that its relay token gave the relay.
    pub name: String,
    /// `host:port` list.
    pub addresses: Vec<String>,
    /// Heartbeats arrive.
    pub online: bool,
    /// Clients attached at the last heartbeat.
    pub clients: u32,
}

/// A device asks to be enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The key or session that authorises the enrolment.
    pub credential: Credential,
    /// Wanted networks; [`ALL_NETWORKS`] alone = all that the credential allows; none = all of the
    /// key's, or the organisation's default one.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Host name of the operating system, or the user's choice.
    pub hostname: String,
    /// The device's new identity key.
    pub identity: IdentityKey,
    /// Signature by `identity` over [`crate::proof::enrolment_message`] of this connection, text
    /// form.
    pub proof: String,
    /// The device's tunnel key.
    pub tunnel: TunnelKey,
    /// Signature by `identity` over [`crate::proof::tunnel_key_message`], text form.
    pub tunnel_signature: String,
}

/// A key or a session that authorises an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// An auth key.
    AuthKey(Secret),
    /// A person's session.
    Session(Secret),
}

/// The device is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The id that the controller gave the device.
    pub device: DeviceId,
    /// Host label that it got in the first of its networks.
    pub label: String,
    /// Label of the first network that it joined; the netmap lists all.
    pub network: String,
    /// The deployment's domain.
    pub domain: String,
    /// Its first ticket.
    pub ticket: TicketResponse,
}

/// A ticket for relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketResponse {
    /// The ticket's text, as a relay reads it.
    pub ticket: String,
    /// Its end, seconds since the Unix epoch.
    pub expires: u64,
    /// Networks that it names, ascending: the device attaches again when they change.
    #[serde(default)]
    pub networks: Vec<Vni>,
}

/// A device's report of its state, sent from time to time and after each change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceReport {
    /// Relays that the device is attached to.
    pub attached: Vec<RelayId>,
    /// Measured round trips of TLS connections, milliseconds, at most 64.
    pub round_trips_ms: Vec<(RelayId, u32)>,
    /// The device is shutting down: it is offline as soon as its netmap stream is closed, without
    /// the usual wait for its return.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A relay asks to be registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRegisterRequest {
    /// The relay token that authorises it; it is used up by this.
    pub token: Secret,
    /// The relay's new identity key.
    pub identity: IdentityKey,
    /// Signature by `identity` over [`crate::proof::enrolment_message`] of this connection, text
    /// form.
    pub proof: String,
    /// `host:port` list where clients reach it, 1 to 8.
    pub addresses: Vec<String>,
    /// SHA-256 of the SPKI of its TLS key, 1 or 2.
    pub pins: Vec<Fingerprint>,
}

/// The relay is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRegisterResponse {
    /// The id that the controller gave the relay.
    pub relay: RelayId,
    /// Its name.
    pub name: String,
    /// The orders in force from the start.
    pub orders: RelayOrders,
}

/// A relay's report, sent every [`RELAY_HEARTBEAT_SECS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayHeartbeat {
    /// The number of clients that are attached.
    pub clients: u32,
    /// Version of the orders it has applied; 0 = none.
    pub applied: u64,
    /// Lineage of those orders, as they gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The addresses at which clients reach it, as in [`RelayRegisterRequest`]; a restarted relay
    /// may have another port.
    pub addresses: Vec<String>,
    /// Its pins, as in [`RelayRegisterRequest`].
    pub pins: Vec<Fingerprint>,
    /// The controller holds its answer until there are new orders, at most
    /// [`RELAY_HEARTBEAT_SECS`].
    pub wait: bool,
}

/// Seconds between a relay's heartbeats. Two missed ones make it offline.
pub const RELAY_HEARTBEAT_SECS: u64 = 5;

/// The orders by which a relay judges tickets without asking the controller. Always whole, never a
/// delta: they are small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayOrders {
    /// Grows with every change. Orders have changed if the version or the lineage differs.
    pub version: u64,
    /// The run of the controller that counted the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// Keys that sign tickets.
    pub ticket_keys: TicketKeys,
    /// Removed or changed devices: tickets below this epoch are refused, connections under them
    /// closed. Entries older than a ticket's life are left out.
    pub revoked: Vec<(DeviceId, u64)>,
    /// The device that holds each address that may have been given out twice, at most
    /// [`HOLDERS_MAX`]: a ticket that gives the address to another device is not admitted to the
    /// network, and a connection that has the address is ended. Empty unless the controller's
    /// database was restored from a backup and tickets from the lost time are still valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<(Vni, u32, DeviceId)>,
}

/// Most addresses in [`RelayOrders::holders`], the newest; some 60 bytes each.
pub const HOLDERS_MAX: usize = 8_192;

/// A controller's address and the means to recognise it: `https://host:port#sha256:<fingerprint>`.
///
/// The fingerprint is the SHA-256 of the deployment CA's certificate. Without one the controller's
/// certificate must chain to a public root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinString {
    /// The controller's name or address, and its port.
    pub server: HostPort,
    /// The pinned CA of the deployment; `None` = a public one vouches for the controller.
    pub ca: Option<Fingerprint>,
}

/// A text that is not a join string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join string: {0}; copy it as `overlan controller serve` prints it, \
    such as https://controller.example:8443#sha256:…"
)]
pub struct ParseJoinError(&'static str);

impl FromStr for JoinString {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, ParseJoinError> {
        let rest = text
            .trim()
            .strip_prefix("https://")
            .ok_or(ParseJoinError("it must start with https://"))?;
        let (authority, fragment) = match rest.split_once('#') {
            Some((authority, fragment)) => (authority, Some(fragment)),
            None => (rest, None),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '@']) {
            return Err(ParseJoinError("it cannot have a path, query or user"));
        }
        let server = HostPort::parse_or(authority, DEFAULT_PORT)
            .map_err(|error| ParseJoinError(error.reason()))?;
        let ca = match fragment {
            None if !may_be_public(&server) => {
                return Err(ParseJoinError(
                    "the fingerprint is missing, and a host that is not public needs one",
                ));
            }
            None => None,
            Some(fragment) => {
                let pin = fragment
                    .strip_prefix("sha256:")
                    .ok_or(ParseJoinError("the part after # must start with sha256:"))?;
                Some(
                    pin.parse()
                        .map_err(|_| ParseJoinError("the fingerprint after # is damaged"))?,
                )
            }
        };
        Ok(Self { server, ca })
    }
}

/// Returns whether the host has a public name or address, so that a public CA may vouch for it.
fn may_be_public(server: &HostPort) -> bool {
    use std::net::IpAddr;
    match server.address().map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || shared)
        }
        Some(IpAddr::V6(v6)) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
        None => {
            let name = server.host().trim_end_matches('.').to_ascii_lowercase();
            let last = name.rsplit_once('.').map(|(_, last)| last);
            last.is_some_and(|last| !PRIVATE_DOMAINS.contains(&last))
        }
    }
}

/// Last labels that are never delegated (RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of
/// `internal`).
const PRIVATE_DOMAINS: [&str; 7] = [
    "internal",
    "local",
    "localhost",
    "test",
    "invalid",
    "lan",
    "home",
];

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.server)?;
        match &self.ca {
            Some(ca) => write!(f, "#sha256:{ca}"),
            None => Ok(()),
        }
    }
}

/// Port of a controller whose join string names none: that of HTTPS.
const DEFAULT_PORT: u16 = 443;

/// Largest request body before authentication, bytes.
pub const REQUEST_MAX: usize = 16 * 1024;

/// Largest response body other than the netmap stream, bytes.
pub const RESPONSE_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
