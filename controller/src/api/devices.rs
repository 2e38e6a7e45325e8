//! `/api/v1/devices`: people list devices, approve waiting ones and remove them for good. Other
//! changes of a device are in `device_changes`, requests of an enrolled device itself in `device`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use overlan_protocol::api::{
    DeviceQuery, DeviceSummary, MembershipSummary, NamePolicy, ProblemKind, Removed,
};
use overlan_protocol::key::DeviceId;
use overlan_protocol::netmap::Owner;

use super::arrival::{Arrival, Whom};
use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::{Changed, and};
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::device_list;
use crate::netmaps::OrgId;
use crate::roster;
use crate::store::devices::{self, Device};
use crate::store::members::{self, Membership};
use crate::store::relays::RelayRow;
use crate::store::{LIST_MAX, Tx, accounts, keys, relays, waiting};

/// Lists the devices that the query asks for.
pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    query: Result<Query<DeviceQuery>, QueryRejection>,
    uri: Uri,
) -> Result<Paged<DeviceSummary>, Refusal> {
    let Query(query) = query.map_err(|_| {
        Refusal::bad_request(
            "the query may have network, tag, owner, online, offline_for, version, relay, \
             sort, limit and after",
        )
    })?;
    let page = Page::among(&uri, query.limit, query.after.clone())?;
    let mut tx = deployment.store.read().await?;
    let relays = relays::list(&mut tx, person.org).await?;
    let devices = devices::list(&mut tx, person.org, LIST_MAX).await?;
    let mut waiting = waiting::of_org(&mut tx, person.org).await?;
    drop(tx);
    let summaries = devices.into_iter().map(|(device, email)| {
        let owner = match (email, device.auth_key.clone()) {
            (Some(email), _) => Owner::Person(email),
            (None, Some(key)) => Owner::AuthKey(key),
            (None, None) => Owner::Unknown,
        };
        let waiting = waiting.remove(&device.id).unwrap_or_default();
        summary(&deployment, device, owner, waiting, &relays)
    });
    let picked = device_list::pick(summaries.collect(), &query, clock::wall());
    page.of(picked, |device| device.id.to_string())
}

pub(super) async fn show(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<DeviceId>, PathRejection>,
) -> Result<Json<DeviceSummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let device = known_device(&mut tx, person.org, readable(id)?).await?;
    Ok(Json(describe(&deployment, &mut tx, device).await?))
}

/// Describes one device as the list does.
pub(super) async fn describe(
    deployment: &Deployment,
    tx: &mut Tx,
    device: Device,
) -> Result<DeviceSummary, Refusal> {
    let owner = devices::owner(tx, &device).await?;
    let mut waiting = waiting::of_org(tx, device.org).await?;
    let relays = relays::list(tx, device.org).await?;
    let waiting = waiting.remove(&device.id).unwrap_or_default();
    Ok(summary(deployment, device, owner, waiting, &relays))
}

fn summary(
    deployment: &Deployment,
    device: Device,
    owner: Owner,
    waiting: Vec<String>,
    relays: &[RelayRow],
) -> DeviceSummary {
    let home = device.relays.first();
    let round_trips = deployment.reports.lock().round_trips(device.id);
    let was_there = !device.version.is_empty();
    DeviceSummary {
        id: device.id,
        waiting,
        owner,
        networks: device.places.iter().map(Membership::summary).collect(),
        relay: home.and_then(|home| {
            let home = relays.iter().find(|relay| relay.id == *home);
            home.map(|home| home.name.clone())
        }),
        round_trip_ms: home.and_then(|home| round_trips.get(home).copied()),
        last_seen: (was_there && !device.online).then_some(device.offline_since),
        owner_note: device.key_note,
        label: device.hostname,
        online: device.online,
        ephemeral: device.ephemeral,
        tags: device.tags,
        barred: device.barred,
        expires: device.expires,
        created: device.created,
        version: device.version,
        applied: None,
    }
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

/// Removes a device for good, and waits until peers and relays have heard of it.
pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<DeviceId>, PathRejection>,
) -> Result<Changed<Removed>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let device = known_device(&mut tx, person.org, readable(id)?).await?;
    roster::remove_device(&mut tx, &device, clock::wall()).await?;
    let networks = device.places.iter().map(|place| place.network).collect();
    let whom = Whom::Without(&networks, &BTreeSet::from([device.id]));
    let arrival = Arrival::expect(&deployment, &mut tx, person.org, whom).await?;
    deployment.store.commit(tx).await?;
    let removed = Removed {
        applied: arrival.wait().await,
    };
    let what = format!("removed device {}", device.called());
    Ok(Changed::new(what, removed))
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
