//! The devices that a list shows, and their order. Decides nothing: the controller picks and sorts.
//! Re-exported by [`crate::api`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::tag::Tag;

/// Picks devices of a list, as the query of a request; each field that is there leaves fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeviceQuery {
    /// Those in the network with this label, or waiting for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Those with this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Those that the person with this email, or the auth key with this id or note, enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Those that are online, or those that are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// Those that are offline for this many seconds at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline_for: Option<u64>,
    /// Those with this version, or one that begins like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Those whose home relay has this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The order.
    pub sort: DeviceSort,
    /// Most devices of the page; without it, all that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The id of the last device of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The order of a list of devices; equals are in the order of their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceSort {
    /// By name.
    #[default]
    Name,
    /// Those that were seen last come first.
    LastSeen,
    /// The oldest version first.
    Version,
    /// By the name of the home relay.
    Relay,
    /// The longest round trip first.
    Latency,
    /// The newest device first.
    Created,
}

/// The reason why a device that is known takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// A person disabled it.
    Disabled,
    /// It has not proved its right again in time.
    Expired,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Expired => "expired",
        })
    }
}

/// A device that takes no part: relays refuse it and peers do not know it, but it keeps its names
/// and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Barred {
    /// The reason.
    pub why: Bar,
    /// Its beginning.
    pub since: UnixTime,
}

/// Gives a device another name in all its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceRename {
    /// The label.
    pub label: String,
}

/// Sets the time at which a device has to have proved its right again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceExpiry {
    /// Seconds from now, at most [`DEVICE_LIFE_MAX_SECS`]; `None` = never.
    #[serde(default)]
    pub in_secs: Option<u64>,
}

/// Longest time after which a device has to prove its right again, seconds: ten years.
pub const DEVICE_LIFE_MAX_SECS: u64 = 10 * 365 * 24 * 3_600;
