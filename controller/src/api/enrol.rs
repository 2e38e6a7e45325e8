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
    AUTH_KEY, Json, Person, ThisChannel, check_signature, key_refusal, key_unknown, person,
    plain_text, too_often,
};
use super::changed::Changed;
use super::keys::noted;
use super::networks::{join_refusal, unknown_network, unknown_network_among};
use super::problem::Refusal;
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret};
use crate::budget;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::placement::Placement;
use crate::roster;
use crate::store::accounts::{self, Digest, NetworkRow};
use crate::store::devices::{self, Device};
use crate::store::keys::{self, AuthKey};
use crate::store::waiting::{self, Waiting};
use crate::store::{Tx, members, relays};

pub(super) async fn enrol(
    State(deployment): State<Arc<Deployment>>,
    ThisChannel(exporter): ThisChannel,
    Json(request): Json<EnrolRequest>,
) -> Result<Changed<EnrolResponse>, Refusal> {
    check_keys(&request, &exporter)?;
    plain_text("the host name", &request.hostname, 0, HOSTNAME_MAX)?;
    let session = match &request.credential {
        Credential::Session(token) => Some(person(&deployment, token.reveal()).await?),
        Credential::AuthKey(_) => None,
    };
    let now_ms = clock::unix_millis();
    let now = now_ms / 1_000;
    let mut tx = deployment.store.write().await?;
    let right = match (&request.credential, session) {
        (Credential::AuthKey(key), _) => Right::of_key(&mut tx, key).await?,
        (Credential::Session(_), Some(person)) => Right::Person(person),
        (Credential::Session(_), None) => return Err(key_unknown("session")),
    };
    let known = devices::by_identity(&mut tx, right.org(), &request.identity).await?;
    if let Some(device) = known {
        let place = what_it_is(&mut tx, &device, &request).await?;
        return Ok(Changed::nothing(answer(&deployment, &device, place, now)));
    }
    let grant = match right {
        Right::Key { key, digest } => by_auth_key(&mut tx, key, &digest, &request, now).await?,
        Right::Person(person) => by_session(&mut tx, &person, &request).await?,
    };
    let counted = deployment
        .budgets
        .lock()
        .enrolments
        .count(clock::now(), grant.right());
    counted.map_err(too_often(
        "too many devices were enrolled by this right lately",
    ))?;
    let mut device = add_device(&mut tx, &grant, &request, now_ms).await?;
    let first = match grant.approval {
        true => wait(&mut tx, &device, &grant).await?,
        false => join(&deployment, &mut tx, &mut device, &grant, now).await?,
    };
    deployment.store.commit(tx).await?;
    let what = format!(
        "enrolled device {}.{}{}, by {}",
        first.label,
        first.network,
        match grant.approval {
            true => ", which waits for approval",
            false => "",
        },
        grant.by
    );
    Ok(Changed::new(what, answer(&deployment, &device, first, now)))
}

/// What a device is called in its first network.
struct Place {
    label: String,
    network: String,
}

fn answer(deployment: &Deployment, device: &Device, place: Place, now: u64) -> EnrolResponse {
    EnrolResponse {
        device: device.id,
        ticket: deployment.signer.issue(device, now),
        label: place.label,
        network: place.network,
        domain: deployment.domain.clone(),
    }
}

/// Answers who is enrolled already: the answer to the first attempt may have been lost. It reads what is, whatever became of the
/// credential, and changes nothing: who could join once may have been taken out since.
async fn what_it_is(
    tx: &mut Tx,
    device: &Device,
    request: &EnrolRequest,
) -> Result<Place, Refusal> {
    if device.tunnel != request.tunnel {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            "this device is enrolled with another tunnel key",
            "enrol it again with new keys: `overlan logout`, then `overlan up`",
        ));
    }
    if let Some(place) = device.places.first() {
        return Ok(Place {
            label: place.label.clone(),
            network: place.name.clone(),
        });
    }
    let awaited = waiting::of_device(tx, device.id).await?;
    let networks = accounts::networks(tx, device.org).await?;
    let first = awaited.iter().find(|awaited| awaited.joins);
    let first = first.and_then(|first| networks.iter().find(|known| known.id == first.network));
    first
        .map(|network| Place {
            label: device.hostname.clone(),
            network: network.name.clone(),
        })
        .ok_or_else(|| {
            Refusal::new(
                ProblemKind::Forbidden,
                "this device is in no network any more",
                "who manages the deployment puts it back: `overlan admin network add NETWORK DEVICE`",
            )
        })
}

