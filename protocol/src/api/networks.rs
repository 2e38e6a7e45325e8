//! What people and devices say about networks, who is in them, and what lies behind a device.
//! Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::gateway::{GatewayRoute, OfferedRoute};
use crate::key::DeviceId;

/// Makes a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Its label, part of every name in it; not [`ALL_NETWORKS`].
    pub name: String,
}

/// Stands for all networks that one may join, so no network has this label.
pub const ALL_NETWORKS: &str = "all";

/// Puts a device into a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// The id of the device.
    pub device: DeviceId,
}

/// A device's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Says whether it may join, or come back after it left.
    pub may_join: bool,
}

/// A device offers to lead the members of its networks to hosts behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// All that it offers, at most [`crate::gateway::ROUTES_MAX`]; what it offered before and is
    /// not among them is withdrawn.
    pub routes: Vec<OfferedRoute>,
}

/// An offered route in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSummary {
    /// The id of the device.
    pub device: DeviceId,
    /// Its host label there.
    pub label: String,
    /// The network's label.
    pub network: String,
    /// The route.
    pub route: GatewayRoute,
    /// Label that its host is to have in the network, and has while the route is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Says whether members of the network may use it.
    pub approved: bool,
}

/// Approves an offered route in a network, or takes that back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The id of the device.
    pub device: DeviceId,
    /// The network's label.
    pub network: String,
    /// The route.
    pub route: GatewayRoute,
    /// Says whether members may use it from now on.
    pub approved: bool,
}
