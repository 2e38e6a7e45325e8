//! `/api/v1/networks`: people list, make and remove networks. Their members are in `members`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{ALL_NETWORKS, NetworkRequest, NetworkSummary, ProblemKind};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{NetworkId, random_bytes};
use overlan_protocol::name;

use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::Changed;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol;
use crate::netmaps::OrgId;
use crate::roster;
use crate::store::accounts::{self, NetworkRow};
use crate::store::{StoreError, Tx};

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
            &format!("there already is a network {}", request.name),
            "choose another name",
        ));
    }
    enrol::one_more_network(known.len())?;
    let now = clock::wall();
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
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    if network.is_default {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the default network cannot be removed",
            "devices that name no network join it",
        ));
    }
    if network.devices > 0 && !force {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{} devices are in {}", network.devices, network.name),
            "take them out first, or give --force",
        ));
    }
    roster::delete_network(&mut tx, person.org, network.id, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!(
            "removed network {}, {} devices left it",
            network.name, network.devices
        ),
        Empty {},
    ))
}

/// Makes a network under a free number.
pub(super) async fn make(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    is_default: bool,
    now: UnixTime,
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
            // The number is in use.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::internal(&"no free VNI was found"))
}

/// Checks that a text can be the name of one network: a label that does not stand for all networks.
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

/// Returns the organisation's network with this label, or its default one.
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
    let network = found.next().ok_or_else(|| unknown_network(label))?;
    work_on(&network.name);
    Ok(network)
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

/// Refuses a label, for a caller who may know which networks there are.
pub(super) fn unknown_network_among(label: &str, known: &[String]) -> Refusal {
    Refusal::new(
        ProblemKind::UnknownNetwork,
        &format!("the organisation has no network {label:?}"),
        format!("its networks are {}", known.join(", ")),
    )
}

/// Notes for the log that the request works on this network.
pub(super) fn work_on(network: &str) {
    tracing::Span::current().record("network", network);
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

/// Random VNIs that are tried: even with half of all numbers in use, 32 failures in a row do not
/// happen.
const VNI_TRIES: u32 = 32;
