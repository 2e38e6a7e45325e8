//! The people of an organisation: lists them, gives them roles, ends their logins and removes them.
//! [`crate::people::rank`] decides who may, [`crate::offboarding`] does what a removal means.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    DevicesOfPerson, PersonRemoved, PersonSummary, ProblemKind, RemovePersonRequest, Role,
    RoleRequest, RoleSet, SessionSummary, SessionsEnded,
};

use super::arrival::Arrival;
use super::body::{Empty, Json, readable};
use super::caller::{Person, not_authenticated};
use super::changed::Changed;
use super::problem::Refusal;
use crate::auth::SESSION_IDLE;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::{Fact, OrgId};
use crate::offboarding::{self, Devices};
use crate::people::rank::{self, Move, Target};
use crate::store::people::{self, Colleague, Live, Place};
use crate::store::{LIST_MAX, Tx, changes, sessions};

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<PersonSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let known = people::list(&mut tx, person.org, person.account, live(), LIST_MAX).await?;
    Ok(Json(known))
}

/// Gives a person another role, which holds from the person's next request on.
pub(super) async fn set_role(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
    Json(request): Json<RoleRequest>,
) -> Result<Changed<RoleSet>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let target = known_person(&mut tx, person.org, &readable(id)?).await?;
    check(&mut tx, &person, &target, Move::To(request.role)).await?;
    if target.role == request.role {
        return Ok(Changed::nothing(RoleSet { applied: None }));
    }
    let place = Place {
        org: person.org,
        account: target.account,
        role: request.role,
    };
    people::set_role(&mut tx, place).await?;
    changes::append(&mut tx, person.org, None, &Fact::Policy, clock::wall()).await?;
    let none = BTreeSet::new();
    let arrival = Arrival::expect_everywhere(&deployment, &mut tx, person.org, &none).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "made {} {} instead of {}",
        target.email, request.role, target.role
    );
    let applied = arrival.wait().await;
    Ok(Changed::new(what, RoleSet { applied }))
}

/// Ends a person's place in the organisation, with all that the person could come back by.
pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
    Json(request): Json<RemovePersonRequest>,
) -> Result<Changed<PersonRemoved>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let target = known_person(&mut tx, person.org, &readable(id)?).await?;
    check(&mut tx, &person, &target, Move::Out).await?;
    let devices = match request.devices {
        DevicesOfPerson::Keep => Devices::Keep,
        DevicesOfPerson::Remove => Devices::Remove,
        DevicesOfPerson::HandTo(to) => {
            let heir = known_person(&mut tx, person.org, &to.to_string()).await?;
            if heir.account == target.account {
                return Err(Refusal::bad_request(
                    "the devices cannot be handed to the person who is removed",
                ));
            }
            Devices::HandTo(heir.account)
        }
    };
    let removed = remove_and_wait(&deployment, tx, &person, &target, devices).await?;
    let what = format!(
        "removed {} ({}): {} logins and {} auth keys ended, {} devices removed",
        removed.email,
        target.role,
        removed.logins,
        removed.auth_keys.len(),
        removed.devices_removed.len(),
    );
    Ok(Changed::new(what, removed))
}

/// Ends the caller's own place in the organisation, together with the caller's devices: what stays
/// is for those who manage people to decide, with [`remove`].
pub(super) async fn leave(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<RemovePersonRequest>,
) -> Result<Changed<PersonRemoved>, Refusal> {
    if request.devices != DevicesOfPerson::Remove {
        return Err(Refusal::bad_request(
            "who leaves takes the devices along; an admin keeps them or hands them to somebody: \
             `overlan admin person remove EMAIL --devices hand-to EMAIL`",
        ));
    }
    let mut tx = deployment.store.write().await?;
    let own = known_person(&mut tx, person.org, &person.account.to_string()).await?;
    check(&mut tx, &person, &own, Move::Out).await?;
    let left = remove_and_wait(&deployment, tx, &person, &own, Devices::Remove).await?;
    let what = format!(
        "left the organisation with {} devices",
        left.devices_removed.len()
    );
    Ok(Changed::new(what, left))
}

