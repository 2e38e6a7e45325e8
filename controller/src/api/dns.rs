//! `/api/v1/dns`: people manage records and zones. [`crate::records`] decides which ones a network
//! may have.

use std::sync::Arc;

use axum::extract::{Query, State, rejection::QueryRejection};
use overlan_protocol::api::ProblemKind;
use overlan_protocol::api::dns::{
    DnsRecordRemoval, DnsRecordRequest, DnsRecordSummary, DnsRemoved, DnsSummary, DnsZoneRemoval,
    DnsZoneRequest, DnsZoneSummary,
};
use overlan_protocol::dns::{self, Dns, Record, Via, ViaHost};
use serde::Deserialize;

use super::body::Json;
use super::caller::Person;
use super::changed::Changed;
use super::networks::named_or_default;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::records::{NameUse, NetworkNames, RecordError};
use crate::store::accounts::NetworkRow;
use crate::store::names::Holder;
use crate::store::{self, Tx, members};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkQuery {
    network: Option<String>,
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    wanted: Result<Query<NetworkQuery>, QueryRejection>,
) -> Result<Json<DnsSummary>, Refusal> {
    let Query(wanted) =
        wanted.map_err(|_| Refusal::bad_request("the query may only be network=<label>"))?;
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, wanted.network.as_deref()).await?;
    let dns = store::dns::settings(&mut tx, person.org, network.id).await?;
    let zones = dns
        .zones
        .into_iter()
        .map(|(zone, settings)| DnsZoneSummary {
            zone,
            via: settings.via,
        });
    let records = dns.records.into_iter().flat_map(|(name, records)| {
        records.into_iter().map(move |record| DnsRecordSummary {
            name: name.clone(),
            record,
        })
    });
    Ok(Json(DnsSummary {
        domain: domain(&deployment, &network),
        network: network.name,
        zones: zones.collect(),
        records: records.collect(),
    }))
}

pub(super) async fn add_record(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<DnsRecordRequest>,
) -> Result<Changed<DnsRecordSummary>, Refusal> {
    let record = Record::parse(&request.kind, request.value.trim())
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(&request.network)).await?;
    let (name, is_news) = put(
        &deployment,
        &mut tx,
        (person.org, &network),
        &request.name,
        &record,
        NameUse::Shared,
    )
    .await?;
    if !is_news {
        return Ok(Changed::nothing(DnsRecordSummary { name, record }));
    }
    deployment.store.commit(tx).await?;
    let what = format!("added record {name} {record:?}");
    Ok(Changed::new(what, DnsRecordSummary { name, record }))
}

/// Adds a record to those of a name. Returns the absolute name, and whether the record is new.
pub(super) async fn put(
    deployment: &Deployment,
    tx: &mut Tx,
    (org, network): (OrgId, &NetworkRow),
    name: &str,
    record: &Record,
    name_use: NameUse,
) -> Result<(String, bool), Refusal> {
    let dns = store::dns::settings(tx, org, network.id).await?;
    let domain = domain(deployment, network);
    let names = names(deployment, &domain, &dns);
    let name = names.absolute(name)?;
    let label = name
        .strip_suffix(&domain)
        .and_then(|below| below.strip_suffix('.'));
    let is_device = match label {
        Some(label) => {
            let holder = store::names::holder(tx, network.id, label).await?;
            matches!(holder, Some(Holder::Device(_)))
        }
        None => false,
    };
    let records = match name_use {
        NameUse::Shared => names.add(&name, record.clone(), is_device),
        NameUse::Exclusive => names.claim(&name, record.clone(), is_device),
    }?;
    let is_news = dns.records.get(&name) != Some(&records);
    if is_news {
        let now = clock::wall();
        store::dns::set_records(tx, org, network.id, &name, &records, now).await?;
    }
    Ok((name, is_news))
}

pub(super) async fn remove_records(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<DnsRecordRemoval>,
) -> Result<Changed<DnsRemoved>, Refusal> {
    let mut tx = deployment.store.write().await?;
    let (network, dns) = settings(&mut tx, person, &request.network).await?;
    let domain = domain(&deployment, &network);
    let names = names(&deployment, &domain, &dns);
    let name = names.absolute(&request.name)?;
    let (kind, value) = (request.kind.as_deref(), request.value.as_deref());
    let (stay, removed) = names.remove(&name, kind, value)?;
    let now = clock::wall();
    store::dns::set_records(&mut tx, person.org, network.id, &name, &stay, now).await?;
    deployment.store.commit(tx).await?;
    let what = format!("removed {removed} records of {name}");
    Ok(Changed::new(what, DnsRemoved { removed }))
}

