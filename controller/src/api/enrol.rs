//! Enrolment of a device: one transaction that uses the credential, chooses name, address and relays, and tells the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::Exporter;
use overlan_protocol::api::{Credential, EnrolRequest, EnrolResponse, NamePolicy, ProblemKind};
use overlan_protocol::key::{DeviceId, Secret};
use overlan_protocol::name::label_from_hostname;
use overlan_protocol::proof::{enrolment_message, tunnel_key_message};

use super::caller::{
    Json, ThisChannel, check_signature, key_refusal, key_unknown, person, plain_text,
};
use super::keys::{network, unknown_network};
use super::problem::Refusal;
use crate::address::{NETWORK_DEVICES_MAX, QUARANTINE_SECS, lowest_free};
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret};
use crate::clock;
use crate::fleet;
use crate::naming::{self, Holder, Naming};
use crate::placement::Placement;
use crate::registry::{Fact, Member, OrgId};
use crate::shared::{Shared, lock};
use crate::store::accounts::NetworkRow;
use crate::store::devices::{self, Device};
use crate::store::{Tx, changes, keys, relays};

pub(super) async fn enrol(
    State(shared): State<Arc<Shared>>,
    ThisChannel(exporter): ThisChannel,
    Json(request): Json<EnrolRequest>,
) -> Result<Json<EnrolResponse>, Refusal> {
    check_keys(&request, &exporter)?;
    plain_text("the host name", &request.hostname, 0, HOSTNAME_MAX)?;
    let session = match &request.credential {
        Credential::Session(token) => Some(person(&shared, token.reveal()).await?.org),
        Credential::AuthKey(_) => None,
    };
    let now_ms = clock::unix_millis();
    let now = now_ms / 1_000;
    let mut tx = shared.store.write().await?;
    let grant = match (&request.credential, session) {
        (Credential::AuthKey(key), _) => by_auth_key(&mut tx, key, &request, now).await?,
        (Credential::Session(_), Some(org)) => by_session(&mut tx, org, &request).await?,
        (Credential::Session(_), None) => return Err(key_unknown("session")),
    };
    let known = devices::by_identity(&mut tx, grant.org, &request.identity).await?;
    let device = match known {
        Some(device) if device.network == grant.network.id => {
            enrol_again(&mut tx, device, &request, now).await?
        }
        Some(_) => {
            return Err(Refusal::bad_request(
                "this identity key belongs to a device of another network; enrol with a new one",
            ));
        }
        None => add_device(&shared, &mut tx, &grant, &request, now_ms).await?,
    };
    let vni = grant.network.vni;
    shared.store.commit(tx).await?;
    Ok(Json(EnrolResponse {
        device: device.member.device,
        ticket: shared.signer.issue(&device, vni, now),
        label: device.member.label,
        network: grant.network.name,
        domain: shared.domain.clone(),
    }))
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
    network: NetworkRow,
    ephemeral: bool,
    on_name_taken: NamePolicy,
    auth_key: Option<String>,
}

async fn by_session(tx: &mut Tx, org: OrgId, request: &EnrolRequest) -> Result<Grant, Refusal> {
    Ok(Grant {
        org,
        network: network(tx, org, request.network.as_deref()).await?,
        ephemeral: false,
        on_name_taken: NamePolicy::default(),
        auth_key: None,
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
    let networks = crate::store::accounts::networks(tx, key.org).await?;
    let own = networks
        .into_iter()
        .find(|network| network.id == key.network);
    let network = own.ok_or_else(|| unknown_network(None))?;
    if let Some(wanted) = &request.network
        && *wanted != network.name
    {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "the auth key is for another network",
            format!("it lets devices join {}", network.name),
        ));
    }
    Ok(Grant {
        org: key.org,
        network,
        ephemeral: key.ephemeral,
        on_name_taken: key.on_name_taken,
        auth_key: Some(key.id),
    })
}

