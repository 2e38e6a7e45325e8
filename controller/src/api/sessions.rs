//! Logins of people: opens, lists and ends sessions, and changes passwords.
//! [`crate::auth::throttle`] decides how often somebody may try.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    LoginRequest, LoginResponse, PASSWORD_MAX, PasswordRequest, ProblemKind, SessionSummary,
    SessionsEnded,
};
use overlan_protocol::key::Secret;

use super::body::{Empty, Json, readable};
use super::caller::{Person, ProvenDevice, Source};
use super::changed::Changed;
use super::email::valid_email;
use super::problem::Refusal;
use crate::auth::password::{self, PasswordError};
use crate::auth::throttle::{Attempt, Lane};
use crate::auth::{SESSION_IDLE, SESSION_LIFE, SESSION_PREFIX, digest, new_secret};
use crate::clock;
use crate::deployment::Deployment;
use crate::people::choice;
use crate::store::Tx;
use crate::store::accounts::{self, AccountRow};
use crate::store::devices::Device;
use crate::store::invitations;
use crate::store::people::{self, Home};
use crate::store::sessions::{self, Beginning};

pub(super) async fn login(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    ProvenDevice(device): ProvenDevice,
    Json(request): Json<LoginRequest>,
) -> Result<Changed<LoginResponse>, Refusal> {
    let email = valid_email(&request.email)?;
    let claimant = Claimant {
        email: &email,
        password: &request.password,
        source,
        device,
    };
    let mut tx = deployment.store.read().await?;
    let account = accounts::account_by_email(&mut tx, &email).await?;
    drop(tx);
    let fits = claimant.check(&deployment, account.as_ref()).await?;
    let account = account.filter(|_| fits).ok_or_else(wrong_password)?;

    let mut tx = deployment.store.write().await?;
    let homes = people::homes(&mut tx, account.id).await?;
    let home = choice::of_login(&homes, request.organisation.as_deref())?;
    let session = open(&mut tx, account.id, home, email, source).await?;
    deployment.store.commit(tx).await?;
    let what = format!("{} logged in from {source}", session.email);
    Ok(Changed::new(what, session))
}

/// Somebody who claims to be the person of an account.
#[derive(Debug)]
pub(super) struct Claimant<'a> {
    /// The email of the account, in lower case.
    pub(super) email: &'a str,
    pub(super) password: &'a Secret,
    pub(super) source: IpAddr,
    /// The device that proved its key on the same connection.
    pub(super) device: Option<Device>,
}

impl Claimant<'_> {
    /// Compares the password with that of the account, if the attempt may be made now. Without an
    /// account it does the same work, and the answer is no.
    async fn check(
        &self,
        deployment: &Deployment,
        account: Option<&AccountRow>,
    ) -> Result<bool, Refusal> {
        let own = account.map(|account| account.id);
        let is_known = match own {
            Some(account) => {
                let mut tx = deployment.store.read().await?;
                sessions::is_known(&mut tx, account, self.source).await?
            }
            None => false,
        };
        let source = self.source;
        let lane = match &self.device {
            Some(device) if own.is_some() && device.account == own => Lane::Device(device.id),
            Some(_) | None if source.is_loopback() => Lane::Host(source),
            Some(_) | None if is_known => Lane::Known(source),
            Some(_) | None => Lane::Stranger(source),
        };
        let attempt = Attempt {
            account: self.email,
            exists: account.is_some(),
            lane,
        };
        let stored = account.map(|account| account.password.clone());
        verify(deployment, &attempt, source, self.password, stored).await
    }

    /// Returns the account with this email, or nothing if there is none. Its password must fit.
    pub(super) async fn account(&self, deployment: &Deployment) -> Result<Option<i64>, Refusal> {
        let mut tx = deployment.store.read().await?;
        let account = accounts::account_by_email(&mut tx, self.email).await?;
        drop(tx);
        match account {
            None => Ok(None),
            Some(account) if self.check(deployment, Some(&account)).await? => Ok(Some(account.id)),
            Some(_) => Err(wrong_password()),
        }
    }
}