/// Brings a new device into the networks of its grant.
async fn join(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &mut Device,
    grant: &Grant,
    now: u64,
) -> Result<Place, Refusal> {
    let mut first = None;
    for network in &grant.networks {
        let joined = roster::join(deployment, tx, device, network, grant.on_name_taken, now);
        let place = joined.await.map_err(join_refusal)?;
        first.get_or_insert(Place {
            label: place.label,
            network: place.name,
        });
    }
    for network in &grant.later {
        members::grant(tx, device.id, *network).await?;
    }
    first.ok_or_else(|| unknown_network(None))
}

/// Notes what a new device wants to join once a person has approved it. Returns what it is going to be called there unless the name
/// is taken.
async fn wait(tx: &mut Tx, device: &Device, grant: &Grant) -> Result<Place, Refusal> {
    let first = grant
        .networks
        .first()
        .ok_or_else(|| unknown_network(None))?;
    if waiting::count(tx, grant.org).await? >= WAITING_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{WAITING_MAX} devices wait for an approval already"),
            "an admin approves or removes some: `overlan admin device list` shows them",
        ));
    }
    let of_key = match &grant.auth_key {
        Some(key) => waiting::count_of_key(tx, key).await?,
        None => 0,
    };
    if of_key >= WAITING_OF_KEY_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{WAITING_OF_KEY_MAX} devices of this key wait for an approval already"),
            "an admin approves or removes some, or makes another key; `overlan admin device list` shows who waits",
        ));
    }
    for network in &grant.later {
        let joins = grant.networks.iter().any(|joined| joined.id == *network);
        let network = *network;
        waiting::insert(tx, device.id, Waiting { network, joins }).await?;
    }
    Ok(Place {
        label: device.hostname.clone(),
        network: first.name.clone(),
    })
}

fn check_keys(request: &EnrolRequest, exporter: &Exporter) -> Result<(), Refusal> {
    let identity = &request.identity;
    let message = enrolment_message(exporter, identity);
    check_signature("proof", identity, &message, &request.proof)?;
    let message = tunnel_key_message(&request.tunnel);
    let signature = &request.tunnel_signature;
    check_signature("tunnel key's signature", identity, &message, signature)
}

/// By what right a device asks. That there is one says nothing yet of what it allows now.
enum Right {
    /// A key of this controller, whatever its state, and the digest of its secret.
    Key { key: AuthKey, digest: Digest },
    /// Somebody who is logged in.
    Person(Person),
}

impl Right {
    async fn of_key(tx: &mut Tx, text: &Secret) -> Result<Self, Refusal> {
        let named =
            NamedSecret::parse(AUTH_KEY_PREFIX, text).ok_or_else(|| key_unknown(AUTH_KEY))?;
        let digest = named.digest;
        let key = keys::auth_key(tx, &named.id, &digest).await?;
        let key = key.ok_or_else(|| key_unknown(AUTH_KEY))?;
        Ok(Self::Key { key, digest })
    }

    fn org(&self) -> OrgId {
        match self {
            Self::Key { key, .. } => key.org,
            Self::Person(person) => person.org,
        }
    }
}

/// What a credential allows a device that is new.
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
    /// The note of the auth key; empty without one.
    note: String,
    /// Who or what authorised it, as people call it.
    by: String,
}

impl Grant {
    fn right(&self) -> budget::Right {
        match (&self.auth_key, self.account) {
            (Some(key), _) => budget::Right::Key(key.clone()),
            (None, account) => budget::Right::Account(account.unwrap_or_default()),
        }
    }
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
        let known = all.clone();
        wanted(all, &request.networks, |label| {
            unknown_network_among(label, &known)
        })?
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
        note: String::new(),
        by: format!(
            "login of {}",
            accounts::email_and_password(tx, person.account).await?.0
        ),
    })
}

async fn by_auth_key(
    tx: &mut Tx,
    key: AuthKey,
    digest: &Digest,
    request: &EnrolRequest,
    now: u64,
) -> Result<Grant, Refusal> {
    if !keys::consume_auth_key(tx, &key.id, digest, now).await? {
        let used = key.last_used.filter(|_| !key.reusable);
        let (revoked, expires) = (key.revoked, key.expires);
        return Err(key_refusal(AUTH_KEY, &key.id, revoked, expires, used, now));
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
        by: format!("auth key {}", noted(&key.id, &key.note)),
        note: key.note,
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
        key_note: grant.note.clone(),
        account: grant.account,
        places: Vec::new(),
    };
    devices::insert(tx, &device, now_ms).await?;
    Ok(device)
}

/// Devices of an organisation that may wait for an approval at once: more than a person looks through, and few enough that one key
/// that went astray fills no list.
const WAITING_MAX: u32 = 256;

/// Of these, devices that one key enrolled: one that went astray leaves room for those of others.
const WAITING_OF_KEY_MAX: u32 = 64;

/// Epoch of a new device's tickets.
const FIRST_EPOCH: u64 = 1;

/// Longest host name, characters (RFC 1035 gives 253 bytes).
const HOSTNAME_MAX: usize = 253;
