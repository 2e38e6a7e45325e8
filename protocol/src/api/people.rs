//! Requests and responses about the people of an organisation and the organisation itself.
//! Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use super::policies::Applied;
use super::rights::Role;
use crate::UnixTime;

/// A person of an organisation, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PersonSummary {
    /// The number of the account, by which paths name it.
    pub id: u64,
    /// The email address that the account goes by.
    pub email: String,
    /// The person's part in this organisation.
    pub role: Role,
    /// This is the person who asks.
    pub you: bool,
    /// The time at which the person joined the organisation.
    pub joined: UnixTime,
    /// The time of the last use of a login of this organisation that is still open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<UnixTime>,
    /// Open logins to this organisation.
    pub logins: u32,
    /// Devices of this organisation that the person enrolled or was handed.
    pub devices: u32,
    /// Auth keys of this organisation that the person made and that still enrol devices.
    pub auth_keys: u32,
}

/// Gives a person another role.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// The new one.
    pub role: Role,
}

/// A person has another role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoleSet {
    /// The devices at which it has arrived; nothing if the role was that one, or too many changes
    /// were waited for at once.
    #[serde(default)]
    pub applied: Option<Applied>,
}

/// Ends a person's place in the organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RemovePersonRequest {
    /// The fate of the person's devices.
    pub devices: DevicesOfPerson,
}

/// The fate of the devices of a person who is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DevicesOfPerson {
    /// They stay in their networks.
    Keep,
    /// They are removed for good.
    Remove,
    /// They are from now on the person's whose account has this number.
    HandTo(u64),
}

/// The effects of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PersonRemoved {
    /// The email of the person.
    pub email: String,
    /// Logins that ended.
    pub logins: u64,
    /// API tokens that ended.
    pub api_tokens: u64,
    /// Auth keys that the person made, which were revoked; by id.
    pub auth_keys: Vec<String>,
    /// Relay tokens that the person made, which were revoked; by id.
    pub relay_tokens: Vec<String>,
    /// Invitations that the person made and nobody had accepted, which were revoked; by id.
    pub invitations: Vec<String>,
    /// Devices that were removed.
    pub devices_removed: Vec<String>,
    /// Devices that another person has now.
    pub devices_handed: Vec<String>,
    /// Devices of the person that stay in their networks, and can still connect.
    pub devices_kept: Vec<String>,
    /// Devices that auth keys of the person enrolled: they are not the person's, and stay.
    pub devices_by_keys: Vec<String>,
    /// Of all that stay, the devices that are online now.
    pub still_connected: Vec<String>,
    /// The account is in no organisation any more and was deleted.
    pub account_deleted: bool,
    /// The devices and relays at which it has arrived; nothing if too many changes were waited for
    /// at once.
    #[serde(default)]
    pub applied: Option<Applied>,
}

/// An organisation, as its people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrganisationSummary {
    /// Its number on this controller.
    pub id: u64,
    /// Its name, for people.
    pub name: String,
    /// The time at which it was made.
    pub created: UnixTime,
    /// The role of the person who asks.
    pub role: Role,
    /// Its people.
    pub people: u32,
    /// Its owners, by email.
    pub owners: Vec<String>,
    /// Its networks.
    pub networks: u32,
    /// Its devices.
    pub devices: u32,
}

/// Renames the organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OrganisationRequest {
    /// The new name, 1 to [`ORGANISATION_NAME_MAX`] characters.
    pub name: String,
}

/// Deletes the organisation of the owner who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OrganisationDelete {
    /// Its exact name, so that no other one is meant.
    pub name: String,
    /// Also if other people are in it.
    #[serde(default)]
    pub with_everybody: bool,
}

/// An organisation that was deleted, with what was its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrganisationDeleted {
    /// Its name.
    pub name: String,
    /// People who were in it.
    pub people: u32,
    /// Accounts of those who were in no other organisation.
    pub accounts_deleted: u32,
    /// Its networks.
    pub networks: u32,
    /// Its devices.
    pub devices: u32,
    /// Its relays.
    pub relays: u32,
    /// The relays that refused the devices before they were removed themselves; nothing if too many
    /// changes were waited for at once.
    #[serde(default)]
    pub applied: Option<Applied>,
}

/// Most characters of an organisation's name.
pub const ORGANISATION_NAME_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_devices_is_a_word_or_a_word_with_an_account() {
        for (devices, document) in [
            (DevicesOfPerson::Keep, r#"{"devices":"keep"}"#),
            (DevicesOfPerson::Remove, r#"{"devices":"remove"}"#),
            (DevicesOfPerson::HandTo(7), r#"{"devices":{"hand-to":7}}"#),
        ] {
            let request = RemovePersonRequest { devices };
            assert_eq!(serde_json::to_string(&request).unwrap(), document);
            let read: RemovePersonRequest = serde_json::from_str(document).unwrap();
            assert_eq!(read.devices, devices);
        }
    }
}
