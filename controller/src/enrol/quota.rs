//! Decides how many devices, keys, relays and networks an organisation may have. Counts nothing:
//! the numbers come in.

use crate::store::LIST_MAX;
use crate::store::relays::RelayRow;

/// A quota that is used up. The text says which and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuotaError {
    /// Devices of the organisation that wait for an approval.
    #[error("{WAITING_MAX} devices already wait for approval")]
    Waiting,
    /// Devices of one key that wait for an approval.
    #[error("{WAITING_OF_KEY_MAX} devices of this key already wait for approval")]
    WaitingOfKey,
    /// Devices of the organisation, by the operator's setting.
    #[error("the organisation has {have} devices, and {limit} are its limit")]
    DevicesOfOrg { limit: u32, have: u32 },
    /// Devices of the person, by the operator's setting.
    #[error("this person has {have} devices, and {limit} are the limit of one person")]
    DevicesOfPerson { limit: u32, have: u32 },
    /// Auth keys of the organisation.
    #[error("the organisation has {AUTH_KEYS_MAX} auth keys, which is the most it may have")]
    AuthKeys,
    /// Trust rules of the organisation.
    #[error("the organisation has {TRUST_RULES_MAX} trust rules, which is the most it may have")]
    TrustRules,
    /// Networks of the organisation.
    #[error("the organisation has {ORG_NETWORKS_MAX} networks, which is the most it may have")]
    Networks,
    /// Relays of the organisation.
    #[error("the organisation has {RELAYS_MAX} relays, which is the most it may have")]
    Relays,
}

/// The reason why a relay name cannot be given to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayNameError {
    /// A relay of this name is online.
    Online,
    /// No relay has the name, and the organisation has no room for another one.
    Full,
}

/// The numbers of devices that the operator allows; none is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeviceLimits {
    pub(crate) per_organisation: Option<u32>,
    pub(crate) per_person: Option<u32>,
}

/// Decides whether one more device may be enrolled, beside `of_org` of its organisation and
/// `of_person` of the person who enrols it.
pub(crate) fn one_more_device(
    limits: DeviceLimits,
    of_org: u32,
    of_person: u32,
) -> Result<(), QuotaError> {
    let full = |limit: Option<u32>, have| limit.filter(|limit| have >= *limit);
    if let Some(limit) = full(limits.per_organisation, of_org) {
        return Err(QuotaError::DevicesOfOrg {
            limit,
            have: of_org,
        });
    }
    if let Some(limit) = full(limits.per_person, of_person) {
        return Err(QuotaError::DevicesOfPerson {
            limit,
            have: of_person,
        });
    }
    Ok(())
}

/// Decides whether one more device may wait for approval, beside `of_org` devices of its
/// organisation, `of_key` of which came by its key.
pub(crate) fn one_more_waiting(of_org: u32, of_key: u32) -> Result<(), QuotaError> {
    if of_org >= WAITING_MAX {
        return Err(QuotaError::Waiting);
    }
    if of_key >= WAITING_OF_KEY_MAX {
        return Err(QuotaError::WaitingOfKey);
    }
    Ok(())
}

/// Decides whether an organisation with `known` auth keys may make one more.
pub(crate) fn one_more_auth_key(known: u32) -> Result<(), QuotaError> {
    match known < AUTH_KEYS_MAX {
        true => Ok(()),
        false => Err(QuotaError::AuthKeys),
    }
}

/// Decides whether an organisation with `known` trust rules may make one more.
pub(crate) fn one_more_trust_rule(known: u32) -> Result<(), QuotaError> {
    match known < TRUST_RULES_MAX {
        true => Ok(()),
        false => Err(QuotaError::TrustRules),
    }
}

/// Decides whether an organisation with `known` networks may make one more.
pub(crate) fn one_more_network(known: usize) -> Result<(), QuotaError> {
    match known < ORG_NETWORKS_MAX {
        true => Ok(()),
        false => Err(QuotaError::Networks),
    }
}

