//! `/api/v1/networks`: people list, make, rename and remove networks. Their members are in
//! `members`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    ALL_NETWORKS, FORMER_NAME_MAX_SECS, FORMER_NAME_SECS, NetworkRename, NetworkRequest,
    NetworkSummary, ProblemKind,
};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{NetworkId, random_bytes};
use overlan_protocol::name;

use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::Changed;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol;
use crate::netmaps::OrgId;
use crate::renaming::{self, NewName};
use crate::roster;
use crate::store::accounts::{self, NetworkRow};
use crate::store::{StoreError, Tx};

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    page: Page,
) -> Result<Paged<NetworkSummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let networks = accounts::networks(&mut tx, person.org).await?;
    let summaries = networks.into_iter().map(network_summary).collect();
    page.of(summaries, |network: &NetworkSummary| network.id.to_string())
}

pub(super) async fn create(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<NetworkRequest>,
) -> Result<Changed<NetworkSummary>, Refusal> {
    check_name(&request.name)?;
    let mut tx = deployment.store.write().await?;
    let known = accounts::networks(&mut tx, person.org).await?;
    check_free(&request.name, &known)?;
    enrol::one_more_network(known.len())?;
    let now = clock::wall();
    let made = make(&mut tx, person.org, &request.name, false, now).await?;
    deployment.store.commit(tx).await?;
    let what = format!("made network {}", made.name);
    Ok(Changed::new(what, network_summary(made)))
}

/// Renames a network. Its old name stays an alias for a while, and no other network gets it then.
pub(super) async fn rename(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Result<Path<String>, PathRejection>,
    Json(request): Json<NetworkRename>,
) -> Result<Changed<NetworkSummary>, Refusal> {
    check_name(&request.name)?;
    let keep = request.keep_old_secs.unwrap_or(FORMER_NAME_SECS);
    if keep > FORMER_NAME_MAX_SECS {
        return Err(Refusal::bad_request(format!(
            "an old name is kept for {} days at most",
            FORMER_NAME_MAX_SECS / 86_400
        )));
    }
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    if network.name == request.name {
        return Ok(Changed::nothing(network_summary(network)));
    }
    let known = accounts::networks(&mut tx, person.org).await?;
    let others = known.into_iter().filter(|other| other.id != network.id);
    check_free(&request.name, &others.collect::<Vec<_>>())?;
    let is_back = network.is_called(&request.name);
    if keep > 0 && network.former.len() - usize::from(is_back) >= FORMER_NAMES_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{} still has {FORMER_NAMES_MAX} old names", network.name),
            "wait until one ends, as `overlan admin network list` shows, or keep no alias: \
             --keep-old 0",
        ));
    }
    let new = NewName {
        domain: &deployment.domain,
        name: &request.name,
        keep_old: (keep > 0).then(|| now + Duration::from_secs(keep)),
    };
    renaming::network(&mut tx, person.org, &network, &new, now).await?;
    let renamed = named_or_default(&mut tx, person.org, Some(&request.name)).await?;
    deployment.store.commit(tx).await?;
    let what = format!("renamed network {} to {}", network.name, renamed.name);
    Ok(Changed::new(what, network_summary(renamed)))
}

/// Checks that none of the `known` networks has a name, or had it a while ago.
fn check_free(name: &str, known: &[NetworkRow]) -> Result<(), Refusal> {
    let Some(holder) = known.iter().find(|network| network.is_called(name)) else {
        return Ok(());
    };
    let former = holder.former.iter().find(|former| former.name == name);
    let title = match former {
        None => format!("there already is a network {name}"),
        Some(_) => format!("{name} is still an alias of network {}", holder.name),
    };
    let detail = match former {
        None => "choose another name".to_owned(),
        Some(former) => {
            let hours = former.until.since(clock::wall()).as_secs().div_ceil(3_600);
            format!("that ends in {hours} h; choose another name, or wait")
        }
    };
    Err(Refusal::new(ProblemKind::NameTaken, &title, detail))
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
            former: Vec::new(),
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
        Some(label) => network.is_called(label),
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
        former: network.former,
    }
}

/// Most old names of one network at a time: they are in every netmap, and nobody remembers more.
const FORMER_NAMES_MAX: usize = 4;

/// Random VNIs that are tried: even with half of all numbers in use, 32 failures in a row do not
/// happen.
const VNI_TRIES: u32 = 32;
