//! Requests and responses about devices: auth keys, enrolment, tickets and reports. Re-exported by
//! [`crate::api`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::policies::Applied;
use super::{Barred, MembershipSummary};
use crate::UnixTime;
use crate::frame::Vni;
use crate::key::{DeviceId, IdentityKey, RelayId, Secret, TunnelKey};
use crate::netmap::Owner;
use crate::source_range::SourceRange;
use crate::tag::Tag;

/// A device, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// It takes no part; `None` = it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
    /// The time by which it has to prove its right again; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
    /// The end of its last session; `None` = it is online, or never was.
    #[serde(default)]
    pub last_seen: Option<UnixTime>,
    /// The time of its enrolment.
    #[serde(default)]
    pub created: UnixTime,
    /// The version of its program at its last session; empty if it had none.
    #[serde(default)]
    pub version: String,
    /// Round trip to its home relay as it measured it last, milliseconds.
    #[serde(default)]
    pub round_trip_ms: Option<u32>,
    /// In the answer to a change of the device: where the change has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// Changes the tags of a device: first some are taken away, then some are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TagRequest {
    /// Tags that it gets; it may have them already.
    #[serde(default)]
    pub add: BTreeSet<Tag>,
    /// Tags that it loses; it need not have them.
    #[serde(default)]
    pub remove: BTreeSet<Tag>,
}

/// Asks for an auth key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Tags that its devices get, at most [`crate::tag::TAGS_MAX`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Devices that it may enrol; `None` = as `reusable` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// Addresses from which it may be used, at most [`KEY_SOURCES_MAX`] ranges; none = everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRange>,
    /// Seconds for which its ephemeral devices may be offline before they are removed, from
    /// [`EPHEMERAL_MIN_SECS`] to [`EPHEMERAL_MAX_SECS`]; `None` = the controller's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_secs: Option<u64>,
}

/// Most ranges of addresses of one auth key: an office, its branches, and a data centre.
pub const KEY_SOURCES_MAX: usize = 16;

/// Shortest time for which an ephemeral device may be offline, seconds: a restart takes no longer.
pub const EPHEMERAL_MIN_SECS: u64 = 10;

/// Longest such time, seconds: 30 days.
pub const EPHEMERAL_MAX_SECS: u64 = 30 * 24 * 3_600;

/// Default life of an auth key, seconds: one day.
pub const AUTH_KEY_LIFE_SECS: u64 = 24 * 3_600;
/// Longest life of an auth key, seconds: one year.
pub const AUTH_KEY_LIFE_MAX_SECS: u64 = 365 * 24 * 3_600;

/// The rule that enrolment follows if a device, a record or a gateway host has the wanted name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthKeyResponse {
    /// `ovk_<id>_<secret>`.
    pub key: Secret,
    /// The key without its secret.
    pub summary: AuthKeySummary,
}

/// An auth key, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Its end.
    pub expires: UnixTime,
    /// Devices enrolled by it.
    pub uses: u32,
    /// The key was revoked: nobody can enrol by it any more.
    pub revoked: bool,
    /// The note that was made with the key.
    pub note: String,
    /// Tags that its devices get.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Devices that it may enrol; `None` = as `reusable` says.
    #[serde(default)]
    pub max_uses: Option<u32>,
    /// Addresses from which it may be used; none = everywhere.
    #[serde(default)]
    pub sources: Vec<SourceRange>,
    /// Seconds for which its ephemeral devices may be offline; `None` = the controller's own time.
    #[serde(default)]
    pub ephemeral_secs: Option<u64>,
}

/// A device asks to be enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The key, session or token that authorises the enrolment.
    pub credential: Credential,
    /// Wanted networks; [`ALL_NETWORKS`](super::ALL_NETWORKS) alone = all that the credential
    /// allows; none = all of the key's, or the organisation's default one.
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

/// A key, a session or a job's token that authorises an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// An auth key.
    AuthKey(Secret),
    /// A person's session.
    Session(Secret),
    /// The token that an identity provider signed for a job (OpenID Connect).
    Workload(Secret),
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
    /// Its end.
    pub expires: UnixTime,
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
