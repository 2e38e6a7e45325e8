//! `/api/v1/networks/{label}/devices`: people put devices into a network and take them out.
//! [`crate::roster`] does the joining and leaving.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{MemberRequest, MembershipSummary, NamePolicy, ProblemKind};
use overlan_protocol::key::DeviceId;

use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::Changed;
use super::devices::known_device;
use super::networks::named_or_default;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::roster;
use crate::store::Tx;
use crate::store::accounts::NetworkRow;
use crate::store::devices::Device;
use crate::store::members::{self, Membership};

/// Puts a device into a network. From then on it may leave and rejoin by itself.
pub(super) async fn add(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Result<Path<String>, PathRejection>,
    Json(request): Json<MemberRequest>,
) -> Result<Changed<MembershipSummary>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    let mut device = known_device(&mut tx, person.org, request.device).await?;
    let place = put_in(&deployment, &mut tx, &mut device, &network).await?;
    members::grant(&mut tx, device.id, network.id).await?;
    deployment.store.commit(tx).await?;
    let what = format!("put device {} into network {}", place.label, place.name);
    Ok(Changed::new(what, place.summary()))
}

/// Takes a device out of a network, with its right to rejoin.
pub(super) async fn take_out(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    place: Result<Path<(String, DeviceId)>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let (label, id) = readable(place)?;
    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(&label)).await?;
    let mut device = known_device(&mut tx, person.org, id).await?;
    let called = device.called();
    members::ungrant(&mut tx, device.id, network.id).await?;
    let was_in = roster::leave(&mut tx, &mut device, network.id, clock::wall()).await?;
    // The right is gone in both cases.
    deployment.store.commit(tx).await?;
    if was_in {
        let what = format!("took device {called} out of network {}", network.name);
        Ok(Changed::new(what, Empty {}))
    } else {
        Err(not_a_member(&network.name))
    }
}

pub(super) async fn put_in(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &mut Device,
    network: &NetworkRow,
) -> Result<Membership, Refusal> {
    let joined = roster::join(
        deployment,
        tx,
        device,
        network,
        NamePolicy::Suffix,
        clock::wall(),
    );
    Ok(joined.await?)
}

pub(super) fn not_a_member(network: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        &format!("the device is not in {network}"),
        "`overlan admin device list` shows the networks of each device",
    )
}
