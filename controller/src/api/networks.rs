//! Networks and who is in them: what people manage, and what a device may do by itself. What joining and leaving do is
//! [`crate::roster`]'s.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use overlan_protocol::api::{
    ALL_NETWORKS, JoinRequest, MemberRequest, MembershipSummary, NamePolicy, NetworkChoice,
    NetworkRequest, NetworkSummary, ProblemKind,
};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, NetworkId, random_bytes};
use overlan_protocol::{address, name};

use super::caller::{ChangingDevice, DeviceCaller, Empty, Json, Person, device_removed};
use super::changed::{Changed, and};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::roster::{self, JoinError};
use crate::store::accounts::{self, NetworkRow};
use crate::store::devices::{self, Device};
use crate::store::members::{self, Membership};
use crate::store::{StoreError, Tx, keys, waiting};

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<NetworkSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let networks = accounts::networks(&mut tx, person.org).await?;
    Ok(Json(networks.into_iter().map(network_summary).collect()))
}

pub(super) async fn create(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<NetworkRequest>,
) -> Result<Changed<NetworkSummary>, Refusal> {
    check_name(&request.name)?;
    let mut tx = deployment.store.write().await?;
    let known = accounts::networks(&mut tx, person.org).await?;
    if known.iter().any(|network| network.name == request.name) {
        return Err(Refusal::new(
            ProblemKind::NameTaken,
            &format!("there is a network {}", request.name),
            "choose another name",
        ));
    }
    if known.len() >= ORG_NETWORKS_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the organisation has too many networks",
            format!("it may have {ORG_NETWORKS_MAX}"),
        ));
    }
    let now = clock::unix_secs();
    let made = make(&mut tx, person.org, &request.name, false, now).await?;
    deployment.store.commit(tx).await?;
    let what = format!("made network {}", made.name);
    Ok(Changed::new(what, network_summary(made)))
}

/// Removes a network; one with members only with `?force`.
pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Changed<Empty>, Refusal> {
    let force = match uri.query() {
        None => false,
        Some("force") => true,
        Some(_) => return Err(Refusal::bad_request("the query may only be force")),
    };
    let mut tx = deployment.store.write().await?;
    let network = named(&mut tx, person.org, &readable(label)?).await?;
    if network.is_default {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the default network stays",
            "devices join it that name none",
        ));
    }
    if network.devices > 0 && !force {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{} devices are in {}", network.devices, network.name),
            "take them out first, or say --force",
        ));
    }
    roster::delete_network(&mut tx, person.org, network.id, clock::unix_secs()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!(
            "removed network {}, {} devices left it",
            network.name, network.devices
        ),
        Empty {},
    ))
}

/// Puts a device in. From then on it may leave and come back by itself.
pub(super) async fn add_device(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Result<Path<String>, PathRejection>,
    Json(request): Json<MemberRequest>,
) -> Result<Changed<MembershipSummary>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let network = named(&mut tx, person.org, &readable(label)?).await?;
    let mut device = known_device(&mut tx, person.org, request.device).await?;
    let place = put_in(&deployment, &mut tx, &mut device, &network).await?;
    members::grant(&mut tx, device.id, network.id).await?;
    deployment.store.commit(tx).await?;
    let what = format!("put device {} into network {}", place.label, place.name);
    Ok(Changed::new(what, summary(&place)))
}

/// Takes a device out, with its right to come back.
pub(super) async fn take_out(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    place: Result<Path<(String, DeviceId)>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let (label, id) = readable(place)?;
    let mut tx = deployment.store.write().await?;
    let network = named(&mut tx, person.org, &label).await?;
    let mut device = known_device(&mut tx, person.org, id).await?;
    let called = device.called();
    members::ungrant(&mut tx, device.id, network.id).await?;
    let was_in = roster::leave(&mut tx, &mut device, network.id, clock::unix_secs()).await?;
    // The right is gone either way.
    deployment.store.commit(tx).await?;
    if was_in {
        let what = format!("took device {called} out of network {}", network.name);
        Ok(Changed::new(what, Empty {}))
    } else {
        Err(not_a_member(&network.name))
    }
}

/// Lets a device in that waits for it: it joins what it asked for, and may come and go by itself from then on.
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
            &format!("{} does not wait for an approval", device.hostname),
            "`overlan admin device list` shows which devices do",
        ));
    }
    // The key decided at the enrolment whose name gives way.
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
            let now = clock::unix_secs();
            let joined = roster::join(&deployment, &mut tx, &mut device, network, policy, now);
            places.push(summary(&joined.await.map_err(join_refusal)?));
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
pub(super) async fn remove_device(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<DeviceId>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let device = known_device(&mut tx, person.org, readable(id)?).await?;
    roster::remove_device(&mut tx, &device, clock::unix_secs()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!("removed device {}", device.called()),
        Empty {},
    ))
}

