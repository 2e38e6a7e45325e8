//! Sign-up: a stranger makes an organisation with an account and a first network, where the
//! operator of the controller lets strangers do that.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{ProblemKind, Role, SetupResponse, SignUpRequest};

use super::body::Json;
use super::caller::{ProvenDevice, Source};
use super::changed::Changed;
use super::email::valid_email;
use super::organisations::organisation_name;
use super::problem::Refusal;
use super::sessions::Claimant;
use super::{networks, sessions};
use crate::auth::password;
use crate::clock;
use crate::deployment::Deployment;
use crate::people::room;
use crate::store::people::{self, Home, Place};
use crate::store::{StoreError, accounts};

pub(super) async fn sign_up(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    ProvenDevice(device): ProvenDevice,
    Json(request): Json<SignUpRequest>,
) -> Result<Changed<SetupResponse>, Refusal> {
    if !deployment.sign_up {
        return Err(closed());
    }
    let email = valid_email(&request.email)?;
    let name = organisation_name(&request.organisation)?;
    networks::check_name(&request.network)?;
    let mut tx = deployment.store.read().await?;
    // Until then the first organisation, which is the operator's own, is not there.
    if !accounts::is_set_up(&mut tx).await? {
        return Err(closed());
    }
    room::one_more_organisation(people::count_organisations(&mut tx).await?)?;
    drop(tx);
    let counted = deployment
        .throttle
        .lock()
        .count_sign_up(clock::now(), source);
    counted.map_err(|wait| Refusal::too_often("too many sign-ups came from this address", wait))?;
    let claimant = Claimant {
        email: &email,
        password: &request.password,
        source,
        device,
    };
    let known = claimant.account(&deployment).await?;
    let hash = match known {
        Some(_) => None,
        None => {
            let objection =
                password::objection(&request.password, &email, [name.as_str()].into_iter());
            if let Some(objection) = objection {
                return Err(Refusal::bad_request(objection));
            }
            Some(deployment.hasher.hash(&request.password).await?)
        }
    };
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let account = match (known, hash) {
        (Some(account), _) => account,
        (None, Some(hash)) => accounts::insert_account(&mut tx, &email, &hash, now)
            .await
            .map_err(taken_meanwhile)?,
        (None, None) => return Err(Refusal::internal(&"an account without a password")),
    };
    if let Some(account) = known {
        room::one_more_home(people::homes(&mut tx, account).await?.len())?;
    }
    let org = accounts::insert_organisation(&mut tx, &name, now).await?;
    let role = Role::Owner;
    people::insert(&mut tx, Place { org, account, role }, now).await?;
    let network = networks::make(&mut tx, org, &request.network, true, now).await?;
    let network = network.id;
    let home = Home { org, name };
    let session = sessions::open(&mut tx, account, &home, email, source).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "{} signed up with organisation {:?}",
        session.email, home.name
    );
    Ok(Changed::new(what, SetupResponse { network, session }))
}

fn closed() -> Refusal {
    Refusal::new(
        ProblemKind::Forbidden,
        "this controller takes no sign-ups",
        "an admin of an organisation invites people: `overlan admin invitation create EMAIL`; the \
         operator opens it to strangers: `overlan controller serve --sign-up`",
    )
}

/// Two signed up with one email at once.
fn taken_meanwhile(error: StoreError) -> Refusal {
    match error {
        StoreError::Conflict => Refusal::new(
            ProblemKind::NameTaken,
            "an account with this email was made just now",
            "try again with its password",
        ),
        error @ (StoreError::Busy | StoreError::Failed(_)) => error.into(),
    }
}
