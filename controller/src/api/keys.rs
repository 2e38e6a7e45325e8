//! `/api/v1/keys`: the keys of the whole deployment, which belong to its operator. Decides who may
//! see and rotate them; [`crate::keys`] does it.
//!
//! The operators are the owners of the organisation that the setup made, by a secret from the
//! controller's own log. Owners of other organisations are guests of the deployment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    CA_GRACE_MAX_SECS, CA_GRACE_MIN_SECS, CA_GRACE_SECS, DeploymentKey, DeploymentKeySummary,
    PreviousKey, ProblemKind, RotateRequest,
};

use super::body::Json;
use super::caller::Person;
use super::changed::Changed;
use super::problem::Refusal;
use crate::ca::RotateCaError;
use crate::clock;
use crate::deployment::Deployment;
use crate::fleet;
use crate::keys::KeysError;
use crate::store::{Tx, learnt};
use crate::tickets::RotateError;

/// Lists the keys; guests have none.
pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<DeploymentKeySummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    if learnt::operator(&mut tx).await? != Some(person.org) {
        return Ok(Json(Vec::new()));
    }
    let keys = [DeploymentKey::Ticket, DeploymentKey::Ca];
    let mut listed = Vec::new();
    for key in keys {
        listed.push(summary(&deployment, &mut tx, key, clock::wall()).await?);
    }
    Ok(Json(listed))
}

/// Replaces a key. Devices and relays that are there hear of it within seconds, the others when
/// they come.
pub(super) async fn rotate(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<RotateRequest>,
) -> Result<Changed<DeploymentKeySummary>, Refusal> {
    let now = clock::wall();
    let ends = end(&request, now)?;
    let mut tx = deployment.store.read().await?;
    check_operator(&mut tx, &person).await?;
    drop(tx);
    if person.is_program() {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "keys of the deployment are rotated by a person",
            "an API token is not enough; run `overlan login`",
        ));
    }
    let (key, rotating) = (request.key, deployment.clone());
    let rotated = tokio::task::spawn_blocking(move || match key {
        DeploymentKey::Ticket => rotating.keys.rotate_ticket(now),
        DeploymentKey::Ca => rotating.keys.rotate_ca(now, ends),
    });
    let rotated = rotated.await.map_err(|error| Refusal::internal(&error))?;
    rotated.map_err(|error| refused(error, now))?;
    let mut tx = deployment.store.write().await?;
    fleet::announce_keys(&mut tx, &deployment.keys.signer(), now).await?;
    fleet::announce_ca(&mut tx, deployment.keys.server().identity.ca).await?;
    let summary = summary(&deployment, &mut tx, key, now).await?;
    deployment.store.commit(tx).await?;
    deployment.keys.announce();
    let what = match key {
        DeploymentKey::Ticket => format!("rotated the ticket key: it is {} now", summary.id),
        DeploymentKey::Ca => format!("rotated the CA: it is {} now", summary.id),
    };
    Ok(Changed::new(what, summary))
}

/// Returns the end of the CA before.
fn end(request: &RotateRequest, now: UnixTime) -> Result<UnixTime, Refusal> {
    if request.key == DeploymentKey::Ticket && request.grace_secs.is_some() {
        return Err(Refusal::bad_request(
            "the ticket key before counts for as long as its tickets live, so there is no other \
             grace",
        ));
    }
    let grace = request.grace_secs.unwrap_or(CA_GRACE_SECS);
    if !(CA_GRACE_MIN_SECS..=CA_GRACE_MAX_SECS).contains(&grace) {
        return Err(Refusal::bad_request(
            "the grace is 1 to 365 days: devices that are away meanwhile do not learn the new CA",
        ));
    }
    Ok(now + Duration::from_secs(grace))
}

/// Checks that the person is of the operator's organisation.
async fn check_operator(tx: &mut Tx, person: &Person) -> Result<(), Refusal> {
    if learnt::operator(tx).await? == Some(person.org) {
        return Ok(());
    }
    Err(Refusal::new(
        ProblemKind::Forbidden,
        "the keys of the deployment belong to its operator",
        "an owner of the organisation that the setup made can rotate them",
    ))
}

fn refused(error: KeysError, now: UnixTime) -> Refusal {
    let days = |ends: UnixTime| ends.since(now).as_secs().div_ceil(24 * 3_600);
    match error {
        KeysError::Ca(RotateCaError::TooSoon { ends }) => Refusal::new(
            ProblemKind::Conflict,
            "two CAs count already",
            format!(
                "the one before the last rotation ends in {} d, and a third would lock out those \
                 who know only that one; `overlan admin key list` shows how many they are. Rotate \
                 again after that",
                days(ends)
            ),
        ),
        KeysError::Ticket(error @ RotateError::TooSoon { .. }) => Refusal::new(
            ProblemKind::Conflict,
            "two ticket keys count already",
            format!("{error}: tickets of the one before live until then"),
        ),
        error @ (KeysError::File(_)
        | KeysError::Tls(_)
        | KeysError::Ticket(RotateError::File(_))
        | KeysError::Ca(RotateCaError::File(_))) => Refusal::internal(&error),
    }
}

async fn summary(
    deployment: &Deployment,
    tx: &mut Tx,
    key: DeploymentKey,
    now: UnixTime,
) -> Result<DeploymentKeySummary, Refusal> {
    if key == DeploymentKey::Ticket {
        let signer = deployment.keys.signer();
        let previous = signer.previous(now).map(|(id, ends)| PreviousKey {
            id: id.0.clone(),
            ends,
            devices_without: 0,
            devices_of: 0,
            relays_without: 0,
            relays_of: 0,
        });
        return Ok(DeploymentKeySummary {
            key,
            id: signer.newest().0.clone(),
            made: signer.made(),
            previous,
        });
    }
    let server = deployment.keys.server();
    let without = learnt::without(tx, server.identity.ca).await?;
    let previous = server.identity.previous.filter(|(_, ends)| now < *ends);
    Ok(DeploymentKeySummary {
        key,
        id: server.identity.ca.to_string(),
        made: server.identity.made,
        previous: previous.map(|(ca, ends)| PreviousKey {
            id: ca.to_string(),
            ends,
            devices_without: without.devices,
            devices_of: without.devices_of,
            relays_without: without.relays,
            relays_of: without.relays_of,
        }),
    })
}
