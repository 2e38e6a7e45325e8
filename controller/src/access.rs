//! Decides which role may do what, and which part of that an API token may do. Knows no account
//! and no route.

use overlan_protocol::api::{ParseRightError, Permission, Role};

/// Says whether people of this role have the permission.
pub(crate) fn allows(role: Role, permission: Permission) -> bool {
    match role {
        Role::Owner => true,
        Role::Admin => !OWNERS_ALONE.contains(&permission),
        Role::Auditor => permission.is_read(),
        Role::Member => MEMBERS.contains(&permission),
    }
}

/// Lists the roles that have the permission.
pub(crate) fn holders(permission: Permission) -> Vec<Role> {
    let mut roles = Role::ALL.to_vec();
    roles.retain(|role| allows(*role, permission));
    roles
}

/// The permissions of an API token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes(u64);

impl Scopes {
    /// Reads the scopes for a token that a person of this role makes: none that the person does not
    /// have.
    pub(crate) fn of_maker(role: Role, names: &[String]) -> Result<Self, ScopeError> {
        let mut scopes = Self(0);
        for name in names {
            let scope: Permission = name.parse().map_err(ScopeError::Unknown)?;
            if !allows(role, scope) {
                return Err(ScopeError::NotHeld { role, scope });
            }
            scopes.0 |= bit(scope);
        }
        match scopes.0 {
            0 => Err(ScopeError::None),
            _ => Ok(scopes),
        }
    }

    /// Reads the scopes of a stored token. A permission that this version does not know gives
    /// nothing.
    pub(crate) fn stored(names: &[String]) -> Self {
        let known = names.iter().filter_map(|name| name.parse().ok());
        Self(known.fold(0, |bits, scope| bits | bit(scope)))
    }

    pub(crate) fn contain(self, permission: Permission) -> bool {
        self.0 & bit(permission) != 0
    }

    /// Returns the names, each once.
    pub(crate) fn names(self) -> Vec<String> {
        let mut all = Permission::ALL.to_vec();
        all.retain(|permission| self.contain(*permission));
        all.iter().map(ToString::to_string).collect()
    }
}

fn bit(permission: Permission) -> u64 {
    1 << permission as u32
}

/// The reason why a token cannot have the scopes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScopeError {
    /// A token that may do nothing.
    #[error("an API token needs a scope, such as devices:read")]
    None,
    /// No permission has this name.
    #[error("a scope is not understood: {0}")]
    Unknown(ParseRightError),
    /// The maker must not give more than the maker has.
    #[error("the role {role} does not have {scope}, and cannot give it to a token")]
    NotHeld {
        /// The maker's role.
        role: Role,
        /// The first such scope.
        scope: Permission,
    },
}

/// Permissions that no role but the owner's has. The one that chooses the identity provider can log
/// in as every person of the organisation, its owners among them.
const OWNERS_ALONE: [Permission; 2] = [
    Permission::OrganisationWrite,
    Permission::IdentityProviderWrite,
];

/// Permissions that members have. They see what they can join and whose it is; who else is there
/// their devices learn, as far as a policy lets them.
const MEMBERS: [Permission; 2] = [Permission::NetworksRead, Permission::OrganisationRead];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each role, and the permissions that it has, as a table that a person can check.
    #[test]
    fn roles_have_what_the_table_says() {
        let resources = [
            // resource, owner, admin, auditor, member
            ("networks", "rw", "rw", "r", "r"),
            ("devices", "rw", "rw", "r", ""),
            ("auth-keys", "rw", "rw", "r", ""),
            ("relays", "rw", "rw", "r", ""),
            ("routes", "rw", "rw", "r", ""),
            ("dns", "rw", "rw", "r", ""),
            ("people", "rw", "rw", "r", ""),
            ("invitations", "rw", "rw", "r", ""),
            ("organisation", "rw", "r", "r", "r"),
            ("policy", "rw", "rw", "r", ""),
            ("trust-rules", "rw", "rw", "r", ""),
            ("identity-provider", "rw", "r", "r", ""),
        ];
        assert_eq!(resources.len() * 2, Permission::ALL.len());
        for (resource, owner, admin, auditor, member) in resources {
            for (role, verbs) in Role::ALL.into_iter().zip([owner, admin, auditor, member]) {
                for (verb, letter) in [("read", 'r'), ("write", 'w')] {
                    let permission: Permission = format!("{resource}:{verb}").parse().unwrap();
                    let expected = verbs.contains(letter);
                    assert_eq!(allows(role, permission), expected, "{role} {permission}");
                    assert_eq!(holders(permission).contains(&role), expected);
                }
            }
        }
    }

    #[test]
    fn a_token_has_what_was_asked_for_and_its_maker_has() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for role in Role::ALL {
            for permission in Permission::ALL {
                let made = Scopes::of_maker(role, &names(&[permission.name()]));
                match allows(role, permission) {
                    false => {
                        let scope = permission;
                        assert_eq!(made, Err(ScopeError::NotHeld { role, scope }));
                    }
                    true => {
                        let scopes = made.unwrap();
                        assert_eq!(scopes, Scopes::stored(&scopes.names()));
                        for other in Permission::ALL {
                            assert_eq!(scopes.contain(other), other == permission);
                        }
                    }
                }
            }
        }
        let none = Scopes::of_maker(Role::Owner, &[]);
        assert_eq!(none, Err(ScopeError::None));
        let unknown = Scopes::of_maker(Role::Owner, &names(&["devices:read", "devices"]));
        assert!(
            matches!(unknown, Err(ScopeError::Unknown(_))),
            "{unknown:?}"
        );
        let twice = names(&["dns:read", "devices:read", "dns:read"]);
        let scopes = Scopes::of_maker(Role::Owner, &twice).unwrap();
        assert_eq!(scopes.names(), ["devices:read", "dns:read"]);
        let newer = Scopes::stored(&names(&["dns:read", "moon:write"]));
        assert_eq!(newer.names(), ["dns:read"]);
    }
}
