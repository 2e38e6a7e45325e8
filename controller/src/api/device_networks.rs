//! `/v1/device/networks`: a device sees, joins and leaves networks by itself. [`crate::roster`]
//! does the joining and leaving.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{JoinRequest, MembershipSummary, NetworkChoice, ProblemKind};

use super::body::{Empty, Json, readable};
use super::caller::{ChangingDevice, DeviceCaller, device_removed};
use super::changed::Changed;
use super::members::{not_a_member, put_in};
use super::networks::work_on;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::roster;
use crate::store::members::Membership;
use crate::store::{accounts, devices};

/// Lists the networks that the device is in or may join; it does not learn of others.
pub(super) async fn choices(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
) -> Result<Json<Vec<NetworkChoice>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let mut choices = Vec::new();
    for network in accounts::networks(&mut tx, device.org).await? {
        let joined = device.place(network.id).map(Membership::summary);
        let may_join = roster::may_join(&mut tx, &device, &network).await?;
        if joined.is_some() || may_join {
            choices.push(NetworkChoice {
                network: network.name,
                joined,
                may_join,
            });
        }
    }
    Ok(Json(choices))
}

pub(super) async fn join(
    State(deployment): State<Arc<Deployment>>,
    ChangingDevice(device): ChangingDevice,
    Json(request): Json<JoinRequest>,
) -> Result<Changed<MembershipSummary>, Refusal> {
    let mut tx = deployment.store.write().await?;
    // The proof was checked before this transaction began.
    let mut device = devices::get(&mut tx, device.id)
        .await?
        .ok_or_else(device_removed)?;
    let networks = accounts::networks(&mut tx, device.org).await?;
    let network = networks
        .into_iter()
        .find(|network| network.is_called(&request.network));
    let allowed = match &network {
        Some(network) => roster::may_join(&mut tx, &device, network).await?,
        None => false,
    };
    // A device must not find out whether there is a network that it may not join.
    let Some(network) = network.filter(|_| allowed) else {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("this device may not join {:?} by itself", request.network),
            "an admin can put it there: `overlan admin network add NETWORK DEVICE`",
        ));
    };
    work_on(&network.name);
    let place = put_in(&deployment, &mut tx, &mut device, &network).await?;
    deployment.store.commit(tx).await?;
    let what = format!("joined network {} as {}", place.name, place.label);
    Ok(Changed::new(what, place.summary()))
}

pub(super) async fn leave(
    State(deployment): State<Arc<Deployment>>,
    ChangingDevice(device): ChangingDevice,
    label: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let label = readable(label)?;
    let mut tx = deployment.store.write().await?;
    let mut device = devices::get(&mut tx, device.id)
        .await?
        .ok_or_else(device_removed)?;
    let networks = accounts::networks(&mut tx, device.org).await?;
    let network = networks.iter().find(|network| network.is_called(&label));
    let network = network
        .map(|network| network.id)
        .filter(|network| device.place(*network).is_some())
        .ok_or_else(|| not_a_member(&label))?;
    if device.places.len() == 1 {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "it is the last network of this device",
            "`overlan logout` removes the device as a whole",
        ));
    }
    work_on(&label);
    roster::leave(&mut tx, &mut device, network, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(format!("left network {label}"), Empty {}))
}
