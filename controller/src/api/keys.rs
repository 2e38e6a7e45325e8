//! Auth keys and relay tokens: made, listed and revoked by people.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    AUTH_KEY_LIFE_MAX_SECS, AUTH_KEY_LIFE_SECS, AuthKeyRequest, AuthKeyResponse, AuthKeySummary,
    ProblemKind, RELAY_TOKEN_LIFE_SECS, RelayTokenRequest, RelayTokenResponse,
};
use overlan_protocol::name;
use overlan_protocol::ticket::NETWORKS_MAX;

use super::caller::{Empty, Json, Person, plain_text};
use super::changed::{Changed, and};
use super::networks::unknown_network_among;
use super::people::LIST_MAX;
use super::problem::Refusal;
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret, RELAY_TOKEN_PREFIX};
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::store::accounts::{self, NetworkRow};
use crate::store::keys::{self, AuthKey, RelayToken};
use crate::store::{Tx, relays};

pub(super) async fn make_auth_key(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<AuthKeyRequest>,
) -> Result<Changed<AuthKeyResponse>, Refusal> {
    let life = request.expires_in_secs.unwrap_or(AUTH_KEY_LIFE_SECS);
    if !(1..=AUTH_KEY_LIFE_MAX_SECS).contains(&life) {
        return Err(Refusal::bad_request(format!(
            "a key lives 1 to {AUTH_KEY_LIFE_MAX_SECS} s"
        )));
    }
    let note = plain_text("the note", &request.note, 0, NOTE_MAX)?;
    let now = clock::unix_secs();
    let mut tx = deployment.store.write().await?;
    let networks = networks(&mut tx, person.org, &request.networks).await?;
    if keys::count_auth_keys(&mut tx, person.org).await? >= AUTH_KEYS_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the organisation has too many auth keys",
            format!("it may have {AUTH_KEYS_MAX}; ended ones are forgotten by and by"),
        ));
    }
    let (named, text) = NamedSecret::generate(AUTH_KEY_PREFIX);
    let key = AuthKey {
        id: named.id,
        org: person.org,
        networks: networks.iter().map(|network| network.id).collect(),
        reusable: request.reusable,
        ephemeral: request.ephemeral,
        approval: request.approval,
        on_name_taken: request.on_name_taken,
        expires: now + life,
        last_used: None,
        revoked: None,
        note,
    };
    keys::insert_auth_key(&mut tx, &key, &named.digest, now).await?;
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
            },
        },
    ))
}

pub(super) async fn list_auth_keys(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<AuthKeySummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    Ok(Json(keys::auth_keys(&mut tx, person.org, LIST_MAX).await?))
}

pub(super) async fn revoke_auth_key(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let Path(id) = id.map_err(|_| Refusal::bad_request("the key's id is unreadable"))?;
    let mut tx = deployment.store.write().await?;
    let revoked = keys::revoke_auth_key(&mut tx, person.org, &id, clock::unix_secs()).await?;
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

pub(super) async fn make_relay_token(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<RelayTokenRequest>,
) -> Result<Changed<RelayTokenResponse>, Refusal> {
    if !name::is_label(&request.name) {
        return Err(Refusal::bad_request(
            "a relay's name must be 1 to 63 lower-case letters, digits and hyphens",
        ));
    }
    let now = clock::unix_secs();
    let mut tx = deployment.store.write().await?;
    let known = relays::list(&mut tx, person.org).await?;
    let same = known.iter().find(|relay| relay.name == request.name);
    if same.is_some_and(|relay| relay.online) {
        return Err(relay_name_taken(&request.name));
    }
    if same.is_none() && known.len() >= RELAYS_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the organisation has too many relays",
            format!("it may have {RELAYS_MAX}"),
        ));
    }
    let (named, text) = NamedSecret::generate(RELAY_TOKEN_PREFIX);
    let token = RelayToken {
        org: person.org,
        name: request.name,
        expires: now + RELAY_TOKEN_LIFE_SECS,
        used: None,
    };
    keys::insert_relay_token(&mut tx, &named.id, &token, &named.digest, now).await?;
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

/// A key as people know it.
pub(super) fn noted(id: &str, note: &str) -> String {
    match note {
        "" => id.to_owned(),
        note => format!("{id} ({note})"),
    }
}

pub(super) fn relay_name_taken(name: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NameTaken,
        &format!("a relay named {name} is online"),
        "stop it first, or choose another name",
    )
}

/// The organisation's networks with these labels, by label and each once, or its default one.
async fn networks(tx: &mut Tx, org: OrgId, labels: &[String]) -> Result<Vec<NetworkRow>, Refusal> {
    let mut networks = accounts::networks(tx, org).await?;
    let is_known = |label: &&String| networks.iter().any(|network| network.name == **label);
    if let Some(unknown) = labels.iter().find(|label| !is_known(label)) {
        return Err(unknown_network_among(unknown, &networks));
    }
    networks.retain(|network| match labels {
        [] => network.is_default,
        _ => labels.contains(&network.name),
    });
    if networks.len() > NETWORKS_MAX {
        return Err(Refusal::bad_request(format!(
            "a device can be in {NETWORKS_MAX} networks, so a key names no more"
        )));
    }
    Ok(networks)
}

/// Longest note, characters.
const NOTE_MAX: usize = 200;

/// Most auth keys of an organisation: what one list shows.
const AUTH_KEYS_MAX: u32 = LIST_MAX;

/// Most relays of an organisation: all of them are in every netmap.
pub(super) const RELAYS_MAX: usize = 64;
