//! Reads what a network's policy is put together with: its document, its devices and the people of
//! its organisation. Decides nothing.

use overlan_policy::{STARTER, World, WorldDevice, WorldPerson};
use overlan_protocol::UnixTime;
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Owner;

use crate::netmaps::OrgId;
use crate::store::policies::PolicyRow;
use crate::store::{StoreError, Tx, identities, members, policies};

/// The document that counts in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyInForce {
    /// 0 for the document that every network starts with.
    pub(crate) number: u64,
    pub(crate) text: String,
    /// The email of the person who set it; nobody set the first one.
    pub(crate) author: Option<String>,
    pub(crate) at: Option<UnixTime>,
    /// The version of the change log from which it counts.
    pub(crate) version: u64,
}

impl PolicyInForce {
    /// The document that every network starts with.
    pub(crate) fn starter() -> Self {
        Self {
            number: 0,
            text: STARTER.to_owned(),
            author: None,
            at: None,
            version: 0,
        }
    }
}

impl From<PolicyRow> for PolicyInForce {
    fn from(row: PolicyRow) -> Self {
        Self {
            number: row.number,
            text: row.text,
            author: Some(row.author),
            at: Some(row.at),
            version: row.version,
        }
    }
}

/// Returns the document that counts in a network.
pub(crate) async fn in_force(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<PolicyInForce, StoreError> {
    let row = policies::newest(tx, org, network).await?;
    Ok(row.map_or_else(PolicyInForce::starter, PolicyInForce::from))
}

/// Returns the devices of a network, and the people of its organisation.
pub(crate) async fn world_of(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<World, StoreError> {
    let members = members::of_network(tx, org, network).await?.into_iter();
    let devices = members.map(|member| WorldDevice {
        host: member.host,
        label: member.label,
        tags: member.tags.iter().map(ToString::to_string).collect(),
        owner: match member.owner {
            Owner::Person(email) => Some(email.to_lowercase()),
            Owner::AuthKey(_) | Owner::Unknown => None,
        },
        routes: member.routes,
    });
    Ok(World {
        devices: devices.collect(),
        people: people_of(tx, org).await?,
    })
}

/// Returns the people of an organisation, as policy means them.
pub(crate) async fn people_of(tx: &mut Tx, org: OrgId) -> Result<Vec<WorldPerson>, StoreError> {
    let mut groups = identities::groups(tx, org).await?;
    let people = policies::people(tx, org).await?.into_iter();
    let people = people.map(|(account, email, role)| WorldPerson {
        email: email.to_lowercase(),
        role,
        groups: groups.remove(&account).unwrap_or_default(),
    });
    Ok(people.collect())
}
