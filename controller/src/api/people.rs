//! What people ask with email and password or a session: setup, login, lists.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{
    DeviceSummary, Health, LoginRequest, LoginResponse, ProblemKind, RelaySummary, SetupRequest,
    SetupResponse,
};
use overlan_protocol::key::RelayId;
use overlan_protocol::netmap::Owner;

use super::caller::{Empty, Json, Person, plain_text};
use super::networks;
use super::problem::Refusal;
use crate::auth::{SESSION_LIFE_SECS, SESSION_PREFIX, digest, new_secret, password};
use crate::clock;
use crate::registry::OrgId;
use crate::shared::{Shared, lock};
use crate::store::{self, Tx, accounts, devices, relays, waiting};

/// Setting that holds the SHA-256 of the setup token until setup is done.
pub(crate) const SETUP_TOKEN: &str = "setup-token";

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Result<Json<Health>, Refusal> {
    let mut tx = shared.store.read().await?;
    Ok(Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        set_up: accounts::is_set_up(&mut tx).await?,
    }))
}

pub(super) async fn setup(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<SetupRequest>,
) -> Result<Json<SetupResponse>, Refusal> {
    let token = digest(request.setup_token.reveal().trim());
    let mut tx = shared.store.read().await?;
    let known = store::setting(&mut tx, SETUP_TOKEN).await?;
    drop(tx);
    if known.is_none_or(|known| known != token) {
        return Err(setup_refused());
    }
    let email = valid_email(&request.email)?;
    let organisation = plain_text("the organisation's name", &request.organisation, 1, 100)?;
    networks::check_name(&request.network)?;
    if let Some(objection) = password::objection(&request.password, &email, &organisation) {
        return Err(Refusal::bad_request(objection));
    }
    let hash = shared.hasher.hash(&request.password).await?;

    let now = clock::unix_secs();
    let mut tx = shared.store.write().await?;
    if !store::take_setting(&mut tx, SETUP_TOKEN, &token).await? {
        return Err(setup_refused());
    }
    let org = accounts::insert_organisation(&mut tx, &organisation, now).await?;
    let account = accounts::insert_account(&mut tx, org, &email, &hash, now).await?;
    let network = networks::make(&mut tx, org, &request.network, true, now).await?;
    let network = network.id;
    let session = open_session(&mut tx, org, account, email, now).await?;
    shared.store.commit(tx).await?;
    // From here on a copy of the database file alone must not look like a controller that nobody owns.
    shared.store.checkpoint().await?;
    tracing::info!("setup is done");
    Ok(Json(SetupResponse { network, session }))
}

pub(super) async fn login(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginResponse>, Refusal> {
    let email = valid_email(&request.email)?;
    if request.password.reveal().chars().count() > overlan_protocol::api::PASSWORD_MAX {
        return Err(wrong_password());
    }
    let allowed = lock(&shared.throttle).begin(clock::now(), &email);
    if let Err(wait) = allowed {
        let secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX) + 1;
        let refusal = Refusal::new(
            ProblemKind::TooMany,
            "too many failed logins",
            format!("try again in {secs} s"),
        );
        return Err(refusal.retry_after(secs));
    }
    let mut tx = shared.store.read().await?;
    let account = accounts::account_by_email(&mut tx, &email).await?;
    drop(tx);
    let stored = account.as_ref().map(|account| account.password.clone());
    let fits = shared.hasher.verify(&request.password, stored).await?;
    let account = account.filter(|_| fits).ok_or_else(wrong_password)?;
    lock(&shared.throttle).succeed(&email);

    let mut tx = shared.store.write().await?;
    let now = clock::unix_secs();
    let session = open_session(&mut tx, account.org, account.id, email, now).await?;
    shared.store.commit(tx).await?;
    Ok(Json(session))
}

pub(super) async fn logout(
    State(shared): State<Arc<Shared>>,
    person: Person,
) -> Result<Json<Empty>, Refusal> {
    let mut tx = shared.store.write().await?;
    accounts::delete_session(&mut tx, &person.token).await?;
    shared.store.commit(tx).await?;
    Ok(Json(Empty {}))
}

pub(super) async fn devices(
    State(shared): State<Arc<Shared>>,
    person: Person,
) -> Result<Json<Vec<DeviceSummary>>, Refusal> {
    let mut tx = shared.store.read().await?;
    let relays = relays::list(&mut tx, person.org).await?;
    let relay_name = |id: &RelayId| {
        let relay = relays.iter().find(|relay| relay.id == *id);
        relay.map(|relay| relay.name.clone())
    };
    let devices = devices::list(&mut tx, person.org, LIST_MAX).await?;
    let mut waiting = waiting::of_org(&mut tx, person.org).await?;
    let summaries = devices.into_iter().map(|(device, email)| DeviceSummary {
        id: device.id,
        waiting: waiting.remove(&device.id).unwrap_or_default(),
        owner: match (email, device.auth_key) {
            (Some(email), _) => Owner::Person(email),
            (None, Some(key)) => Owner::AuthKey(key),
            (None, None) => Owner::Unknown,
        },
        networks: device.places.iter().map(networks::summary).collect(),
        label: device.hostname,
        online: device.online,
        ephemeral: device.ephemeral,
        relay: device.relays.first().and_then(relay_name),
    });
    Ok(Json(summaries.collect()))
}

pub(super) async fn relays(
    State(shared): State<Arc<Shared>>,
    person: Person,
) -> Result<Json<Vec<RelaySummary>>, Refusal> {
    let mut tx = shared.store.read().await?;
    let relays = relays::list(&mut tx, person.org).await?;
    let beats = lock(&shared.heartbeats);
    let summaries = relays.into_iter().map(|relay| RelaySummary {
        clients: beats.clients(relay.id),
        id: relay.id,
        name: relay.name,
        addresses: relay.addresses,
        online: relay.online,
    });
    Ok(Json(summaries.collect()))
}

async fn open_session(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
    email: String,
    now: u64,
) -> Result<LoginResponse, Refusal> {
    let session = new_secret(SESSION_PREFIX);
    let expires = now + SESSION_LIFE_SECS;
    accounts::insert_session(tx, &digest(session.reveal()), org, account, now, expires).await?;
    Ok(LoginResponse {
        session,
        expires,
        email,
        organisation: accounts::organisation_name(tx, org).await?,
    })
}

/// An email in lower case. That it works shows only when mail is sent.
fn valid_email(text: &str) -> Result<String, Refusal> {
    let email = plain_text("the email", text, 3, EMAIL_MAX)?.to_lowercase();
    let parts = email.split_once('@');
    let plausible = parts.is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !host.contains('@') && !email.contains(' ')
    });
    if plausible {
        Ok(email)
    } else {
        Err(Refusal::bad_request("this is not an email address"))
    }
}

fn setup_refused() -> Refusal {
    Refusal::new(
        ProblemKind::SetupRefused,
        "setup is refused",
        "the token is not the one that the controller showed at its last start, or setup was done before",
    )
}

fn wrong_password() -> Refusal {
    Refusal::new(
        ProblemKind::WrongPassword,
        "email and password do not fit",
        "check both",
    )
}

/// Most rows in one list: some 3 MB of JSON.
pub(super) const LIST_MAX: u32 = 10_000;

/// Longest email, characters (RFC 5321).
const EMAIL_MAX: usize = 254;