/// The networks that the device is in or may join; of others it does not hear.
pub(super) async fn choices(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
) -> Result<Json<Vec<NetworkChoice>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let mut choices = Vec::new();
    for network in accounts::networks(&mut tx, device.org).await? {
        let joined = device.place(network.id).map(summary);
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
        .find(|network| network.name == request.network);
    let allowed = match &network {
        Some(network) => roster::may_join(&mut tx, &device, network).await?,
        None => false,
    };
    // Whether there is a network that it may not join is nothing that a device may ask.
    let Some(network) = network.filter(|_| allowed) else {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("this device may not join {:?} by itself", request.network),
            "who manages the deployment puts it there: `overlan admin network add NETWORK DEVICE`",
        ));
    };
    let place = put_in(&deployment, &mut tx, &mut device, &network).await?;
    deployment.store.commit(tx).await?;
    let what = format!("joined network {} as {}", place.name, place.label);
    Ok(Changed::new(what, summary(&place)))
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
    let place = device.places.iter().find(|place| place.name == label);
    let network = place
        .map(|place| place.network)
        .ok_or_else(|| not_a_member(&label))?;
    if device.places.len() == 1 {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "it is the last network of this device",
            "`overlan logout` removes the device as a whole",
        ));
    }
    roster::leave(&mut tx, &mut device, network, clock::unix_secs()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(format!("left network {label}"), Empty {}))
}

/// Makes a network under a number that nobody has.
pub(super) async fn make(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    is_default: bool,
    now: u64,
) -> Result<NetworkRow, Refusal> {
    for _ in 0..VNI_TRIES {
        let span = Vni::LAST - Vni::FIRST + 1;
        let number = Vni::FIRST + u32::from_be_bytes(random_bytes()) % span;
        let network = NetworkRow {
            id: NetworkId::random(),
            name: name.to_owned(),
            vni: Vni::new(number).ok_or_else(|| Refusal::internal(&"a VNI out of range"))?,
            is_default,
            devices: 0,
            online: 0,
        };
        match accounts::insert_network(tx, org, &network, now).await {
            Ok(()) => return Ok(network),
            // Somebody has this number already.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::internal(&"no free VNI was found"))
}

/// A network's name is a label, and means one network.
pub(super) fn check_name(text: &str) -> Result<(), Refusal> {
    if !name::is_label(text) {
        return Err(Refusal::bad_request(
            "the network's name must be 1 to 63 lower-case letters, digits and hyphens",
        ));
    }
    if text == ALL_NETWORKS {
        return Err(Refusal::bad_request(format!(
            "{ALL_NETWORKS:?} stands for all networks; choose another name"
        )));
    }
    Ok(())
}

/// A device's place, as its owner and the device itself are told.
pub(super) fn summary(place: &Membership) -> MembershipSummary {
    MembershipSummary {
        network: place.name.clone(),
        label: place.label.clone(),
        address: address::v4(place.host).map_or_else(String::new, |v4| v4.to_string()),
    }
}

pub(super) fn join_refusal(error: JoinError) -> Refusal {
    let text = error.to_string();
    match error {
        JoinError::NameTaken(_) => Refusal::new(
            ProblemKind::NameTaken,
            &text,
            "choose another host name, remove the other device, or use a key with another name policy",
        ),
        JoinError::NetworkFull => Refusal::new(ProblemKind::Forbidden, "the network is full", text),
        JoinError::TooManyNetworks => Refusal::new(
            ProblemKind::Forbidden,
            "the device is in too many networks",
            text,
        ),
        JoinError::Store(error) => error.into(),
    }
}

pub(super) fn unknown_network(label: Option<&str>) -> Refusal {
    Refusal::new(
        ProblemKind::UnknownNetwork,
        "the organisation has no such network",
        label.map_or_else(String::new, |label| {
            format!("{label:?} is not one of its networks")
        }),
    )
}

/// The same for whoever may hear which there are.
pub(super) fn unknown_network_among(label: &str, known: &[NetworkRow]) -> Refusal {
    let names: Vec<&str> = known.iter().map(|network| network.name.as_str()).collect();
    Refusal::new(
        ProblemKind::UnknownNetwork,
        &format!("the organisation has no such network {label:?}"),
        format!("it has {}", names.join(", ")),
    )
}

async fn put_in(
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
        clock::unix_secs(),
    );
    joined.await.map_err(join_refusal)
}

async fn named(tx: &mut Tx, org: OrgId, label: &str) -> Result<NetworkRow, Refusal> {
    named_or_default(tx, org, Some(label)).await
}

/// The organisation's network with this label, or its default one.
pub(super) async fn named_or_default(
    tx: &mut Tx,
    org: OrgId,
    label: Option<&str>,
) -> Result<NetworkRow, Refusal> {
    let networks = accounts::networks(tx, org).await?;
    let mut found = networks.into_iter().filter(|network| match label {
        Some(label) => network.name == label,
        None => network.is_default,
    });
    found.next().ok_or_else(|| unknown_network(label))
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

fn not_a_member(network: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        &format!("the device is not in {network}"),
        "",
    )
}

fn network_summary(network: NetworkRow) -> NetworkSummary {
    NetworkSummary {
        id: network.id,
        name: network.name,
        default: network.is_default,
        devices: network.devices,
        online: network.online,
    }
}

fn readable<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    path.map(|Path(inner)| inner)
        .map_err(|_| Refusal::bad_request("the path is unreadable"))
}

/// Most networks of an organisation: all of them are in one list.
const ORG_NETWORKS_MAX: usize = 1_000;

/// How often a random VNI is tried: with half of all numbers in use 32 failures in a row do not happen.
const VNI_TRIES: u32 = 32;
