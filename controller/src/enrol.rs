//! Enrols a device: by whose right it comes in, into which networks, or whether it waits for
//! approval first. Runs inside its caller's transaction; knows no HTTP, and checks no proof and no
//! signature.
//!
//! ```text
//! sponsor → grant (networks, quotas) → budget → device without networks ─┬→ joins them
//!                                                                        └→ waits for approval
//! ```

mod credential;
mod grant;
mod quota;
mod trust;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{Bar, Barred, EnrolRequest};
use overlan_protocol::key::DeviceId;
use overlan_protocol::name::label_from_hostname;

pub(crate) use self::credential::{KeyEnd, KeyKind, key_end, noted};
pub(crate) use self::grant::{Grant, GrantError};
pub(crate) use self::quota::{
    DeviceLimits, QuotaError, RelayNameError, one_more_auth_key, one_more_network,
    one_more_trust_rule, relay_named,
};
pub(crate) use self::trust::{ClaimRefusal, TrustRule, examine};
pub(crate) use self::workload::{Workload, WorkloadError, believe};

use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::placement::Placement;
use crate::roster::{self, JoinError};
use crate::store::accounts::{self, Digest};
use crate::store::devices::{self, Device};
use crate::store::keys::{self, AuthKey};
use crate::store::waiting::{self, AwaitedNetwork};
use crate::store::{StoreError, Tx, device_rights, members, relays, trust_rules};

/// The key, person or job by whose right a device asks. Says nothing yet of what the right allows
/// now.
#[derive(Debug)]
pub(crate) enum Sponsor {
    /// A key of this controller in whatever state, and the digest of its secret.
    Key { key: Box<AuthKey>, digest: Digest },
    /// The account of a person who is logged in.
    Person { org: OrgId, account: i64 },
    /// A job whose token a trust rule accepts.
    Workload(Box<Workload>),
}

impl Sponsor {
    /// Returns the organisation that the device comes into.
    pub(crate) fn org(&self) -> OrgId {
        match self {
            Self::Key { key, .. } => key.org,
            Self::Person { org, .. } => *org,
            Self::Workload(workload) => workload.rule.org,
        }
    }
}

/// The reason why a device is not enrolled. One variant per thing that the API answers differently.
#[derive(Debug)]
pub(crate) enum EnrolError {
    /// The device is enrolled, with another tunnel key.
    OtherTunnelKey,
    /// The device is enrolled, and an admin disabled it.
    Disabled(Box<Device>, Barred),
    /// The device is enrolled, and was taken out of every network.
    InNoNetwork,
    /// The key cannot be used any more, since so many seconds.
    KeyEnded {
        id: String,
        end: KeyEnd,
        ago: Duration,
    },
    /// The token of a job enrolled another device before.
    TokenUsed,
    /// The trust rule was removed meanwhile.
    RuleGone,
    /// The right does not lead into a network that was asked for.
    Grant(GrantError),
    /// The right leads into no network at all.
    NoNetwork,
    /// The right enrolled too many devices lately; it may try again after this time.
    TooOften(Duration),
    /// A quota is used up.
    Quota(QuotaError),
    /// A network does not take the device.
    Join(JoinError),
    /// The database failed.
    Store(StoreError),
}

impl From<StoreError> for EnrolError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<JoinError> for EnrolError {
    fn from(error: JoinError) -> Self {
        Self::Join(error)
    }
}

/// The name of a device in its first network.
#[derive(Debug)]
pub(crate) struct FirstPlace {
    pub(crate) label: String,
    pub(crate) network: String,
}

/// A device that was enrolled just now.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) device: Device,
    pub(crate) first: FirstPlace,
    /// It waits for approval.
    pub(crate) waits: bool,
    /// It ends at a time.
    pub(crate) ends: bool,
    /// The key or login that authorised it, as people call it.
    pub(crate) by: String,
}

/// Finds a device that is enrolled already, since the answer to its first attempt may have been
/// lost. Reads what is, whatever became of the credential, and changes nothing: a device that could
/// join once may have been taken out since.
pub(crate) async fn find(
    tx: &mut Tx,
    sponsor: &Sponsor,
    request: &EnrolRequest,
) -> Result<Option<(Device, FirstPlace)>, EnrolError> {
    let Some(device) = devices::by_identity(tx, sponsor.org(), &request.identity).await? else {
        return Ok(None);
    };
    if device.tunnel != request.tunnel {
        return Err(EnrolError::OtherTunnelKey);
    }
    if let Some(barred) = device.barred.filter(|barred| barred.why == Bar::Disabled) {
        return Err(EnrolError::Disabled(Box::new(device), barred));
    }
    if let Some(place) = device.places.first() {
        let first = FirstPlace {
            label: place.label.clone(),
            network: place.name.clone(),
        };
        return Ok(Some((device, first)));
    }
    let awaited = waiting::of_device(tx, device.id).await?;
    let networks = accounts::networks(tx, device.org).await?;
    let first = awaited.iter().find(|awaited| awaited.joins);
    let first = first.and_then(|first| networks.iter().find(|known| known.id == first.network));
    let first = first.ok_or(EnrolError::InNoNetwork)?;
    let first = FirstPlace {
        label: device.hostname.clone(),
        network: first.name.clone(),
    };
    Ok(Some((device, first)))
}

/// Renews the right of a device that has to prove it again, by one that leads into all its
/// networks. Returns the key or login, as people call it.
pub(crate) async fn renew(
    tx: &mut Tx,
    sponsor: Sponsor,
    device: &mut Device,
    now: UnixTime,
) -> Result<String, EnrolError> {
    let networks: Vec<String> = device.places.iter().map(|it| it.name.clone()).collect();
    let grant = use_right(tx, sponsor, &networks, now).await?;
    device_rights::set_expiry(tx, device.id, None).await?;
    device.expires = None;
    if device.barred.is_some() {
        roster::admit(tx, device, now).await?;
    }
    Ok(grant.by)
}

