//! Decides which networks a device comes into by an auth key, a trust rule or somebody's login.
//! Knows no request and no transaction.

use std::collections::BTreeSet;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{ALL_NETWORKS, NamePolicy};
use overlan_protocol::key::NetworkId;
use overlan_protocol::tag::Tag;

use super::credential::noted;
use super::workload::Workload;
use crate::budget::Right;
use crate::netmaps::OrgId;
use crate::store::accounts::NetworkRow;
use crate::store::keys::AuthKey;

/// The networks and properties that a right gives to a new device.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(super) org: OrgId,
    pub(super) right: Right,
    /// Joined at once, or after approval; the answer names the first one.
    pub(super) networks: Vec<NetworkRow>,
    /// Networks that the device may join by itself later.
    pub(super) later: BTreeSet<NetworkId>,
    pub(super) ephemeral: bool,
    /// A person has to approve the device first.
    pub(super) approval: bool,
    pub(super) on_name_taken: NamePolicy,
    /// The note of the auth key, or the name of the trust rule; empty without one.
    pub(super) note: String,
    /// Tags that the device gets.
    pub(super) tags: BTreeSet<Tag>,
    /// Seconds for which it may be offline, if it is ephemeral; none is the controller's own time.
    pub(super) ephemeral_secs: Option<u64>,
    /// The key, rule or login that authorised the device, as people call it.
    pub(super) by: String,
    /// The name of the device, if it is not the device's own choice.
    pub(super) hostname: Option<String>,
    /// The time at which the device ends in any case.
    pub(super) ends: Option<UnixTime>,
}

/// The reason why a right does not lead into a network that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GrantError {
    /// The organisation of the person has no such network.
    UnknownNetwork { label: String, known: Vec<String> },
    /// The right is for other networks.
    NotOfRight {
        /// The right in words: an auth key, or a trust rule.
        right: &'static str,
        label: String,
        allowed: Vec<String>,
    },
}

impl Grant {
    /// Decides for a person who is logged in: all networks of the organisation are theirs, and the
    /// default one is meant if none of `wanted` is named.
    pub(crate) fn of_person(
        org: OrgId,
        account: i64,
        email: &str,
        networks: Vec<NetworkRow>,
        wanted: &[String],
    ) -> Result<Self, GrantError> {
        let networks = match wanted {
            [] => {
                let all = networks.into_iter();
                all.filter(|network| network.is_default).collect()
            }
            wanted => {
                let known = labels(&networks);
                pick(networks, wanted)
                    .map_err(|label| GrantError::UnknownNetwork { label, known })?
            }
        };
        Ok(Self {
            org,
            right: Right::Account(account),
            later: networks.iter().map(|network| network.id).collect(),
            networks,
            ephemeral: false,
            approval: false,
            on_name_taken: NamePolicy::default(),
            note: String::new(),
            tags: BTreeSet::new(),
            ephemeral_secs: None,
            by: format!("login of {email}"),
            hostname: None,
            ends: None,
        })
    }

    /// Decides for an auth key, given all `networks` of its organisation: the device joins those of
    /// the key, or the `wanted` ones among them.
    pub(crate) fn of_auth_key(
        key: AuthKey,
        networks: Vec<NetworkRow>,
        wanted: &[String],
    ) -> Result<Self, GrantError> {
        let (networks, later) = allowed(networks, &key.networks, wanted, "auth key")?;
        Ok(Self {
            org: key.org,
            networks,
            later,
            ephemeral: key.ephemeral,
            approval: key.approval,
            on_name_taken: key.on_name_taken,
            by: format!("auth key {}", noted(&key.id, &key.note)),
            note: key.note,
            tags: key.tags,
            ephemeral_secs: key.ephemeral_secs,
            right: Right::Key(key.id),
            hostname: None,
            ends: None,
        })
    }

    /// Decides for a job whose token a trust rule accepts. Its devices are ephemeral, and nobody
    /// approves them: no person is there when a job starts.
    pub(crate) fn of_workload(
        workload: Workload,
        networks: Vec<NetworkRow>,
        wanted: &[String],
        now: UnixTime,
    ) -> Result<Self, GrantError> {
        let Workload { rule, hostname, .. } = workload;
        let (networks, later) = allowed(networks, &rule.networks, wanted, "trust rule")?;
        Ok(Self {
            org: rule.org,
            networks,
            later,
            ephemeral: true,
            approval: false,
            on_name_taken: NamePolicy::default(),
            note: format!("trust rule {}", rule.name),
            tags: rule.tags,
            ephemeral_secs: None,
            by: format!("trust rule {}", rule.name),
            hostname,
            ends: Some(now + rule.lifetime),
            right: Right::Key(rule.id),
        })
    }

    /// The id of the auth key or trust rule, if the right is one.
    pub(super) fn key(&self) -> Option<&str> {
        match &self.right {
            Right::Key(id) => Some(id),
            Right::Account(_) => None,
        }
    }

    /// The account, if the right is a login.
    pub(super) fn account(&self) -> Option<i64> {
        match self.right {
            Right::Key(_) => None,
            Right::Account(account) => Some(account),
        }
    }
}

/// Returns the networks that a device joins by a `right` to those in `ids`, and all that it may
/// join later.
fn allowed(
    networks: Vec<NetworkRow>,
    ids: &BTreeSet<NetworkId>,
    wanted: &[String],
    right: &'static str,
) -> Result<(Vec<NetworkRow>, BTreeSet<NetworkId>), GrantError> {
    let mut allowed = networks;
    allowed.retain(|network| ids.contains(&network.id));
    // A device is known by its name in the default network.
    allowed.sort_by_key(|network| !network.is_default);
    let later = allowed.iter().map(|network| network.id).collect();
    let networks = match wanted {
        [] => allowed,
        wanted => {
            let of_right = labels(&allowed);
            pick(allowed, wanted).map_err(|label| GrantError::NotOfRight {
                right,
                label,
                allowed: of_right,
            })?
        }
    };
    Ok((networks, later))
}

/// Picks those of `allowed` that are named, each once and in the order of the names. The error is a
/// name that is not allowed.
fn pick(mut allowed: Vec<NetworkRow>, names: &[String]) -> Result<Vec<NetworkRow>, String> {
    if names == [ALL_NETWORKS] {
        return Ok(allowed);
    }
    let mut found: Vec<NetworkRow> = Vec::new();
    for name in names {
        match allowed.iter().position(|network| network.is_called(name)) {
            Some(index) => found.push(allowed.remove(index)),
            None if found.iter().any(|network| network.is_called(name)) => {}
            None => return Err(name.clone()),
        }
    }
    Ok(found)
}

fn labels(networks: &[NetworkRow]) -> Vec<String> {
    let labels = networks.iter().map(|network| network.name.clone());
    labels.collect()
}

#[cfg(test)]
mod tests;
