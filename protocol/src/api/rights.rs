//! Roles of people and the permissions that routes ask for, as words. The controller decides which
//! role has which permission.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role of a person in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Does everything.
    Owner,
    /// Does everything but change the organisation itself and its owners.
    Admin,
    /// Reads everything and changes nothing.
    Auditor,
    /// Uses the networks.
    Member,
}

impl Role {
    /// Every one there is.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Auditor, Self::Member];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Member => "member",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ParseRightError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|role| role.name() == text)
            .ok_or_else(|| ParseRightError::new("role", Self::ALL.map(Self::name)))
    }
}

/// The right to do one kind of thing with one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is the resource and the verb that its name says"
)]
pub enum Permission {
    NetworksRead,
    NetworksWrite,
    DevicesRead,
    DevicesWrite,
    AuthKeysRead,
    AuthKeysWrite,
    RelaysRead,
    RelaysWrite,
    RoutesRead,
    RoutesWrite,
    DnsRead,
    DnsWrite,
    PeopleRead,
    PeopleWrite,
    InvitationsRead,
    InvitationsWrite,
    OrganisationRead,
    OrganisationWrite,
    PolicyRead,
    PolicyWrite,
    TrustRulesRead,
    TrustRulesWrite,
    IdentityProviderRead,
    IdentityProviderWrite,
}

impl Permission {
    /// Every one there is.
    pub const ALL: [Self; 24] = [
        Self::NetworksRead,
        Self::NetworksWrite,
        Self::DevicesRead,
        Self::DevicesWrite,
        Self::AuthKeysRead,
        Self::AuthKeysWrite,
        Self::RelaysRead,
        Self::RelaysWrite,
        Self::RoutesRead,
        Self::RoutesWrite,
        Self::DnsRead,
        Self::DnsWrite,
        Self::PeopleRead,
        Self::PeopleWrite,
        Self::InvitationsRead,
        Self::InvitationsWrite,
        Self::OrganisationRead,
        Self::OrganisationWrite,
        Self::PolicyRead,
        Self::PolicyWrite,
        Self::TrustRulesRead,
        Self::TrustRulesWrite,
        Self::IdentityProviderRead,
        Self::IdentityProviderWrite,
    ];

    /// Returns its name: the resource, a colon and the verb.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworksRead => "networks:read",
            Self::NetworksWrite => "networks:write",
            Self::DevicesRead => "devices:read",
            Self::DevicesWrite => "devices:write",
            Self::AuthKeysRead => "auth-keys:read",
            Self::AuthKeysWrite => "auth-keys:write",
            Self::RelaysRead => "relays:read",
            Self::RelaysWrite => "relays:write",
            Self::RoutesRead => "routes:read",
            Self::RoutesWrite => "routes:write",
            Self::DnsRead => "dns:read",
            Self::DnsWrite => "dns:write",
            Self::PeopleRead => "people:read",
            Self::PeopleWrite => "people:write",
            Self::InvitationsRead => "invitations:read",
            Self::InvitationsWrite => "invitations:write",
            Self::OrganisationRead => "organisation:read",
            Self::OrganisationWrite => "organisation:write",
            Self::PolicyRead => "policy:read",
            Self::PolicyWrite => "policy:write",
            Self::TrustRulesRead => "trust-rules:read",
            Self::TrustRulesWrite => "trust-rules:write",
            Self::IdentityProviderRead => "identity-provider:read",
            Self::IdentityProviderWrite => "identity-provider:write",
        }
    }

    /// Says whether it changes nothing.
    pub fn is_read(self) -> bool {
        self.name().ends_with(":read")
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Permission {
    type Err = ParseRightError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|permission| permission.name() == text)
            .ok_or_else(|| ParseRightError::new("permission", Self::ALL.map(Self::name)))
    }
}

/// A text that names no role or no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a {what}; choose from {known}")]
pub struct ParseRightError {
    what: &'static str,
    known: String,
}

impl ParseRightError {
    fn new<const N: usize>(what: &'static str, known: [&str; N]) -> Self {
        let known = known.join(", ");
        Self { what, known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_another_is_told_the_choice() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(json, format!("{:?}", role.name()));
        }
        for (index, permission) in Permission::ALL.into_iter().enumerate() {
            assert_eq!(permission.to_string().parse(), Ok(permission));
            assert_eq!(
                permission as usize, index,
                "{permission} stands in its place"
            );
            let verb = permission.name().split_once(':').unwrap().1;
            assert_eq!(permission.is_read(), verb == "read");
            assert!(permission.is_read() || verb == "write");
        }
        let error = "root".parse::<Role>().unwrap_err().to_string();
        assert!(error.contains("owner, admin, auditor, member"), "{error}");
        assert!("devices".parse::<Permission>().is_err());
    }
}
