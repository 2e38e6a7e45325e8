//! Requests and responses about records and zones of a network. Names are absolute: below
//! `network.domain` or in a zone.

use serde::{Deserialize, Serialize};

use crate::dns::{Record, Via};

/// All DNS settings of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsSummary {
    /// Label of the network.
    pub network: String,
    /// The zone of its devices: `network.domain`.
    pub domain: String,
    /// Further zones, by name.
    pub zones: Vec<DnsZoneSummary>,
    /// Records, by name.
    pub records: Vec<DnsRecordSummary>,
}

/// A zone, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsZoneSummary {
    /// Its name.
    pub zone: String,
    /// Resolvers inside the overlay; none = records answer.
    pub via: Vec<Via>,
}

/// A record, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsRecordSummary {
    /// Its name.
    pub name: String,
    /// Type and value.
    #[serde(flatten)]
    pub record: Record,
}

/// Adds a record. Adding the same record twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DnsRecordRequest {
    /// Label of the network.
    pub network: String,
    /// Absolute name, or a single label of `network.domain`.
    pub name: String,
    /// Type, such as `A`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value, as [`Record::parse`] takes it.
    pub value: String,
}

/// Removes records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DnsRecordRemoval {
    /// Label of the network.
    pub network: String,
    /// Name, as in [`DnsRecordRequest::name`].
    pub name: String,
    /// Removes only records of this type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Removes only the record with this value; needs the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Adds a zone, or gives it other resolvers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DnsZoneRequest {
    /// Label of the network.
    pub network: String,
    /// Name of the zone.
    pub zone: String,
    /// Resolvers inside the overlay, as text; none = records answer.
    #[serde(default)]
    pub via: Vec<String>,
}

/// Removes a zone that has no records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DnsZoneRemoval {
    /// Label of the network.
    pub network: String,
    /// Name of the zone.
    pub zone: String,
}

/// The number of things that a removal removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsRemoved {
    /// Number of records or zones.
    pub removed: u32,
}
