//! The organisation of the person who asks: shows and renames it.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{ORGANISATION_NAME_MAX, OrganisationRequest, OrganisationSummary};

use super::body::{Json, plain_text};
use super::caller::Person;
use super::changed::Changed;
use super::problem::Refusal;
use crate::deployment::Deployment;
use crate::store::people::{self, Place};

pub(super) async fn show(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<OrganisationSummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let organisation = people::organisation(&mut tx, place(&person)).await?;
    Ok(Json(organisation))
}

/// Renames the organisation. Nothing depends on the name but people.
pub(super) async fn rename(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<OrganisationRequest>,
) -> Result<Changed<OrganisationSummary>, Refusal> {
    let name = organisation_name(&request.name)?;
    let mut tx = deployment.store.write().await?;
    let before = people::organisation(&mut tx, place(&person)).await?;
    people::rename(&mut tx, person.org, &name).await?;
    let organisation = people::organisation(&mut tx, place(&person)).await?;
    deployment.store.commit(tx).await?;
    let what = format!("renamed organisation {:?} to {name:?}", before.name);
    Ok(Changed::new(what, organisation))
}

/// Checks the name of an organisation.
pub(super) fn organisation_name(text: &str) -> Result<String, Refusal> {
    let what = "the organisation's name";
    plain_text(what, text, 1, ORGANISATION_NAME_MAX)
}

fn place(person: &Person) -> Place {
    Place {
        org: person.org,
        account: person.account,
        role: person.role,
    }
}
