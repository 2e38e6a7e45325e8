//! What people do with relays: remove them, and see and revoke their tokens.

use std::sync::Arc;

use axum::extract::{Path, State};
use overlan_protocol::api::{ProblemKind, RelayTokenSummary};

use super::caller::{Empty, Json, Person};
use super::changed::Changed;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::fleet;
use crate::store::relays;

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
            &format!("no relay is called {name:?}"),
            "`overlan admin relay list` lists them",
        )
    })?;
    fleet::remove_relay(&mut tx, relay, &deployment.reports, clock::unix_secs()).await?;
    deployment.store.commit(tx).await?;
    deployment.heartbeats.lock().remove(relay.id);
    Ok(Changed::new(format!("removed relay {name}"), Empty {}))
}

pub(super) async fn tokens(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<RelayTokenSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    Ok(Json(relays::tokens(&mut tx, person.org, LISTED_MAX).await?))
}

pub(super) async fn revoke_token(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let revoked = relays::revoke_token(&mut tx, person.org, &id).await?;
    let name = revoked.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            &format!("there is no relay token {id:?}"),
            "`overlan admin relay-token list` lists them",
        )
    })?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!("revoked relay token {id}, for {name}"),
        Empty {},
    ))
}

/// Most tokens in a list; those of a day are fewer.
const LISTED_MAX: u32 = 10_000;