/// The same key enrols again, because the answer to the first attempt was lost: the device stays, with its newest tunnel key.
async fn enrol_again(
    tx: &mut Tx,
    mut device: Device,
    request: &EnrolRequest,
    now: u64,
) -> Result<Device, Refusal> {
    if device.member.tunnel != request.tunnel {
        device.member.tunnel = request.tunnel;
        device.member.tunnel_signature = request.tunnel_signature.clone();
        devices::set_tunnel(tx, device.org, &device.member).await?;
        let fact = Fact::Device(Box::new(device.member.clone()));
        changes::append(tx, device.org, Some(device.network), &fact, now).await?;
    }
    Ok(device)
}

async fn add_device(
    shared: &Shared,
    tx: &mut Tx,
    grant: &Grant,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Device, Refusal> {
    let now = now_ms / 1_000;
    let (org, network) = (grant.org, grant.network.id);
    let label = choose_label(shared, tx, grant, &request.hostname, now).await?;
    let taken = devices::taken_hosts(tx, org, network, now.saturating_sub(QUARANTINE_SECS)).await?;
    let full = devices::count(tx, org, network).await? >= NETWORK_DEVICES_MAX;
    let host = lowest_free(taken).filter(|_| !full).ok_or_else(|| {
        Refusal::new(
            ProblemKind::Forbidden,
            "the network is full",
            format!("it has {NETWORK_DEVICES_MAX} devices; remove some"),
        )
    })?;
    let id = DeviceId::random();
    let mut placement = Placement::new(relays::candidates(tx, org).await?);
    let device = Device {
        org,
        network,
        member: Member {
            device: id,
            host,
            label,
            identity: request.identity,
            tunnel: request.tunnel,
            tunnel_signature: request.tunnel_signature.clone(),
            relays: placement
                .place(id, &[], &BTreeMap::new())
                .unwrap_or_default(),
            online: false,
        },
        ephemeral: grant.ephemeral,
        epoch: FIRST_EPOCH,
        attach_epoch: 0,
        auth_key: grant.auth_key.clone(),
    };
    devices::insert(tx, &device, now_ms).await?;
    let fact = Fact::Device(Box::new(device.member.clone()));
    changes::append(tx, org, Some(network), &fact, now).await?;
    Ok(device)
}

async fn choose_label(
    shared: &Shared,
    tx: &mut Tx,
    grant: &Grant,
    hostname: &str,
    now: u64,
) -> Result<String, Refusal> {
    let (org, network) = (grant.org, grant.network.id);
    let wanted = label_from_hostname(hostname);
    let holder = devices::by_label(tx, org, network, &wanted).await?;
    // A stream that opened just now is not written yet.
    let is_online = |device: &Device| {
        device.member.online || lock(&shared.presence).is_attached(device.member.device)
    };
    let held = match &holder {
        None => Holder::Nobody,
        Some(device) if is_online(device) => Holder::Online,
        Some(_) => Holder::Offline,
    };
    let taken = devices::labels_like(tx, org, network, &wanted).await?;
    match (
        naming::decide(&wanted, grant.on_name_taken, held, &taken),
        holder,
    ) {
        (Naming::Give(label), _) => Ok(label),
        (Naming::TakeOver, Some(holder)) => {
            fleet::remove_device(tx, &holder, now).await?;
            Ok(wanted)
        }
        (Naming::TakeOver, None) => Ok(wanted),
        (Naming::Refuse, _) => Err(Refusal::new(
            ProblemKind::NameTaken,
            &format!("the name {wanted} is in use"),
            "choose another host name, remove the other device, or use a key with another name policy",
        )),
    }
}

const AUTH_KEY: &str = "auth key";

/// Epoch of a new device's tickets.
const FIRST_EPOCH: u64 = 1;

/// Longest host name, characters (RFC 1035 gives 253 bytes).
const HOSTNAME_MAX: usize = 253;
