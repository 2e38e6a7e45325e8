//! `/api/v1/devices`: people list devices, approve waiting ones and remove them for good. Requests
//! of an enrolled device itself are in `device`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{DeviceSummary, MembershipSummary, NamePolicy, ProblemKind};
use overlan_protocol::key::{DeviceId, RelayId};
use overlan_protocol::netmap::Owner;

use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::{Changed, and};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::roster;
use crate::store::devices::{self, Device};
use crate::store::members::{self, Membership};
use crate::store::{LIST_MAX, Tx, accounts, keys, relays, waiting};

pub(super) async fn list(
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
        networks: device.places.iter().map(Membership::summary).collect(),
        label: device.hostname,
        online: device.online,
        ephemeral: device.ephemeral,
        relay: device.relays.first().and_then(relay_name),
    });
    Ok(Json(summaries.collect()))
}

/// Approves a waiting device: it joins the networks that it asked for, and may leave and rejoin
/// them by itself from then on.
pub(super) async fn approve(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<DeviceId>, PathRejection>,
    Json(Empty {}): Json<Empty>,
) -> Result<Changed<Vec<MembershipSummary>>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let mut device = known_device(&mut tx, person.org, readable(id)?).await?;
    let waiting = waiting::of_device(&mut tx, device.id).await?;
    if waiting.is_empty() {
        return Err(Refusal::new(
            ProblemKind::NotFound,
            &format!("{} does not wait for approval", device.hostname),
            "`overlan admin device list` shows which devices do",
        ));
    }
    // The key decided at enrolment whose name gives way.
    let policy = match &device.auth_key {
        Some(key) => keys::name_policy(&mut tx, key).await?.unwrap_or_default(),
        None => NamePolicy::default(),
    };
    let mut places = Vec::new();
    let networks = accounts::networks(&mut tx, person.org).await?;
    for awaited in waiting {
        members::grant(&mut tx, device.id, awaited.network).await?;
        let network = networks.iter().find(|known| known.id == awaited.network);
        if let Some(network) = network.filter(|_| awaited.joins) {
            let now = clock::wall();
            let joined = roster::join(&deployment, &mut tx, &mut device, network, policy, now);
            places.push(joined.await?.summary());
        }
    }
    waiting::end(&mut tx, device.id, None).await?;
    deployment.store.commit(tx).await?;
    let names = places
        .iter()
        .map(|place| format!("{}.{}", place.label, place.network));
    let what = format!("approved device {} as {}", device.hostname, and(names));
    Ok(Changed::new(what, places))
}

/// Removes a device for good.
pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<DeviceId>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let device = known_device(&mut tx, person.org, readable(id)?).await?;
    roster::remove_device(&mut tx, &device, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!("removed device {}", device.called()),
        Empty {},
    ))
}

pub(super) async fn known_device(tx: &mut Tx, org: OrgId, id: DeviceId) -> Result<Device, Refusal> {
    let device = devices::get(tx, id).await?;
    device.filter(|device| device.org == org).ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "there is no such device",
            "`overlan admin device list` lists them",
        )
    })
}
