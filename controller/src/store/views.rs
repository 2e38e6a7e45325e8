//! Networks and relays as devices see them, at the version of one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use overlan_protocol::key::RelayId;
use overlan_protocol::netmap::Relay;

use super::members::{self, Membership};
use super::{StoreError, Tx, dns, relays};
use crate::netmaps::{OrgId, View};
use crate::policy::Sight;

/// Returns the network of `place` as this transaction sees it, with its policy.
pub(crate) async fn network(
    tx: &mut Tx,
    org: OrgId,
    place: &Membership,
    sight: Arc<Sight>,
) -> Result<View, StoreError> {
    Ok(View {
        network: place.network,
        name: place.name.clone(),
        vni: place.vni,
        members: members::of_network(tx, org, place.network).await?,
        dns: dns::settings(tx, org, place.network).await?,
        sight,
    })
}

/// Returns the organisation's relays as devices see them.
pub(crate) async fn relays(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<RelayId, Relay>, StoreError> {
    let relays = relays::list(tx, org).await?.into_iter();
    Ok(relays.map(|relay| (relay.id, relay.public())).collect())
}
