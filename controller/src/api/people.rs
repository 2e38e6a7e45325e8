//! What people ask with the setup token or a session: setup and lists.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{
    DeviceSummary, Health, ProblemKind, RelaySummary, SetupRequest, SetupResponse,
};
use overlan_protocol::key::RelayId;
use overlan_protocol::netmap::Owner;

use super::caller::{Json, Person, Source, plain_text};
use super::problem::Refusal;
use super::{networks, sessions};
use crate::auth::{digest, password};
use crate::clock;
use crate::shared::{Shared, lock};
use crate::store::accounts::Account;
use crate::store::{self, accounts, devices, relays, waiting};

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
    Source(source): Source,
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
    let account = Account {
        id: account,
        org,
        password: hash,
    };
    let session = sessions::open(&mut tx, &account, email, source).await?;
    shared.store.commit(tx).await?;
    // From here on a copy of the database file alone must not look like a controller that nobody owns.
    shared.store.checkpoint().await?;
    tracing::info!("setup is done");
    Ok(Json(SetupResponse { network, session }))
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

/// An email in lower case. That it works shows only when mail is sent.
pub(super) fn valid_email(text: &str) -> Result<String, Refusal> {
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

/// Most rows in one list: some 3 MB of JSON.
pub(super) const LIST_MAX: u32 = 10_000;

/// Longest email, characters (RFC 5321).
const EMAIL_MAX: usize = 254;
