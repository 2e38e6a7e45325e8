//! Enrolment of a device: one transaction that uses the credential, chooses name, address and relays, and tells the network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::Exporter;
use overlan_protocol::api::{
    ALL_NETWORKS, Credential, EnrolRequest, EnrolResponse, NamePolicy, ProblemKind,
};
use overlan_protocol::key::{DeviceId, NetworkId, Secret};
use overlan_protocol::name::label_from_hostname;
use overlan_protocol::proof::{enrolment_message, tunnel_key_message};

use super::caller::{
    Json, Person, ThisChannel, check_signature, key_refusal, key_unknown, person, plain_text,
};
use super::networks::{join_refusal, unknown_network};
use super::problem::Refusal;
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret};
use crate::clock;
use crate::placement::Placement;
use crate::registry::{Fact, OrgId};
use crate::roster;
use crate::shared::Shared;
use crate::store::accounts::{self, NetworkRow};
use crate::store::devices::{self, Device};
use crate::store::waiting::Waiting;
use crate::store::{Tx, changes, keys, members, relays, waiting};

pub(super) async fn enrol(
    State(shared): State<Arc<Shared>>,
    ThisChannel(exporter): ThisChannel,
    Json(request): Json<EnrolRequest>,
) -> Result<Json<EnrolResponse>, Refusal> {
    check_keys(&request, &exporter)?;
    plain_text("the host name", &request.hostname, 0, HOSTNAME_MAX)?;
    let session = match &request.credential {
        Credential::Session(token) => Some(person(&shared, token.reveal()).await?),
        Credential::AuthKey(_) => None,
    };
    let now_ms = clock::unix_millis();
    let now = now_ms / 1_000;
    let mut tx = shared.store.write().await?;
    let grant = match (&request.credential, session) {
        (Credential::AuthKey(key), _) => by_auth_key(&mut tx, key, &request, now).await?,
        (Credential::Session(_), Some(person)) => by_session(&mut tx, &person, &request).await?,
        (Credential::Session(_), None) => return Err(key_unknown("session")),
    };
    let known = devices::by_identity(&mut tx, grant.org, &request.identity).await?;
    let mut device = match known {
        Some(device) => enrol_again(&mut tx, device, &request, now).await?,
        None => add_device(&mut tx, &grant, &request, now_ms).await?,
    };
    if grant.approval {
        let (label, network) = wait(&mut tx, &device, &grant).await?;
        shared.store.commit(tx).await?;
        return Ok(Json(EnrolResponse {
            device: device.id,
            ticket: shared.signer.issue(&device, now),
            label,
            network,
            domain: shared.domain.clone(),
        }));
    }
    let mut first = None;
    for network in &grant.networks {
        let joined = roster::join(
            &shared,
            &mut tx,
            &mut device,
            network,
            grant.on_name_taken,
            now,
        );
        let place = joined.await.map_err(join_refusal)?;
        first.get_or_insert(place);
    }
    let first = first.ok_or_else(|| unknown_network(None))?;
    for network in &grant.later {
        members::grant(&mut tx, device.id, *network).await?;
    }
    shared.store.commit(tx).await?;
    Ok(Json(EnrolResponse {
        device: device.id,
        ticket: shared.signer.issue(&device, now),
        label: first.label,
        network: first.name,
        domain: shared.domain.clone(),
    }))
}

/// Notes what a device wants to join once a person has approved it; where it is in already it stays. Returns what it is called
/// there, or is going to be unless the name is taken.
async fn wait(tx: &mut Tx, device: &Device, grant: &Grant) -> Result<(String, String), Refusal> {
    if let Some(place) = device.places.first() {
        return Ok((place.label.clone(), place.name.clone()));
    }
    let first = grant
        .networks
        .first()
        .ok_or_else(|| unknown_network(None))?;
    let waits_already = !waiting::of_device(tx, device.id).await?.is_empty();
    if !waits_already && waiting::count(tx, grant.org).await? >= WAITING_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{WAITING_MAX} devices wait for an approval already"),
            "an admin approves or removes some: `overlan admin device list` shows them",
        ));
    }
    for network in &grant.later {
        let joins = grant.networks.iter().any(|joined| joined.id == *network);
        let network = *network;
        waiting::insert(tx, device.id, Waiting { network, joins }).await?;
    }
    Ok((device.hostname.clone(), first.name.clone()))
}

fn check_keys(request: &EnrolRequest, exporter: &Exporter) -> Result<(), Refusal> {
    let identity = &request.identity;
    let message = enrolment_message(exporter, identity);
    check_signature("proof", identity, &message, &request.proof)?;
    let message = tunnel_key_message(&request.tunnel);
    let signature = &request.tunnel_signature;
    check_signature("tunnel key's signature", identity, &message, signature)
}

/// What a credential allows.
#[derive(Debug)]
struct Grant {
    org: OrgId,
    /// What the device joins now; the first one is the one that it is told of.
    networks: Vec<NetworkRow>,
    /// What it may join by itself later.
    later: BTreeSet<NetworkId>,
    ephemeral: bool,
    /// Whether a person has to approve the device first.
    approval: bool,
    on_name_taken: NamePolicy,
    auth_key: Option<String>,
    account: Option<i64>,
}

