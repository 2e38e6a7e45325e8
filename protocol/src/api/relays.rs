//! Requests and responses about relays: tokens, registration, heartbeats and orders. Re-exported by
//! [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::frame::Vni;
use crate::key::{DeviceId, Fingerprint, IdentityKey, Lineage, RelayId, Secret};
use crate::ticket::TicketKeys;
use crate::{HostIndex, UnixTime};

/// Asks for a relay token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RelayTokenRequest {
    /// Short name that the relay will have, a label such as `ams-1`.
    pub name: String,
}

/// A relay token: registers one relay once, within [`RELAY_TOKEN_LIFE_SECS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RelayTokenResponse {
    /// `ovr_<id>_<secret>`.
    pub token: Secret,
    /// Its end.
    pub expires: UnixTime,
}

/// Life of a relay token, seconds: one day.
pub const RELAY_TOKEN_LIFE_SECS: u64 = 24 * 3_600;

/// A relay token without its secret, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RelayTokenSummary {
    /// Public part of the token.
    pub id: String,
    /// Name of the relay that it registers.
    pub name: String,
    /// Its end.
    pub expires: UnixTime,
    /// A relay was registered by it.
    pub used: bool,
}

/// A relay, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The newest CA that the relay has stored, if its orders name any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Fingerprint>,
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
    pub holders: Vec<(Vni, HostIndex, DeviceId)>,
    /// The CAs by which the controller is recognised, at most two: the present one, and the one
    /// before while it counts. Empty from a version that never replaced its CA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cas: Vec<Fingerprint>,
}

/// Most addresses in [`RelayOrders::holders`], the newest; some 60 bytes each.
pub const HOLDERS_MAX: usize = 8_192;