pub(super) async fn set_zone(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<DnsZoneRequest>,
) -> Result<Changed<DnsZoneSummary>, Refusal> {
    let zone = zone_name(&request.zone)?;
    let mut tx = deployment.store.write().await?;
    let (network, dns) = settings(&mut tx, person, &request.network).await?;
    let domain = domain(&deployment, &network);
    let mut via = Vec::new();
    for text in &request.via {
        // A full name of this network is as good as its label.
        let text = text.replacen(&format!(".{domain}"), "", 1);
        let one: Via = text
            .parse()
            .map_err(|error: dns::DnsTextError| Refusal::bad_request(error.to_string()))?;
        if let ViaHost::Peer(label) = &one.host
            && members::by_label(&mut tx, network.id, label)
                .await?
                .is_none()
        {
            return Err(Refusal::new(
                ProblemKind::NotFound,
                &format!("network {} has no device {label}", network.name),
                "the resolver of a zone is a device of its network; `overlan admin device list` \
                 lists them",
            ));
        }
        via.push(one);
    }
    let settings = names(&deployment, &domain, &dns).zone(&zone, via)?;
    let is_news = dns.zones.get(&zone) != Some(&settings);
    if is_news {
        let now = clock::wall();
        let new = Some(&settings);
        store::dns::set_zone(&mut tx, person.org, network.id, &zone, new, now).await?;
        deployment.store.commit(tx).await?;
    }
    let what = match is_news {
        true => format!("set zone {zone} of network {}", network.name),
        false => String::new(),
    };
    let via = settings.via;
    Ok(Changed::new(what, DnsZoneSummary { zone, via }))
}

pub(super) async fn remove_zone(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<DnsZoneRemoval>,
) -> Result<Changed<DnsRemoved>, Refusal> {
    let zone = zone_name(&request.zone)?;
    let mut tx = deployment.store.write().await?;
    let (network, dns) = settings(&mut tx, person, &request.network).await?;
    let domain = domain(&deployment, &network);
    names(&deployment, &domain, &dns).remove_zone(&zone)?;
    let now = clock::wall();
    store::dns::set_zone(&mut tx, person.org, network.id, &zone, None, now).await?;
    deployment.store.commit(tx).await?;
    let what = format!("removed zone {zone} of network {}", network.name);
    Ok(Changed::new(what, DnsRemoved { removed: 1 }))
}

fn zone_name(text: &str) -> Result<String, Refusal> {
    dns::normal(text).ok_or_else(|| RecordError::NotAName(text.to_owned()).into())
}

fn domain(deployment: &Deployment, network: &NetworkRow) -> String {
    format!("{}.{}", network.name, deployment.domain)
}

fn names<'a>(deployment: &'a Deployment, domain: &'a str, dns: &'a Dns) -> NetworkNames<'a> {
    NetworkNames {
        deployment: &deployment.domain,
        domain,
        dns,
    }
}

async fn settings(tx: &mut Tx, person: Person, label: &str) -> Result<(NetworkRow, Dns), Refusal> {
    let network = named_or_default(tx, person.org, Some(label)).await?;
    let dns = store::dns::settings(tx, person.org, network.id).await?;
    Ok((network, dns))
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::NotAName(_) | RecordError::InNoZone { .. } | RecordError::Via(_) => {
                return Self::bad_request(error.to_string());
            }
            RecordError::Nothing(_) => ProblemKind::NotFound,
            RecordError::Device(_)
            | RecordError::Taken(_)
            | RecordError::Alone(_)
            | RecordError::Alias(_)
            | RecordError::HasRecords { .. } => ProblemKind::NameTaken,
            RecordError::Delegated(_)
            | RecordError::Apex(_)
            | RecordError::TooMany(_)
            | RecordError::OfDeployment(_) => ProblemKind::Forbidden,
        };
        Self::new(kind, "nothing was changed", error.to_string())
    }
}