/// Compares a password, if the attempt may be made now.
async fn verify(
    deployment: &Deployment,
    attempt: &Attempt<'_>,
    source: IpAddr,
    password: &Secret,
    stored: Option<String>,
) -> Result<bool, Refusal> {
    if password.reveal().chars().count() > PASSWORD_MAX {
        return Err(wrong_password());
    }
    let allowed = deployment.throttle.lock().begin(clock::now(), attempt);
    if let Err(wait) = allowed {
        let secs = u32::try_from(wait.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let refusal = Refusal::new(
            ProblemKind::TooMany,
            "too many failed logins",
            format!(
                "try again in {secs} s; failures of others do not count at an address from which \
                 you logged in before, on a device that you enrolled by your login, and on the \
                 controller's own machine"
            ),
        );
        return Err(refusal.retry_after(secs));
    }
    let fits = deployment
        .hasher
        .verify(password, stored, attempt.lane.asker())
        .await;
    match &fits {
        Ok(true) => deployment.throttle.lock().succeed(attempt),
        // The throttle keeps this rare: it limits how often the passwords of one account are
        // compared. A stranger can make up unknown emails without end.
        Ok(false) if attempt.exists => tracing::info!(
            account = attempt.account,
            %source,
            "a login failed: the password is wrong"
        ),
        Ok(false) => tracing::debug!(%source, "a login failed: no account has that email"),
        Err(PasswordError::Busy | PasswordError::Failed(_)) => {
            deployment.throttle.lock().withdraw(attempt);
        }
    }
    Ok(fits?)
}

/// Ends the session of this request.
pub(super) async fn logout(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    sessions::delete(&mut tx, &person.token).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new("logged out", Empty {}))
}

/// Lists the live sessions of the person.
pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<SessionSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let now = clock::wall();
    let known = sessions::of_account(&mut tx, person.account, None, now, SESSION_IDLE).await?;
    let summaries = known.into_iter().map(|(token, summary)| SessionSummary {
        current: token == person.token,
        ..summary
    });
    Ok(Json(summaries.collect()))
}

/// Ends one of the person's sessions.
pub(super) async fn end(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let id = readable(id)?;
    let mut tx = deployment.store.write().await?;
    if !sessions::end(&mut tx, person.account, None, &id).await? {
        return Err(Refusal::new(
            ProblemKind::NotFound,
            "there is no such session",
            "`overlan session list` shows them",
        ));
    }
    deployment.store.commit(tx).await?;
    Ok(Changed::new(format!("ended login {id}"), Empty {}))
}

/// Ends all sessions of the person but that of this request.
pub(super) async fn end_others(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Changed<SessionsEnded>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let ended = sessions::end_all(&mut tx, person.account, Some(&person.token)).await?;
    deployment.store.commit(tx).await?;
    let what = format!("ended {ended} other logins");
    Ok(Changed::new(what, SessionsEnded { ended }))
}

/// Changes the password of a person who proves to know the old one. All other sessions end, a
/// thief's among them.
pub(super) async fn change_password(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    person: Person,
    Json(request): Json<PasswordRequest>,
) -> Result<Changed<SessionsEnded>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let (email, stored) = accounts::email_and_password(&mut tx, person.account).await?;
    let homes = people::homes(&mut tx, person.account).await?;
    drop(tx);
    let names = homes.iter().map(|home| home.name.as_str());
    if let Some(objection) = password::objection(&request.new, &email, names) {
        return Err(Refusal::bad_request(objection));
    }
    if request.new == request.old {
        return Err(Refusal::bad_request(
            "the new password is the same as the old one",
        ));
    }
    let attempt = Attempt {
        account: &email,
        exists: true,
        // Failures of others do not count: neither those from the same address nor those of another
        // session.
        lane: Lane::Session(person.token),
    };
    if !verify(
        &deployment,
        &attempt,
        source,
        &request.old,
        Some(stored.clone()),
    )
    .await?
    {
        return Err(Refusal::new(
            ProblemKind::WrongPassword,
            "the old password is wrong",
            "if you forgot it, set a new one on the controller's machine: `overlan controller \
             reset-password`",
        ));
    }
    let hash = deployment.hasher.hash(&request.new).await?;
    let mut tx = deployment.store.write().await?;
    // If two change it at once, one does.
    if !accounts::change_password(&mut tx, person.account, &stored, &hash).await? {
        return Err(wrong_password());
    }
    invitations::end_reset(&mut tx, person.account).await?;
    let ended = sessions::end_all(&mut tx, person.account, Some(&person.token)).await?;
    deployment.store.commit(tx).await?;
    let what = format!("changed the password, which ended {ended} other logins");
    Ok(Changed::new(what, SessionsEnded { ended }))
}

/// Opens a session of an account in one of its organisations.
pub(super) async fn open(
    tx: &mut Tx,
    account: i64,
    home: &Home,
    email: String,
    source: IpAddr,
) -> Result<LoginResponse, Refusal> {
    let now = clock::wall();
    let session = new_secret(SESSION_PREFIX);
    let expires = now + SESSION_LIFE;
    let begun = Beginning {
        org: home.org,
        account,
        source,
        at: now,
        expires,
    };
    sessions::insert(tx, &digest(session.reveal()), &begun).await?;
    Ok(LoginResponse {
        session,
        expires,
        email,
        organisation: home.name.clone(),
    })
}

fn wrong_password() -> Refusal {
    Refusal::new(
        ProblemKind::WrongPassword,
        "the email or the password is wrong",
        "check both",
    )
}