/// Enrols a device that is not enrolled yet, by the right of its sponsor.
pub(crate) async fn enrol(
    deployment: &Deployment,
    tx: &mut Tx,
    sponsor: Sponsor,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Enrolled, EnrolError> {
    let now = UnixTime::from_secs(now_ms / 1_000);
    let grant = use_right(tx, sponsor, &request.networks, now).await?;
    let right = grant.right.clone();
    let counted = {
        let mut budgets = deployment.budgets.lock();
        budgets.enrolments.count(clock::now(), right)
    };
    counted.map_err(EnrolError::TooOften)?;
    let of_org = device_rights::count(tx, grant.org).await?;
    let of_person = match grant.account() {
        Some(account) => device_rights::count_of_account(tx, grant.org, account).await?,
        None => 0,
    };
    let may_come = quota::one_more_device(deployment.device_limits, of_org, of_person);
    may_come.map_err(EnrolError::Quota)?;
    let mut device = add_device(tx, &grant, request, now_ms).await?;
    let first = match grant.approval {
        true => wait(tx, &device, &grant).await?,
        false => join(deployment, tx, &mut device, &grant, now).await?,
    };
    Ok(Enrolled {
        device,
        first,
        waits: grant.approval,
        ends: grant.ends.is_some(),
        by: grant.by,
    })
}

/// Uses a right once: a key that is for one use is used up, and so is a job's token.
async fn use_right(
    tx: &mut Tx,
    sponsor: Sponsor,
    wanted: &[String],
    now: UnixTime,
) -> Result<Grant, EnrolError> {
    let grant = match sponsor {
        Sponsor::Key { key, digest } => {
            if !keys::consume_auth_key(tx, &key.id, &digest, now).await? {
                let used = key.last_used.filter(|_| key.is_used_up());
                let (end, ago) = key_end(key.revoked, used, key.expires, now);
                let id = key.id;
                return Err(EnrolError::KeyEnded { id, end, ago });
            }
            let networks = accounts::networks(tx, key.org).await?;
            Grant::of_auth_key(*key, networks, wanted)
        }
        Sponsor::Person { org, account } => {
            let networks = accounts::networks(tx, org).await?;
            let (email, _) = accounts::email_and_password(tx, account).await?;
            Grant::of_person(org, account, &email, networks, wanted)
        }
        Sponsor::Workload(workload) => {
            if !trust_rules::note_use(tx, &workload.rule.id, now).await? {
                return Err(EnrolError::RuleGone);
            }
            if !trust_rules::use_token(tx, &workload.digest, workload.expires).await? {
                return Err(EnrolError::TokenUsed);
            }
            let networks = accounts::networks(tx, workload.rule.org).await?;
            Grant::of_workload(*workload, networks, wanted, now)
        }
    };
    grant.map_err(EnrolError::Grant)
}

/// Writes a new device that is in no network yet.
async fn add_device(
    tx: &mut Tx,
    grant: &Grant,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Device, StoreError> {
    let id = DeviceId::random();
    let mut placement = Placement::new(relays::candidates(tx, grant.org).await?);
    let device = Device {
        id,
        org: grant.org,
        hostname: match &grant.hostname {
            Some(given) => given.clone(),
            None => label_from_hostname(&request.hostname),
        },
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
        auth_key: grant.key().map(str::to_owned),
        key_note: grant.note.clone(),
        account: grant.account(),
        tags: grant.tags.clone(),
        barred: None,
        expires: None,
        version: String::new(),
        ephemeral_secs: grant.ephemeral_secs,
        offline_since: UnixTime::from_secs(now_ms / 1_000),
        created: UnixTime::from_secs(now_ms / 1_000),
        places: Vec::new(),
    };
    devices::insert(tx, &device, now_ms).await?;
    if let Some(ends) = grant.ends {
        trust_rules::set_end(tx, id, ends).await?;
    }
    Ok(device)
}

/// Brings a new device into the networks of its grant.
async fn join(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &mut Device,
    grant: &Grant,
    now: UnixTime,
) -> Result<FirstPlace, EnrolError> {
    let mut first = None;
    for network in &grant.networks {
        let joined = roster::join(deployment, tx, device, network, grant.on_name_taken, now);
        let place = joined.await?;
        first.get_or_insert(FirstPlace {
            label: place.label,
            network: place.name,
        });
    }
    for network in &grant.later {
        members::grant(tx, device.id, *network).await?;
    }
    first.ok_or(EnrolError::NoNetwork)
}

/// Notes the networks that a new device joins once a person has approved it. Returns the name that
/// it gets in the first one unless that is taken by then.
async fn wait(tx: &mut Tx, device: &Device, grant: &Grant) -> Result<FirstPlace, EnrolError> {
    let first = grant.networks.first().ok_or(EnrolError::NoNetwork)?;
    let of_org = waiting::count(tx, grant.org).await?;
    let of_key = match grant.key() {
        Some(key) => waiting::count_of_key(tx, key).await?,
        None => 0,
    };
    quota::one_more_waiting(of_org, of_key).map_err(EnrolError::Quota)?;
    for network in &grant.later {
        let joins = grant.networks.iter().any(|joined| joined.id == *network);
        let network = *network;
        waiting::insert(tx, device.id, AwaitedNetwork { network, joins }).await?;
    }
    Ok(FirstPlace {
        label: device.hostname.clone(),
        network: first.name.clone(),
    })
}

/// Epoch of a new device's tickets.
const FIRST_EPOCH: u64 = 1;
