//! Deletes an organisation: its devices first, so that relays refuse them and their streams end,
//! and then the rest. [`super::organisations`] shows and renames one.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{
    OrganisationDelete, OrganisationDeleted, OrganisationSummary, ProblemKind, Role,
};
use overlan_protocol::key::DeviceId;
use tokio::time::timeout;

use super::arrival::Arrival;
use super::body::Json;
use super::caller::{Person, not_authenticated};
use super::changed::Changed;
use super::people::role_now;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::roster;
use crate::store::people::{self, Place};
use crate::store::{StoreError, Tx, changes, devices, learnt, organisations, relays};

/// Deletes the organisation of the person who asks.
///
/// If the controller dies between the two steps, the devices are gone and the organisation is
/// there: asked again, it goes on.
pub(super) async fn delete(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<OrganisationDelete>,
) -> Result<Changed<OrganisationDeleted>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let before = check(&mut tx, &person, &request).await?;
    let relays = relays::list(&mut tx, person.org).await?.len();
    let gone = remove_devices(&mut tx, person.org).await?;
    let arrival = Arrival::expect_everywhere(&deployment, &mut tx, person.org, &gone).await?;
    let version = changes::version(&mut tx).await?;
    deployment.store.commit(tx).await?;
    let applied = arrival.wait().await;
    // Streams learn of the removal from the change log, whose entries go with the organisation.
    let mut head = deployment.changelog.watch();
    let is_read = head.wait_for(|head| *head >= version);
    if timeout(deployment.timings.arrive_within, is_read)
        .await
        .is_err()
    {
        tracing::warn!("the change log is slow; streams hear of a deletion when they come again");
    }

    let mut tx = deployment.store.write().await?;
    check(&mut tx, &person, &request).await?;
    // One may have come meanwhile.
    remove_devices(&mut tx, person.org).await?;
    let accounts = organisations::accounts(&mut tx, person.org).await?;
    organisations::delete(&mut tx, person.org).await?;
    let mut accounts_deleted = 0;
    for account in accounts {
        accounts_deleted += u32::from(people::forget_account(&mut tx, account).await?);
    }
    deployment.store.commit(tx).await?;
    let deleted = OrganisationDeleted {
        name: before.name,
        people: before.people,
        accounts_deleted,
        networks: before.networks,
        devices: u32::try_from(gone.len()).unwrap_or(u32::MAX),
        relays: u32::try_from(relays).unwrap_or(u32::MAX),
        applied,
    };
    let what = format!(
        "deleted organisation {:?} with {} people and {} devices",
        deleted.name, deleted.people, deleted.devices
    );
    Ok(Changed::new(what, deleted))
}

/// Checks that this person may delete the organisation, and means it.
async fn check(
    tx: &mut Tx,
    person: &Person,
    request: &OrganisationDelete,
) -> Result<OrganisationSummary, Refusal> {
    let role = role_now(tx, person).await?;
    if role != Role::Owner {
        return Err(not_authenticated());
    }
    if person.is_program() {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "an organisation is deleted by a person",
            "an API token is not enough; run `overlan login`",
        ));
    }
    let place = Place {
        org: person.org,
        account: person.account,
        role,
    };
    let organisation = people::organisation(tx, place).await?;
    if request.name != organisation.name {
        return Err(Refusal::new(
            ProblemKind::Conflict,
            &format!("the organisation is called {:?}", organisation.name),
            "nothing was deleted; `overlan admin organisation delete NAME --confirm NAME` wants \
             its exact name twice",
        ));
    }
    if learnt::operator(tx).await? == Some(person.org) {
        return Err(Refusal::new(
            ProblemKind::Conflict,
            "the organisation of the operator cannot be deleted",
            "the keys of the deployment are its own; to end the deployment, stop the controller \
             and delete its data directory",
        ));
    }
    let others = organisation.people.saturating_sub(1);
    if others > 0 && !request.with_everybody {
        return Err(Refusal::new(
            ProblemKind::Conflict,
            &format!("{others} other people are in the organisation"),
            format!(
                "they would lose {} networks and {} devices; nothing was deleted. Remove them \
                 first, or give --with-everybody",
                organisation.networks, organisation.devices
            ),
        ));
    }
    Ok(organisation)
}

async fn remove_devices(tx: &mut Tx, org: OrgId) -> Result<BTreeSet<DeviceId>, StoreError> {
    let now = clock::wall();
    let mut gone = BTreeSet::new();
    for device in devices::of_org(tx, org).await? {
        if roster::remove_device(tx, &device, now).await? {
            gone.insert(device.id);
        }
    }
    Ok(gone)
}
