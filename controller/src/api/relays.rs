//! `/api/v1/relays`: people list and remove relays. Requests of a relay itself are in `relay`.

use std::sync::Arc;

use axum::extract::{Path, State};
use overlan_protocol::api::{ProblemKind, RelaySummary};

use super::body::Empty;
use super::caller::Person;
use super::changed::Changed;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::fleet;
use crate::store::relays;

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    page: Page,
) -> Result<Paged<RelaySummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let relays = relays::list(&mut tx, person.org).await?;
    let beats = deployment.heartbeats.lock();
    let summaries = relays.into_iter().map(|relay| RelaySummary {
        clients: beats.clients(relay.id),
        id: relay.id,
        name: relay.name,
        addresses: relay.addresses,
        online: relay.online,
    });
    page.of(summaries.collect(), |relay| relay.id.to_string())
}

pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Path(name): Path<String>,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let known = relays::list(&mut tx, person.org).await?;
    let relay = known.iter().find(|relay| relay.name == name);
    let relay = relay.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            &format!("there is no relay {name:?}"),
            "`overlan admin relay list` lists them",
        )
    })?;
    fleet::remove_relay(&mut tx, relay, &deployment.reports, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    deployment.heartbeats.lock().remove(relay.id);
    Ok(Changed::new(format!("removed relay {name}"), Empty {}))
}