/// Takes a person out, and waits until devices and relays have heard of it.
async fn remove_and_wait(
    deployment: &Arc<Deployment>,
    mut tx: Tx,
    person: &Person,
    target: &Colleague,
    devices: Devices,
) -> Result<PersonRemoved, Refusal> {
    let org = person.org;
    let gone = offboarding::remove_person(&mut tx, org, target, devices, clock::wall()).await?;
    let arrival = Arrival::expect_everywhere(deployment, &mut tx, org, &gone.devices).await?;
    deployment.store.commit(tx).await?;
    Ok(PersonRemoved {
        applied: arrival.wait().await,
        ..gone.answer
    })
}

/// Lists the live logins of a person to this organisation.
pub(super) async fn list_sessions(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<SessionSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let target = known_person(&mut tx, person.org, &readable(id)?).await?;
    let now = clock::wall();
    let known = sessions::of_account(&mut tx, target.account, Some(person.org), now, SESSION_IDLE);
    let summaries = known
        .await?
        .into_iter()
        .map(|(token, summary)| SessionSummary {
            current: token == person.token,
            ..summary
        });
    Ok(Json(summaries.collect()))
}

/// Ends all logins of a person to this organisation.
pub(super) async fn end_sessions(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<SessionsEnded>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let target = known_person(&mut tx, person.org, &readable(id)?).await?;
    manages(&mut tx, &person, &target).await?;
    let ended = sessions::end_in(&mut tx, person.org, target.account).await?;
    deployment.store.commit(tx).await?;
    let what = format!("ended {ended} logins of {}", target.email);
    Ok(Changed::new(what, SessionsEnded { ended }))
}

/// Ends one login of a person to this organisation.
pub(super) async fn end_session(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    place: Result<Path<(String, String)>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let (id, session) = readable(place)?;
    let mut tx = deployment.store.write().await?;
    let target = known_person(&mut tx, person.org, &id).await?;
    manages(&mut tx, &person, &target).await?;
    if !sessions::end(&mut tx, target.account, Some(person.org), &session).await? {
        return Err(Refusal::new(
            ProblemKind::NotFound,
            "there is no such session",
            "`overlan session list --person EMAIL` shows them",
        ));
    }
    deployment.store.commit(tx).await?;
    let what = format!("ended login {session} of {}", target.email);
    Ok(Changed::new(what, Empty {}))
}

/// Checks that the caller may change `target` like this, by what both are in this transaction.
pub(super) async fn check(
    tx: &mut Tx,
    person: &Person,
    target: &Colleague,
    to: Move,
) -> Result<(), Refusal> {
    let actor = role_now(tx, person).await?;
    let owners = people::owners(tx, person.org).await?;
    let is_self = target.account == person.account;
    let role = target.role;
    Ok(rank::check(actor, Target { role, is_self }, to, owners)?)
}

/// Checks that the caller manages `target`.
pub(super) async fn manages(
    tx: &mut Tx,
    person: &Person,
    target: &Colleague,
) -> Result<(), Refusal> {
    let actor = role_now(tx, person).await?;
    Ok(rank::manages(actor, target.role)?)
}

/// Returns the caller's role in this transaction: it may have changed since the request began.
pub(super) async fn role_now(tx: &mut Tx, person: &Person) -> Result<Role, Refusal> {
    let role = people::role(tx, person.org, person.account).await?;
    role.ok_or_else(not_authenticated)
}

/// Returns the organisation's person with this number.
pub(super) async fn known_person(tx: &mut Tx, org: OrgId, id: &str) -> Result<Colleague, Refusal> {
    let account = id.parse::<u64>().ok().and_then(|id| i64::try_from(id).ok());
    let known = match account {
        Some(account) => people::known(tx, org, account).await?,
        None => None,
    };
    known.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "there is no such person in the organisation",
            "`overlan admin person list` shows them",
        )
    })
}

/// Returns the times by which sessions and keys are live now.
fn live() -> Live {
    Live {
        now: clock::wall(),
        idle: SESSION_IDLE,
    }
}
