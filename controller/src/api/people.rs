//! What people ask with the setup token or a session: setup and lists.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{
    DeviceSummary, Health, ProblemKind, RelaySummary, SetupRequest, SetupResponse,
};
use overlan_protocol::key::RelayId;
use overlan_protocol::netmap::Owner;

use super::caller::{Json, Person, Source, plain_text};
use super::changed::Changed;
use super::problem::Refusal;
use super::{networks, sessions};
use crate::auth::{digest, password};
use crate::clock;
use crate::deployment::Deployment;
use crate::store::accounts::Account;
use crate::store::{self, accounts, devices, relays, waiting};

/// Setting that holds the SHA-256 of the setup token until setup is done.
pub(crate) const SETUP_TOKEN: &str = "setup-token";

pub(super) async fn health(
    State(deployment): State<Arc<Deployment>>,
) -> Result<Json<Health>, Refusal> {
    let mut tx = deployment.store.read().await?;
    Ok(Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        set_up: accounts::is_set_up(&mut tx).await?,
    }))
}

pub(super) async fn setup(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<SetupRequest>,
) -> Result<Changed<SetupResponse>, Refusal> {
    let token = digest(request.setup_token.reveal().trim());
    let mut tx = deployment.store.read().await?;
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
    let hash = deployment.hasher.hash(&request.password).await?;

    let now = clock::unix_secs();
    let mut tx = deployment.store.write().await?;
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
    deployment.store.commit(tx).await?;
    // From here on a copy of the database file alone must not look like a controller that nobody owns.
    deployment.store.checkpoint().await?;
    let what = format!("set up the deployment for {}", session.email);
    Ok(Changed::new(what, SetupResponse { network, session }))
}

pub(super) async fn devices(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<DeviceSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
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
        owner_note: device.key_note,
        networks: device.places.iter().map(networks::summary).collect(),
        label: device.hostname,
        online: device.online,
        ephemeral: device.ephemeral,
        relay: device.relays.first().and_then(relay_name),
    });
    Ok(Json(summaries.collect()))
}

pub(super) async fn relays(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<RelaySummary>>, Refusal> {
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
    Ok(Json(summaries.collect()))
}

/// An email in lower case. That it works shows only when mail is sent.
pub(super) fn valid_email(text: &str) -> Result<String, Refusal> {
    let email = text.trim().to_lowercase();
    match email_objection(&email) {
        None => Ok(email),
        Some(objection) => {
            let shown: String = email.chars().take(EMAIL_MAX).collect();
            Err(Refusal::bad_request(format!(
                "{shown:?} is not an email address: {objection}; it has the form you@example.com"
            )))
        }
    }
}

/// What is wrong with an email address.
fn email_objection(email: &str) -> Option<&'static str> {
    if email.chars().count() > EMAIL_MAX {
        return Some("it is longer than 254 characters");
    }
    if email.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("a space is in it");
    }
    match email.split_once('@') {
        None => Some("it has no @"),
        Some(("", _)) => Some("nothing stands before its @"),
        Some((_, "")) => Some("nothing stands after its @"),
        Some((_, host)) if host.contains('@') => Some("it has more than one @"),
        Some(_) => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_that_is_refused_is_told_what_is_wrong_with_it() {
        for (email, objection) in [
            ("", "it has no @"),
            ("nobody", "it has no @"),
            ("@example.com", "nothing stands before its @"),
            ("you@", "nothing stands after its @"),
            ("you@a@b", "it has more than one @"),
            ("you @example.com", "a space is in it"),
            ("you@exam\nple.com", "a space is in it"),
        ] {
            assert_eq!(email_objection(email), Some(objection), "{email:?}");
        }
        let long = format!("{}@example.com", "a".repeat(EMAIL_MAX));
        assert!(email_objection(&long).is_some());
        assert_eq!(valid_email(" You@Example.com ").unwrap(), "you@example.com");
    }
}