async fn by_session(
    tx: &mut Tx,
    person: &Person,
    request: &EnrolRequest,
) -> Result<Grant, Refusal> {
    let all = accounts::networks(tx, person.org).await?;
    let networks = if request.networks.is_empty() {
        all.into_iter()
            .filter(|network| network.is_default)
            .collect()
    } else {
        wanted(all, &request.networks, |label| unknown_network(Some(label)))?
    };
    Ok(Grant {
        org: person.org,
        later: networks.iter().map(|network| network.id).collect(),
        networks,
        ephemeral: false,
        approval: false,
        on_name_taken: NamePolicy::default(),
        auth_key: None,
        account: Some(person.account),
    })
}

async fn by_auth_key(
    tx: &mut Tx,
    text: &Secret,
    request: &EnrolRequest,
    now: u64,
) -> Result<Grant, Refusal> {
    let named = NamedSecret::parse(AUTH_KEY_PREFIX, text).ok_or_else(|| key_unknown(AUTH_KEY))?;
    let consumed = keys::consume_auth_key(tx, &named.id, &named.digest, now).await?;
    let key = keys::auth_key(tx, &named.id, &named.digest).await?;
    let key = key.ok_or_else(|| key_unknown(AUTH_KEY))?;
    if !consumed {
        // The answer to the first attempt may have been lost: the device that the key made is not refused.
        let known = devices::by_identity(tx, key.org, &request.identity).await?;
        if known.is_none_or(|device| device.auth_key.as_ref() != Some(&key.id)) {
            let used = key.last_used.filter(|_| !key.reusable);
            let (revoked, expires) = (key.revoked, key.expires);
            return Err(key_refusal(AUTH_KEY, &key.id, revoked, expires, used, now));
        }
    }
    let mut allowed = accounts::networks(tx, key.org).await?;
    allowed.retain(|network| key.networks.contains(&network.id));
    // The default one is what a device is known by.
    allowed.sort_by_key(|network| !network.is_default);
    let later = allowed.iter().map(|network| network.id).collect();
    let names: Vec<&str> = allowed
        .iter()
        .map(|network| network.name.as_str())
        .collect();
    let names = names.join(", ");
    let networks = if request.networks.is_empty() {
        allowed
    } else {
        wanted(allowed, &request.networks, |label| {
            Refusal::new(
                ProblemKind::Forbidden,
                &format!("the auth key does not let devices join {label:?}"),
                format!("it lets them join {names}"),
            )
        })?
    };
    Ok(Grant {
        org: key.org,
        networks,
        later,
        ephemeral: key.ephemeral,
        approval: key.approval,
        on_name_taken: key.on_name_taken,
        auth_key: Some(key.id),
        account: None,
    })
}

/// Those of `allowed` that are named, each once and in the order of the names.
fn wanted(
    mut allowed: Vec<NetworkRow>,
    names: &[String],
    refuse: impl Fn(&str) -> Refusal,
) -> Result<Vec<NetworkRow>, Refusal> {
    if names == [ALL_NETWORKS] {
        return Ok(allowed);
    }
    let mut found: Vec<NetworkRow> = Vec::new();
    for name in names {
        match allowed.iter().position(|network| network.name == *name) {
            Some(index) => found.push(allowed.remove(index)),
            None if found.iter().any(|network| network.name == *name) => {}
            None => return Err(refuse(name)),
        }
    }
    Ok(found)
}

/// The same identity enrols again, because the answer to the first attempt was lost: the device stays, with its newest tunnel key.
async fn enrol_again(
    tx: &mut Tx,
    mut device: Device,
    request: &EnrolRequest,
    now: u64,
) -> Result<Device, Refusal> {
    if device.tunnel != request.tunnel {
        device.tunnel = request.tunnel;
        device.tunnel_signature = request.tunnel_signature.clone();
        devices::set_tunnel(tx, &device).await?;
        for place in &device.places {
            let fact = Fact::Device(Box::new(device.member(place)));
            changes::append(tx, device.org, Some(place.network), &fact, now).await?;
        }
    }
    Ok(device)
}

/// Writes a new device that is in no network yet.
async fn add_device(
    tx: &mut Tx,
    grant: &Grant,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Device, Refusal> {
    let id = DeviceId::random();
    let mut placement = Placement::new(relays::candidates(tx, grant.org).await?);
    let device = Device {
        id,
        org: grant.org,
        hostname: label_from_hostname(&request.hostname),
        identity: request.identity,
        tunnel: request.tunnel,
        tunnel_signature: request.tunnel_signature.clone(),
        relays: placement
            .place(id, &[], &BTreeMap::new())
            .unwrap_or_default(),
        online: false,
        ephemeral: grant.ephemeral,
        epoch: FIRST_EPOCH,
        attach_epoch: 0,
        auth_key: grant.auth_key.clone(),
        account: grant.account,
        places: Vec::new(),
    };
    devices::insert(tx, &device, now_ms).await?;
    Ok(device)
}

const AUTH_KEY: &str = "auth key";

/// Devices of an organisation that may wait for an approval at once: more than a person looks through, and few enough that one key
/// that went astray fills no list.
const WAITING_MAX: u32 = 256;

/// Epoch of a new device's tickets.
const FIRST_EPOCH: u64 = 1;

/// Longest host name, characters (RFC 1035 gives 253 bytes).
const HOSTNAME_MAX: usize = 253;
