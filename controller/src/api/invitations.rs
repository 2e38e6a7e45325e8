//! Invitations: people with rights make, list and revoke them; the invited person looks at one and
//! accepts it. [`crate::people::rank`] decides which role somebody may give.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    INVITATION_LIFE_MAX_SECS, INVITATION_LIFE_SECS, INVITATION_PREFIX, InvitationAcceptRequest,
    InvitationInfo, InvitationLookRequest, InvitationRequest, InvitationResponse, InvitationState,
    InvitationSummary, LoginResponse, ProblemKind,
};
use overlan_protocol::key::Secret;

use super::body::{Empty, Json, readable};
use super::caller::{Person, ProvenDevice, Source};
use super::changed::Changed;
use super::email::valid_email;
use super::people::role_now;
use super::problem::Refusal;
use super::sessions::{self, Claimant};
use crate::auth::{NamedSecret, password};
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::Fact;
use crate::people::rank::may_invite;
use crate::people::room;
use crate::store::invitations::{self, Invitation};
use crate::store::people::{self, Home, Place};
use crate::store::{LIST_MAX, StoreError, Tx, accounts, changes};

pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<InvitationRequest>,
) -> Result<Changed<InvitationResponse>, Refusal> {
    let email = valid_email(&request.email)?;
    let life = request.expires_in_secs.unwrap_or(INVITATION_LIFE_SECS);
    if !(1..=INVITATION_LIFE_MAX_SECS).contains(&life) {
        return Err(Refusal::bad_request(format!(
            "an invitation may live for 1 to {INVITATION_LIFE_MAX_SECS} s"
        )));
    }
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    may_invite(role_now(&mut tx, &person).await?, request.role)?;
    if people::is_there(&mut tx, person.org, &email).await? {
        return Err(Refusal::new(
            ProblemKind::NameTaken,
            &format!("{email} is in the organisation already"),
            "`overlan admin person set-role EMAIL ROLE` gives another role",
        ));
    }
    room::one_more_invitation(invitations::count(&mut tx, person.org).await?)?;
    let (named, token) = NamedSecret::generate(INVITATION_PREFIX);
    let invitation = Invitation {
        id: named.id,
        org: person.org,
        email,
        role: request.role,
        by: Some(person.account),
        expires: now + Duration::from_secs(life),
        accepted: None,
        revoked: None,
    };
    invitations::insert(&mut tx, &invitation, &named.digest, now).await?;
    let by = accounts::email(&mut tx, person.account).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "invited {} as {}, by invitation {}",
        invitation.email, invitation.role, invitation.id
    );
    let summary = summary(invitation, by, now);
    Ok(Changed::new(what, InvitationResponse { token, summary }))
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<InvitationSummary>>, Refusal> {
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let known = invitations::list(&mut tx, person.org, LIST_MAX).await?;
    let known = known.into_iter().map(|(known, by)| summary(known, by, now));
    Ok(Json(known.collect()))
}

pub(super) async fn revoke(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let id = readable(id)?;
    let mut tx = deployment.store.write().await?;
    let revoked = invitations::revoke(&mut tx, person.org, &id, clock::wall()).await?;
    let email = revoked.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "there is no such open invitation",
            "`overlan admin invitation list` shows them; who accepted one is a person of the \
             organisation: `overlan admin person remove EMAIL`",
        )
    })?;
    deployment.store.commit(tx).await?;
    let what = format!("revoked invitation {id} of {email}");
    Ok(Changed::new(what, Empty {}))
}

/// Tells the invited person what the invitation is.
pub(super) async fn look(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<InvitationLookRequest>,
) -> Result<Changed<InvitationInfo>, Refusal> {
    one_more_token(&deployment, source)?;
    let mut tx = deployment.store.read().await?;
    let invitation = open(&mut tx, &request.token, clock::wall()).await?;
    let account = accounts::account_by_email(&mut tx, &invitation.email).await?;
    Ok(Changed::nothing(InvitationInfo {
        organisation: accounts::organisation_name(&mut tx, invitation.org).await?,
        email: invitation.email,
        role: invitation.role,
        account: account.is_some(),
        expires: invitation.expires,
    }))
}

