//! `/api/v1/relay-tokens`: people make, list and revoke the tokens that register relays.

use std::time::Duration;

use std::sync::Arc;

use axum::extract::{Path, State};
use overlan_protocol::api::{
    ProblemKind, RELAY_TOKEN_LIFE_SECS, RelayTokenRequest, RelayTokenResponse, RelayTokenSummary,
};
use overlan_protocol::name;

use super::body::{Empty, Json};
use super::caller::Person;
use super::changed::Changed;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::auth::{NamedSecret, RELAY_TOKEN_PREFIX};
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol::{self, QuotaError, RelayNameError};
use crate::store::keys::{self, RelayToken};
use crate::store::{LIST_MAX, people, relays};

pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<RelayTokenRequest>,
) -> Result<Changed<RelayTokenResponse>, Refusal> {
    if !name::is_label(&request.name) {
        return Err(Refusal::bad_request(
            "a relay's name must be 1 to 63 lower-case letters, digits and hyphens",
        ));
    }
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let known = relays::list(&mut tx, person.org).await?;
    match enrol::relay_named(&request.name, &known) {
        Ok(_) => {}
        Err(RelayNameError::Online) => return Err(relay_name_taken(&request.name)),
        Err(RelayNameError::Full) => return Err(QuotaError::Relays.into()),
    }
    let (named, text) = NamedSecret::generate(RELAY_TOKEN_PREFIX);
    let token = RelayToken {
        org: person.org,
        name: request.name,
        expires: now + Duration::from_secs(RELAY_TOKEN_LIFE_SECS),
        used: None,
    };
    keys::insert_relay_token(&mut tx, &named.id, &token, &named.digest, now).await?;
    people::note_relay_token(&mut tx, &named.id, person.account).await?;
    deployment.store.commit(tx).await?;
    let what = format!("made relay token {} for {}", named.id, token.name);
    let expires = token.expires;
    Ok(Changed::new(
        what,
        RelayTokenResponse {
            token: text,
            expires,
        },
    ))
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    page: Page,
) -> Result<Paged<RelayTokenSummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let tokens = relays::tokens(&mut tx, person.org, LIST_MAX).await?;
    page.of(tokens, |token| token.id.clone())
}

pub(super) async fn revoke(
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

pub(super) fn relay_name_taken(name: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NameTaken,
        &format!("a relay named {name} is online"),
        "stop it first, or choose another name",
    )
}
