//! Decides who may give and take roles and places in an organisation, and keeps it from losing its
//! last owner. Holds nobody: roles and the number of owners come in.

use overlan_protocol::api::Role;

/// A change of a person's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// The person gets another role.
    To(Role),
    /// The person is not in the organisation any more.
    Out,
}

/// The person who is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) role: Role,
    /// The person who asks and the person who is changed are the same.
    pub(crate) is_self: bool,
}

/// The reason why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RankError {
    /// The organisation would be without an owner.
    #[error("an organisation needs an owner, and this is its last one")]
    LastOwner,
    /// Only owners make owners and unmake them.
    #[error("only an owner gives or takes the role of an owner")]
    OwnersOnly,
    /// Only owners manage owners.
    #[error("only an owner ends logins of an owner or gives an owner a new password")]
    NotOwners,
    /// The role manages nobody.
    #[error("the role {0} manages nobody")]
    NotAllowed(Role),
}

/// Decides whether somebody with the role `actor` may change `target` like this, in an organisation
/// that has `owners` owners now.
pub(crate) fn check(actor: Role, target: Target, to: Move, owners: u32) -> Result<(), RankError> {
    let leaves = target.is_self && to == Move::Out;
    match actor {
        Role::Owner => {}
        Role::Admin if target.role == Role::Owner || to == Move::To(Role::Owner) => {
            return Err(RankError::OwnersOnly);
        }
        Role::Admin => {}
        Role::Auditor | Role::Member if leaves => {}
        Role::Auditor | Role::Member => return Err(RankError::NotAllowed(actor)),
    }
    let stays_owner = to == Move::To(Role::Owner);
    match target.role {
        Role::Owner if owners <= 1 && !stays_owner => Err(RankError::LastOwner),
        Role::Owner | Role::Admin | Role::Auditor | Role::Member => Ok(()),
    }
}

/// Decides whether somebody with the role `actor` may end logins of somebody with the role `other`
/// and give that person a new password.
pub(crate) fn manages(actor: Role, other: Role) -> Result<(), RankError> {
    match (actor, other) {
        (Role::Owner, _) | (Role::Admin, Role::Admin | Role::Auditor | Role::Member) => Ok(()),
        (Role::Admin, Role::Owner) => Err(RankError::NotOwners),
        (Role::Auditor | Role::Member, _) => Err(RankError::NotAllowed(actor)),
    }
}

/// Decides whether somebody with the role `actor` may bring in a person with the role `given`.
pub(crate) fn may_invite(actor: Role, given: Role) -> Result<(), RankError> {
    let newcomer = Target {
        role: Role::Member,
        is_self: false,
    };
    check(actor, newcomer, Move::To(given), 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn role() -> impl Strategy<Value = Role> {
        prop::sample::select(&Role::ALL[..])
    }

    fn change() -> impl Strategy<Value = Move> {
        prop_oneof![role().prop_map(Move::To), Just(Move::Out)]
    }

    proptest! {
        /// After any requests in any order there is an owner, nobody but an owner made one, and
        /// roles that manage nobody changed nobody else.
        #[test]
        fn an_organisation_always_has_an_owner(
            roles in prop::collection::vec(role(), 0..5),
            steps in prop::collection::vec((0usize..6, 0usize..6, change()), 0..60),
        ) {
            let mut people: BTreeMap<usize, Role> = (1..).zip(roles).collect();
            people.insert(0, Role::Owner);
            for (actor, target, to) in steps {
                let (Some(&by), Some(&role)) = (people.get(&actor), people.get(&target)) else {
                    continue;
                };
                let owners = people.values().filter(|role| **role == Role::Owner).count();
                let is_self = actor == target;
                let owners = u32::try_from(owners).unwrap();
                let decided = check(by, Target { role, is_self }, to, owners);
                if decided.is_err() {
                    continue;
                }
                let leaves = is_self && to == Move::Out;
                prop_assert!(matches!(by, Role::Owner | Role::Admin) || leaves);
                let concerns_owners = role == Role::Owner || to == Move::To(Role::Owner);
                prop_assert!(by == Role::Owner || !concerns_owners);
                match to {
                    Move::To(role) => people.insert(target, role),
                    Move::Out => people.remove(&target),
                };
                prop_assert!(people.values().any(|role| *role == Role::Owner), "{people:?}");
            }
        }
    }

    #[test]
    fn the_last_owner_may_stay_and_may_make_a_second_one() {
        let own = Target {
            role: Role::Owner,
            is_self: true,
        };
        for to in [Move::Out, Move::To(Role::Admin), Move::To(Role::Member)] {
            assert_eq!(check(Role::Owner, own, to, 1), Err(RankError::LastOwner));
            assert_eq!(check(Role::Owner, own, to, 2), Ok(()));
        }
        assert_eq!(check(Role::Owner, own, Move::To(Role::Owner), 1), Ok(()));
    }

    #[test]
    fn admins_manage_all_but_owners_and_everybody_else_may_only_leave() {
        assert_eq!(may_invite(Role::Admin, Role::Admin), Ok(()));
        assert_eq!(
            may_invite(Role::Admin, Role::Owner),
            Err(RankError::OwnersOnly)
        );
        assert_eq!(may_invite(Role::Owner, Role::Owner), Ok(()));
        let auditor = may_invite(Role::Auditor, Role::Member);
        assert_eq!(auditor, Err(RankError::NotAllowed(Role::Auditor)));
        let own = Target {
            role: Role::Member,
            is_self: true,
        };
        assert_eq!(check(Role::Member, own, Move::Out, 1), Ok(()));
        let risen = check(Role::Member, own, Move::To(Role::Admin), 1);
        assert_eq!(risen, Err(RankError::NotAllowed(Role::Member)));
    }
}
