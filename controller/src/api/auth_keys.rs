//! `/api/v1/auth-keys`: people make, list and revoke the keys that enrol devices.

use std::time::Duration;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    AUTH_KEY_LIFE_MAX_SECS, AUTH_KEY_LIFE_SECS, AuthKeyRequest, AuthKeyResponse, AuthKeySummary,
    EPHEMERAL_MAX_SECS, EPHEMERAL_MIN_SECS, KEY_SOURCES_MAX, ProblemKind,
};
use overlan_protocol::tag::TAGS_MAX;
use overlan_protocol::ticket::NETWORKS_MAX;

use super::body::{Empty, Json, plain_text, readable};
use super::caller::Person;
use super::changed::{Changed, and};
use super::networks::unknown_network_among;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret};
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol::{self, noted};
use crate::netmaps::OrgId;
use crate::store::accounts::{self, NetworkRow};
use crate::store::keys::{self, AuthKey};
use crate::store::{LIST_MAX, Tx, people};

pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<AuthKeyRequest>,
) -> Result<Changed<AuthKeyResponse>, Refusal> {
    let life = request.expires_in_secs.unwrap_or(AUTH_KEY_LIFE_SECS);
    if !(1..=AUTH_KEY_LIFE_MAX_SECS).contains(&life) {
        return Err(Refusal::bad_request(format!(
            "a key may live for 1 to {AUTH_KEY_LIFE_MAX_SECS} s"
        )));
    }
    let note = plain_text("the note", &request.note, 0, NOTE_MAX)?;
    check_limits(&request)?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let networks = networks_named(&mut tx, person.org, &request.networks).await?;
    enrol::one_more_auth_key(keys::count_auth_keys(&mut tx, person.org).await?)?;
    let (named, text) = NamedSecret::generate(AUTH_KEY_PREFIX);
    let key = AuthKey {
        id: named.id,
        org: person.org,
        networks: networks.iter().map(|network| network.id).collect(),
        reusable: request.reusable || request.max_uses.is_some_and(|most| most > 1),
        ephemeral: request.ephemeral || request.ephemeral_secs.is_some(),
        approval: request.approval,
        on_name_taken: request.on_name_taken,
        expires: now + Duration::from_secs(life),
        last_used: None,
        revoked: None,
        note,
        tags: request.tags,
        uses: 0,
        max_uses: request.max_uses,
        sources: request.sources,
        ephemeral_secs: request.ephemeral_secs,
    };
    keys::insert_auth_key(&mut tx, &key, &named.digest, now).await?;
    people::note_auth_key(&mut tx, &key.id, person.account).await?;
    deployment.store.commit(tx).await?;
    let names = networks.iter().map(|network| network.name.clone());
    let what = format!(
        "made auth key {} for {}",
        noted(&key.id, &key.note),
        and(names)
    );
    Ok(Changed::new(
        what,
        AuthKeyResponse {
            key: text,
            summary: AuthKeySummary {
                id: key.id,
                networks: networks.into_iter().map(|network| network.name).collect(),
                reusable: key.reusable,
                ephemeral: key.ephemeral,
                approval: key.approval,
                expires: key.expires,
                uses: 0,
                revoked: false,
                note: key.note,
                tags: key.tags,
                max_uses: key.max_uses,
                sources: key.sources,
                ephemeral_secs: key.ephemeral_secs,
            },
        },
    ))
}

fn check_limits(request: &AuthKeyRequest) -> Result<(), Refusal> {
    if request.tags.len() > TAGS_MAX {
        return Err(Refusal::bad_request(format!(
            "a device can have {TAGS_MAX} tags, so a key cannot give more"
        )));
    }
    if request.max_uses == Some(0) {
        return Err(Refusal::bad_request("a key may be used once at least"));
    }
    if request.sources.len() > KEY_SOURCES_MAX {
        return Err(Refusal::bad_request(format!(
            "a key may be for {KEY_SOURCES_MAX} ranges of addresses at most"
        )));
    }
    let lives = EPHEMERAL_MIN_SECS..=EPHEMERAL_MAX_SECS;
    if request
        .ephemeral_secs
        .is_some_and(|secs| !lives.contains(&secs))
    {
        return Err(Refusal::bad_request(format!(
            "an ephemeral device may be offline for {EPHEMERAL_MIN_SECS} to {EPHEMERAL_MAX_SECS} s"
        )));
    }
    Ok(())
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    page: Page,
) -> Result<Paged<AuthKeySummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let keys = keys::auth_keys(&mut tx, person.org, LIST_MAX).await?;
    page.of(keys, |key| key.id.clone())
}

pub(super) async fn revoke(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let id = readable(id)?;
    let mut tx = deployment.store.write().await?;
    let revoked = keys::revoke_auth_key(&mut tx, person.org, &id, clock::wall()).await?;
    let note = revoked.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "there is no such auth key",
            "`overlan admin auth-key list` shows the keys",
        )
    })?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!("revoked auth key {}", noted(&id, &note)),
        Empty {},
    ))
}

/// Returns the organisation's networks with these labels, by label and each once, or its default
/// one.
pub(super) async fn networks_named(
    tx: &mut Tx,
    org: OrgId,
    labels: &[String],
) -> Result<Vec<NetworkRow>, Refusal> {
    let mut networks = accounts::networks(tx, org).await?;
    let is_known = |label: &&String| networks.iter().any(|network| network.is_called(label));
    if let Some(unknown) = labels.iter().find(|label| !is_known(label)) {
        let known: Vec<String> = networks.iter().map(|it| it.name.clone()).collect();
        return Err(unknown_network_among(unknown, &known));
    }
    networks.retain(|network| match labels {
        [] => network.is_default,
        _ => labels.iter().any(|label| network.is_called(label)),
    });
    if networks.len() > NETWORKS_MAX {
        return Err(Refusal::bad_request(format!(
            "a device can be in {NETWORKS_MAX} networks, so a key or rule cannot name more"
        )));
    }
    Ok(networks)
}

/// Longest note, characters.
const NOTE_MAX: usize = 200;
