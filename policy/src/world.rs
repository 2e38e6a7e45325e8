//! The devices and people that a document is put together with. Holds what the controller's store
//! knows of one network; decides who may set a tag.

use overlan_protocol::HostIndex;
use overlan_protocol::api::Role;
use overlan_protocol::gateway::GatewayRoute;

use crate::document::{Document, Party};

/// Everybody and everything that a network's policy can mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The devices of the network, in any order, each host index once.
    pub devices: Vec<WorldDevice>,
    /// The people of the organisation, in any order, each email once.
    pub people: Vec<WorldPerson>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldDevice {
    /// Its host index.
    pub host: HostIndex,
    /// Its label.
    pub label: String,
    /// Its tags, without `tag:`. A device with a tag acts by its tags alone.
    pub tags: Vec<String>,
    /// The email of the person who enrolled it, in lower case.
    pub owner: Option<String>,
    /// Its approved routes, by which it is a gateway.
    pub routes: Vec<GatewayRoute>,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldPerson {
    /// The email, in lower case.
    pub email: String,
    /// The role in the organisation.
    pub role: Role,
    /// Groups of the identity provider, as it names them.
    pub groups: Vec<String>,
}

impl Document {
    /// Returns whether this person may set that tag: owners and admins may set every one, others
    /// those whose entry in `[tags]` names them.
    #[must_use]
    pub fn may_set_tag(&self, person: &WorldPerson, tag: &str) -> bool {
        let rules = matches!(person.role, Role::Owner | Role::Admin);
        rules
            || self
                .tags
                .get(tag)
                .is_some_and(|owners| owners.iter().any(|owner| self.means(owner, person)))
    }

    /// Returns whether a word means this person.
    fn means(&self, party: &Party, person: &WorldPerson) -> bool {
        let mut open = vec![party];
        let mut seen: Vec<&str> = Vec::new();
        while let Some(party) = open.pop() {
            let is_meant = match party {
                Party::Person(email) => *email == person.email,
                Party::Role(role) => *role == person.role,
                Party::Directory(name) => person.groups.contains(name),
                Party::Group(name) => {
                    if !seen.contains(&name.as_str()) {
                        seen.push(name);
                        open.extend(self.groups.get(name).into_iter().flatten());
                    }
                    false
                }
                Party::Members => true,
                Party::Any
                | Party::Own
                | Party::Tag(_)
                | Party::Tagged
                | Party::Device(_)
                | Party::Host(_)
                | Party::Hosts => false,
            };
            if is_meant {
                return true;
            }
        }
        false
    }
}
