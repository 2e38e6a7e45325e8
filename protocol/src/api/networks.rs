//! Requests and responses about networks, their members, and the routes of gateways. Re-exported by
//! [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::gateway::{GatewayRoute, OfferedRoute};
use crate::key::{DeviceId, NetworkId};

/// A network, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Names that it had before and that are still aliases of its present one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerName>,
}

/// A name that a network had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FormerName {
    /// The label.
    pub name: String,
    /// The time until which it is an alias, and no other network can have it.
    pub until: UnixTime,
}

/// Gives a network another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkRename {
    /// The new label.
    pub name: String,
    /// Seconds for which the old name is an alias of the new one, at most [`FORMER_NAME_MAX_SECS`];
    /// `None` = [`FORMER_NAME_SECS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old_secs: Option<u64>,
}

/// Default time for which a network's old name is an alias, seconds: one week, so that everybody's
/// weekly job has met both names.
pub const FORMER_NAME_SECS: u64 = 7 * 24 * 3_600;

/// Longest such time, seconds: half a year.
pub const FORMER_NAME_MAX_SECS: u64 = 183 * 24 * 3_600;

/// Makes a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Its label, part of every name in it; not [`ALL_NETWORKS`].
    pub name: String,
}

/// Stands for all networks that a device may join, so no network has this label.
pub const ALL_NETWORKS: &str = "all";

/// Puts a device into a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// The id of the device.
    pub device: DeviceId,
}

/// A device's label and address in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembershipSummary {
    /// The network's label.
    pub network: String,
    /// The device's host label there.
    pub label: String,
    /// Its overlay IPv4 address there.
    pub address: String,
}

/// A device joins a network by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The network's label.
    pub network: String,
}

/// A network that a device is in, or may join by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChoice {
    /// The network's label.
    pub network: String,
    /// The device's place, if it is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<MembershipSummary>,
    /// The device may join, or come back after it left.
    pub may_join: bool,
}

/// Offers routes: the device becomes a gateway for the members of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// All its routes, at most [`crate::gateway::ROUTES_MAX`]; routes that it offered before and
    /// does not list here are withdrawn.
    pub routes: Vec<OfferedRoute>,
}

/// An offered route in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteSummary {
    /// The id of the device.
    pub device: DeviceId,
    /// Its host label there.
    pub label: String,
    /// The network's label.
    pub network: String,
    /// The route.
    pub route: GatewayRoute,
    /// The label that the route's one host gets in the network while the route is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Members of the network may use the route.
    pub approved: bool,
}

/// Approves an offered route in a network, or withdraws the approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The id of the device.
    pub device: DeviceId,
    /// The network's label.
    pub network: String,
    /// The route.
    pub route: GatewayRoute,
    /// Members may use the route from here on.
    pub approved: bool,
}
