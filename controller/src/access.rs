//! Decides which role may do what. Knows no account, no token and no route.

use overlan_protocol::api::{Permission, Role};

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

/// Permissions that no role but the owner's has.
const OWNERS_ALONE: [Permission; 1] = [Permission::OrganisationWrite];

/// Permissions that members have. They see what they can join; who else is there their devices
/// learn, as far as a policy lets them.
const MEMBERS: [Permission; 1] = [Permission::NetworksRead];

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
            ("organisation", "rw", "r", "r", ""),
            ("policy", "rw", "rw", "r", ""),
            ("trust-rules", "rw", "rw", "r", ""),
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
}
