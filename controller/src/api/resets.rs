//! Lost passwords: somebody who manages a person makes a one-time token, and who holds it sets a
//! new password. [`crate::people::rank`] decides who manages whom.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    PASSWORD_RESET_LIFE_SECS, PasswordResetRequest, PasswordResetResponse, ProblemKind,
    RESET_PREFIX, SessionsEnded,
};

use super::body::{Empty, Json, readable};
use super::caller::{Person, Source};
use super::changed::Changed;
use super::invitations::one_more_token;
use super::people::{known_person, manages};
use super::problem::Refusal;
use crate::auth::{NamedSecret, password};
use crate::clock;
use crate::deployment::Deployment;
use crate::store::{accounts, invitations, people, sessions};

/// Makes the one-time token for a person of the caller's organisation.
pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
    Json(Empty {}): Json<Empty>,
) -> Result<Changed<PasswordResetResponse>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let target = known_person(&mut tx, person.org, &readable(id)?).await?;
    manages(&mut tx, &person, &target).await?;
    // The password opens all of them, and the others know nothing of this one.
    if people::homes(&mut tx, target.account).await?.len() > 1 {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{} is in other organisations, too", target.email),
            "the operator of the controller sets the password: `overlan controller reset-password`",
        ));
    }
    let (named, token) = NamedSecret::generate(RESET_PREFIX);
    let expires = clock::wall() + Duration::from_secs(PASSWORD_RESET_LIFE_SECS);
    invitations::insert_reset(&mut tx, target.account, &named.id, &named.digest, expires).await?;
    deployment.store.commit(tx).await?;
    let what = format!("made a way to a new password for {}", target.email);
    Ok(Changed::new(what, PasswordResetResponse { token, expires }))
}

/// Sets a new password; all sessions of the account end, and the token is used up.
pub(super) async fn set(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<PasswordResetRequest>,
) -> Result<Changed<SessionsEnded>, Refusal> {
    one_more_token(&deployment, source)?;
    let named = NamedSecret::parse(RESET_PREFIX, &request.token).ok_or_else(not_open)?;
    let mut tx = deployment.store.read().await?;
    let now = clock::wall();
    let account = invitations::reset_of(&mut tx, &named.id, &named.digest, now).await?;
    let account = account.ok_or_else(not_open)?;
    let (email, _) = accounts::email_and_password(&mut tx, account).await?;
    let homes = people::homes(&mut tx, account).await?;
    drop(tx);
    let names = homes.iter().map(|home| home.name.as_str());
    if let Some(objection) = password::objection(&request.new, &email, names) {
        return Err(Refusal::bad_request(objection));
    }
    let hash = deployment.hasher.hash(&request.new).await?;
    let mut tx = deployment.store.write().await?;
    if !invitations::use_reset(&mut tx, &named.id).await? {
        return Err(not_open());
    }
    accounts::set_password(&mut tx, account, &hash).await?;
    let ended = sessions::end_all(&mut tx, account, None).await?;
    deployment.store.commit(tx).await?;
    let what = format!("set a new password for {email} by a token, which ended {ended} logins");
    Ok(Changed::new(what, SessionsEnded { ended }))
}

fn not_open() -> Refusal {
    Refusal::new(
        ProblemKind::KeyUnknown,
        "this way to a new password is not open",
        "it was used, was replaced by a newer one or has expired, or the link is not complete: \
         copy all of it, or ask for another one: `overlan admin person reset-password EMAIL`",
    )
}