/// Takes the invited person into the organisation, and opens a session there.
pub(super) async fn accept(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    ProvenDevice(device): ProvenDevice,
    Json(request): Json<InvitationAcceptRequest>,
) -> Result<Changed<LoginResponse>, Refusal> {
    one_more_token(&deployment, source)?;
    let mut tx = deployment.store.read().await?;
    let invitation = open(&mut tx, &request.token, clock::wall()).await?;
    let name = accounts::organisation_name(&mut tx, invitation.org).await?;
    drop(tx);
    let claimant = Claimant {
        email: &invitation.email,
        password: &request.password,
        source,
        device,
    };
    let known = claimant.account(&deployment).await?;
    let hash = match known {
        Some(_) => None,
        None => {
            let names = [name.as_str()].into_iter();
            let objection = password::objection(&request.password, &invitation.email, names);
            if let Some(objection) = objection {
                return Err(Refusal::bad_request(objection));
            }
            Some(deployment.hasher.hash(&request.password).await?)
        }
    };
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    // Its end, and the rights of the person who made it, may have come meanwhile.
    let invitation = open(&mut tx, &request.token, now).await?;
    let org = invitation.org;
    room::one_more_person(people::count(&mut tx, org).await?)?;
    let account = match (known, hash) {
        (Some(account), _) => account,
        (None, Some(hash)) => accounts::insert_account(&mut tx, &invitation.email, &hash, now)
            .await
            .map_err(taken_meanwhile)?,
        (None, None) => return Err(Refusal::internal(&"an account without a password")),
    };
    let role = invitation.role;
    let place = Place { org, account, role };
    people::insert(&mut tx, place, now)
        .await
        .map_err(taken_meanwhile)?;
    if !invitations::accept(&mut tx, &invitation.id, now).await? {
        return Err(not_open());
    }
    changes::append(&mut tx, org, None, &Fact::Policy, now).await?;
    let home = Home { org, name };
    let session = sessions::open(&mut tx, account, &home, invitation.email, source).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "{} joined as {role}, by invitation {}",
        session.email, invitation.id
    );
    Ok(Changed::new(what, session))
}

/// Counts a token that a stranger presents: each source has its own allowance of them.
pub(super) fn one_more_token(deployment: &Deployment, source: IpAddr) -> Result<(), Refusal> {
    let counted = deployment.throttle.lock().count_token(clock::now(), source);
    counted.map_err(|wait| Refusal::too_often("too many tokens came from this address", wait))
}

/// Returns the invitation of a token, if it is open and the person who made it may still give its
/// role.
async fn open(tx: &mut Tx, token: &Secret, now: UnixTime) -> Result<Invitation, Refusal> {
    let named = NamedSecret::parse(INVITATION_PREFIX, token).ok_or_else(not_open)?;
    let found = invitations::get(tx, &named.id, &named.digest).await?;
    let invitation = found.ok_or_else(not_open)?;
    if state(&invitation, now) != InvitationState::Open {
        return Err(not_open());
    }
    let by = match invitation.by {
        Some(by) => people::role(tx, invitation.org, by).await?,
        None => None,
    };
    match by.map(|by| may_invite(by, invitation.role)) {
        Some(Ok(())) => Ok(invitation),
        Some(Err(_)) | None => Err(not_open()),
    }
}

fn state(invitation: &Invitation, now: UnixTime) -> InvitationState {
    match (invitation.accepted, invitation.revoked) {
        (Some(_), _) => InvitationState::Accepted,
        (None, Some(_)) => InvitationState::Revoked,
        (None, None) if invitation.expires <= now => InvitationState::Expired,
        (None, None) => InvitationState::Open,
    }
}

fn summary(invitation: Invitation, by: Option<String>, now: UnixTime) -> InvitationSummary {
    InvitationSummary {
        state: state(&invitation, now),
        id: invitation.id,
        email: invitation.email,
        role: invitation.role,
        expires: invitation.expires,
        by,
    }
}

/// Two accepted at once, or the person came in by another invitation.
fn taken_meanwhile(error: StoreError) -> Refusal {
    match error {
        StoreError::Conflict => Refusal::new(
            ProblemKind::NameTaken,
            "the invited person is in the organisation already",
            "`overlan login` opens a session",
        ),
        error @ (StoreError::Busy | StoreError::Failed(_)) => error.into(),
    }
}

fn not_open() -> Refusal {
    Refusal::new(
        ProblemKind::KeyUnknown,
        "the invitation is not open",
        "it was accepted, was revoked or has expired, or the link is not complete: copy all of \
         it, or ask for another one: `overlan admin invitation create EMAIL`",
    )
}
