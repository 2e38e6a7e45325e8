//! `/api/v1/health` and `/api/v1/setup`: a new controller gets its first organisation, account and
//! network.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{Health, ProblemKind, Role, SetupRequest, SetupResponse};

use super::body::{Json, plain_text};
use super::caller::Source;
use super::changed::Changed;
use super::email::valid_email;
use super::problem::Refusal;
use super::{networks, sessions};
use crate::auth::{digest, password};
use crate::clock;
use crate::deployment::Deployment;
use crate::store::people::{self, Home, Place};
use crate::store::{self, accounts, learnt};

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
        cas: {
            let cas = deployment.keys.server().identity.cas();
            cas.iter().map(ToString::to_string).collect()
        },
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
    if let Some(objection) = password::objection(
        &request.password,
        &email,
        [organisation.as_str()].into_iter(),
    ) {
        return Err(Refusal::bad_request(objection));
    }
    let hash = deployment.hasher.hash(&request.password).await?;

    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    if !store::take_setting(&mut tx, SETUP_TOKEN, &token).await? {
        return Err(setup_refused());
    }
    let org = accounts::insert_organisation(&mut tx, &organisation, now).await?;
    let account = accounts::insert_account(&mut tx, &email, &hash, now).await?;
    let role = Role::Owner;
    learnt::set_operator(&mut tx, org).await?;
    people::insert(&mut tx, Place { org, account, role }, now).await?;
    let network = networks::make(&mut tx, org, &request.network, true, now).await?;
    let network = network.id;
    let name = organisation;
    let session = sessions::open(&mut tx, account, &Home { org, name }, email, source).await?;
    deployment.store.commit(tx).await?;
    // From now on a copy of the database file alone must not look like a controller without an
    // owner.
    deployment.store.checkpoint().await?;
    let what = format!("set up the deployment for {}", session.email);
    Ok(Changed::new(what, SetupResponse { network, session }))
}

fn setup_refused() -> Refusal {
    Refusal::new(
        ProblemKind::SetupRefused,
        "setup is refused",
        "the token is not the one that the controller showed at its last start, or setup is \
         already done",
    )
}
