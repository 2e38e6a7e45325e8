//! Policies of networks as people set and ask for them, and how far a change has come.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::key::{Fingerprint, Lineage};
use crate::policy::RuleId;

/// The document that counts in a network, or one of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyDocument {
    /// Label of the network.
    pub network: String,
    /// Counts up from 1; 0 is the document that every network starts with.
    pub number: u64,
    /// The text, as it was set.
    pub text: String,
    /// Email of the person who set it; nobody set the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The time at which it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixTime>,
}

/// One entry of a policy's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyRevision {
    /// The document's number.
    pub number: u64,
    /// Email of the person who set it, as it was then.
    pub author: String,
    /// The time at which it was set.
    pub at: UnixTime,
    /// The document whose text it took, if it went back to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_back: Option<u64>,
    /// Length of the text, characters.
    pub characters: u64,
}

/// A document to be checked, tested or compared with the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// The document.
    pub text: String,
}

/// A document that is to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// The document.
    pub text: String,
    /// Set it only if the document with this number counts now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_number: Option<u64>,
}

/// An earlier document that is to count again, under a new number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// The number of that document; 0 is the one that every network starts with.
    pub to: u64,
    /// Go back only if the document with this number counts now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_number: Option<u64>,
}

/// The outcome of a document that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicySet {
    /// The document that counts now.
    pub number: u64,
    /// It differs from the one before; otherwise nothing was done.
    pub changed: bool,
    /// The tests of the document, all of which hold.
    pub tests: u32,
    /// The devices at which it has arrived; nothing if too many changes were waited for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// A document put beside the one that counts: who gains and who loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyPreview {
    /// The number of the document that counts.
    pub number: u64,
    /// The tests of the document, all of which hold.
    pub tests: u32,
    /// Reach that the document adds, at most [`REACH_CHANGES_MAX`].
    pub gained: Vec<ReachChange>,
    /// Reach that it takes away, at most as many. Connections that use it end.
    pub lost: Vec<ReachChange>,
    /// There are more changes than these.
    pub more: bool,
    /// Words of the document that mean nobody now, and the like.
    pub notes: Vec<String>,
}

/// One service that devices gain or lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReachChange {
    /// Labels of the devices that dial.
    pub from: Vec<String>,
    /// Labels of the devices that are dialled, or gateway hosts.
    pub to: Vec<String>,
    /// The pairs of them that it is about.
    pub among: ReachAmong,
    /// The service, such as `tcp/443`.
    pub service: String,
    /// The rule that allows it, or did.
    pub rule: RuleId,
}

/// Pairs of devices, by the people who enrolled them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReachAmong {
    /// All pairs.
    All,
    /// Devices of the same person only.
    OnePerson,
    /// All pairs but devices of the same person, which have rules of their own.
    Others,
}

/// A question about one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The device that dials: its label, or its whole name.
    pub from: String,
    /// The destination: a device, or a gateway host by its address or whole name.
    pub to: String,
    /// One service: `tcp/443`, `udp/53`, `icmp`.
    pub service: String,
}

/// The answer about one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// A rule allows it.
    pub allowed: bool,
    /// The rule that allows it, or did until it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    /// The line at which the rule begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The reason that its writer gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The answer in one sentence, as programs that are refused print it.
    pub sentence: String,
    /// The device that dials knows the other end: policy lets one of the two reach the other.
    pub visible: bool,
    /// The SOCKS reply that programs get: 0 if allowed, 2 if denied, 4 if the other end is hidden.
    pub socks_reply: u8,
}

/// A version of the netmap that a device has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The version.
    pub version: u64,
    /// The run of the controller that counted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The newest CA that the device has stored, if the controller has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Fingerprint>,
}

/// The outcome of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Removed {
    /// The devices at which it has arrived; nothing if too many changes were waited for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// The devices and relays at which a change has arrived, of those that were online.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Applied {
    /// Devices that have applied it.
    pub devices: u32,
    /// Devices that had to.
    pub devices_of: u32,
    /// Relays that have applied it.
    #[serde(default)]
    pub relays: u32,
    /// Relays that had to: those that must refuse what was revoked.
    #[serde(default)]
    pub relays_of: u32,
    /// The time that it took, or that was waited, milliseconds.
    pub within_ms: u64,
    /// Names of the devices and relays that have not applied it, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        write!(
            f,
            "applied on {} of {} device{}",
            self.devices,
            self.devices_of,
            plural(self.devices_of)
        )?;
        if self.relays_of > 0 {
            write!(
                f,
                " and {} of {} relay{}",
                self.relays,
                self.relays_of,
                plural(self.relays_of)
            )?;
        }
        let tenths = self.within_ms.div_ceil(100);
        write!(f, ", {}.{} s", tenths / 10, tenths % 10)?;
        if !self.missing.is_empty() {
            write!(f, "; missing: {}", self.missing.join(", "))?;
        }
        let shown = u32::try_from(self.missing.len()).unwrap_or(u32::MAX);
        let missing = (self.devices_of - self.devices) + (self.relays_of - self.relays);
        match missing.saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Longest document, bytes: some ten thousand rules.
pub const POLICY_MAX: usize = 1024 * 1024;

/// Most changes of reach of each kind in a preview: more than a person reads.
pub const REACH_CHANGES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_names_who_is_missing() {
        let all = Applied {
            devices: 17,
            devices_of: 17,
            within_ms: 351,
            ..Applied::default()
        };
        assert_eq!(all.to_string(), "applied on 17 of 17 devices, 0.4 s");
        let some = Applied {
            devices: 0,
            devices_of: 1,
            relays: 1,
            relays_of: 3,
            within_ms: 5_000,
            missing: vec!["web.home".to_owned(), "ams-1".to_owned()],
        };
        assert_eq!(
            some.to_string(),
            "applied on 0 of 1 device and 1 of 3 relays, 5.0 s; missing: web.home, ams-1 and 1 more"
        );
    }
}