/// Decides whether a relay called `name` may register beside the `known` relays of its
/// organisation, in place of an offline one of that name or as a further one. Returns the one that
/// it replaces.
pub(crate) fn relay_named<'a>(
    name: &str,
    known: &'a [RelayRow],
) -> Result<Option<&'a RelayRow>, RelayNameError> {
    match known.iter().find(|relay| relay.name == name) {
        Some(relay) if relay.online => Err(RelayNameError::Online),
        None if known.len() >= RELAYS_MAX => Err(RelayNameError::Full),
        same => Ok(same),
    }
}

/// Devices of an organisation that may wait for approval at once: more than a person looks through,
/// and few enough that one leaked key does not fill the list.
const WAITING_MAX: u32 = 256;

/// Of these, devices that one key enrolled: a leaked key leaves room for the devices of other keys.
const WAITING_OF_KEY_MAX: u32 = 64;

/// Most auth keys of an organisation: as many as one list shows.
const AUTH_KEYS_MAX: u32 = LIST_MAX;

/// Most trust rules of an organisation: all of them are in one list, and a token is judged by each
/// of its issuer.
const TRUST_RULES_MAX: u32 = 200;

/// Most networks of an organisation: all of them are in one list.
const ORG_NETWORKS_MAX: usize = 1_000;

/// Most relays of an organisation: all of them are in every netmap.
const RELAYS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use overlan_protocol::key::{IdentitySecret, RelayId};

    use super::*;
    use crate::netmaps::OrgId;

    fn relay(name: &str, online: bool) -> RelayRow {
        RelayRow {
            id: RelayId::random(),
            org: OrgId(1),
            name: name.to_owned(),
            identity: IdentitySecret::generate().public(),
            addresses: Vec::new(),
            pins: Vec::new(),
            online,
        }
    }

    #[test]
    fn a_relay_replaces_an_offline_one_of_its_name_even_where_there_is_no_room() {
        let mut known: Vec<RelayRow> = (1..RELAYS_MAX)
            .map(|number| relay(&format!("relay{number}"), true))
            .collect();
        assert!(relay_named("new", &known).unwrap().is_none());
        known.push(relay("old", false));
        assert_eq!(
            relay_named("new", &known).unwrap_err(),
            RelayNameError::Full
        );
        let replaced = relay_named("old", &known).unwrap();
        assert_eq!(replaced.unwrap().name, "old");
        let online = relay_named("relay1", &known).unwrap_err();
        assert_eq!(online, RelayNameError::Online);
    }

    #[test]
    fn a_plan_with_three_devices_takes_three_and_says_how_many_there_are() {
        let limits = DeviceLimits {
            per_organisation: Some(3),
            per_person: Some(2),
        };
        assert_eq!(one_more_device(limits, 2, 1), Ok(()));
        let full = one_more_device(limits, 3, 0).unwrap_err();
        let text = "the organisation has 3 devices, and 3 are its limit";
        assert_eq!(full.to_string(), text);
        let own = one_more_device(limits, 2, 2).unwrap_err();
        assert_eq!(own, QuotaError::DevicesOfPerson { limit: 2, have: 2 });
        assert_eq!(
            one_more_device(DeviceLimits::default(), 1_000, 1_000),
            Ok(())
        );
    }

    #[test]
    fn one_key_leaves_room_for_waiting_devices_of_others() {
        assert_eq!(
            one_more_waiting(WAITING_OF_KEY_MAX - 1, WAITING_OF_KEY_MAX - 1),
            Ok(())
        );
        let of_key = one_more_waiting(WAITING_OF_KEY_MAX, WAITING_OF_KEY_MAX);
        assert_eq!(of_key, Err(QuotaError::WaitingOfKey));
        assert_eq!(one_more_waiting(WAITING_OF_KEY_MAX, 0), Ok(()));
        assert_eq!(one_more_waiting(WAITING_MAX, 0), Err(QuotaError::Waiting));
    }
}
