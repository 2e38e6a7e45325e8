//! `/v1/enrol`: a device comes in by an auth key, a login or the token of a job. [`crate::enrol`]
//! decides by what right, and into which networks.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use overlan_protocol::Exporter;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{Credential, EnrolRequest, EnrolResponse, ProblemKind};
use overlan_protocol::proof::{enrolment_message, tunnel_key_message};
use overlan_protocol::source_range::SourceRange;

use super::body::{Json, plain_text};
use super::caller::{FromAddress, Person, ThisChannel, check_signature, device_barred, person};
use super::changed::{Changed, and};
use super::networks::{unknown_network, unknown_network_among};
use super::problem::Refusal;
use crate::auth::{AUTH_KEY_PREFIX, NamedSecret};
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol::{
    self, ClaimRefusal, EnrolError, FirstPlace, GrantError, KeyKind, Sponsor, Workload,
    WorkloadError,
};
use crate::store::Tx;
use crate::store::devices::Device;
use crate::store::keys::{self, AuthKey};

/// Enrols the device, or returns its place if it is enrolled already.
pub(super) async fn enrol(
    State(deployment): State<Arc<Deployment>>,
    ThisChannel(exporter): ThisChannel,
    FromAddress(address): FromAddress,
    Json(request): Json<EnrolRequest>,
) -> Result<Changed<EnrolResponse>, Refusal> {
    check_keys(&request, &exporter)?;
    plain_text("the host name", &request.hostname, 0, HOSTNAME_MAX)?;
    let now_ms = clock::unix_millis();
    let now = UnixTime::from_secs(now_ms / 1_000);
    let presented = match &request.credential {
        Credential::Session(token) => Presented::Login(person(&deployment, token.reveal()).await?),
        Credential::AuthKey(key) => NamedSecret::parse(AUTH_KEY_PREFIX, key)
            .map(Presented::Key)
            .ok_or_else(|| Refusal::key_unknown(KeyKind::AuthKey))?,
        Credential::Workload(token) => {
            let believed = enrol::believe(&deployment, token.reveal(), now).await;
            let workload = believed.and_then(|believed| believed.workload());
            Presented::Job(Box::new(workload.map_err(refused)?))
        }
    };
    let mut tx = deployment.store.write().await?;
    let sponsor = sponsor(&mut tx, presented, address).await?;
    if let Some((mut device, first)) = enrol::find(&mut tx, &sponsor, &request).await? {
        if device.expires.is_some() {
            let by = enrol::renew(&mut tx, sponsor, &mut device, now).await?;
            deployment.store.commit(tx).await?;
            let what = format!("device {} proved its right again, by {by}", device.called());
            return Ok(Changed::new(what, answer(&deployment, &device, first, now)));
        }
        return Ok(Changed::nothing(answer(&deployment, &device, first, now)));
    }
    let enrolled = enrol::enrol(&deployment, &mut tx, sponsor, &request, now_ms).await?;
    deployment.store.commit(tx).await?;
    if enrolled.ends {
        deployment.ends_changed.store(true, Ordering::Relaxed);
        deployment.presence_changed.notify_one();
    }
    let what = format!(
        "enrolled device {}.{}{}, by {}",
        enrolled.first.label,
        enrolled.first.network,
        match enrolled.waits {
            true => ", which waits for approval",
            false => "",
        },
        enrolled.by
    );
    let answer = answer(&deployment, &enrolled.device, enrolled.first, now);
    Ok(Changed::new(what, answer))
}

/// A credential whose form is right.
enum Presented {
    Key(NamedSecret),
    Login(Person),
    Job(Box<Workload>),
}

async fn sponsor(tx: &mut Tx, presented: Presented, address: IpAddr) -> Result<Sponsor, Refusal> {
    match presented {
        Presented::Login(Person { org, account, .. }) => Ok(Sponsor::Person { org, account }),
        Presented::Job(workload) => Ok(Sponsor::Workload(workload)),
        Presented::Key(NamedSecret { id, digest }) => {
            let key = keys::auth_key(tx, &id, &digest).await?;
            let key = key.ok_or_else(|| Refusal::key_unknown(KeyKind::AuthKey))?;
            if !key.may_come_from(address) {
                return Err(elsewhere(&key, address));
            }
            let key = Box::new(key);
            Ok(Sponsor::Key { key, digest })
        }
    }
}

fn elsewhere(key: &AuthKey, address: IpAddr) -> Refusal {
    let from = and(key.sources.iter().map(SourceRange::to_string));
    Refusal::new(
        ProblemKind::Forbidden,
        &format!(
            "auth key {} does not work from {}",
            key.id,
            address.to_canonical()
        ),
        format!("it was made for {from}; an admin makes another one"),
    )
}

fn answer(
    deployment: &Deployment,
    device: &Device,
    first: FirstPlace,
    now: UnixTime,
) -> EnrolResponse {
    EnrolResponse {
        device: device.id,
        ticket: deployment.keys.signer().issue(device, now),
        label: first.label,
        network: first.network,
        domain: deployment.domain.clone(),
    }
}

/// Refuses the token of a job, in one line that names the claim.
pub(super) fn refused(error: WorkloadError) -> Refusal {
    let token = |detail: String| {
        tracing::debug!(detail, "a workload token is refused");
        let title = "the workload token is refused";
        Refusal::new(ProblemKind::TokenRefused, title, detail)
    };
    match error {
        WorkloadError::Token(refusal) => token(refusal.to_string()),
        WorkloadError::Claims(refusal) => token(refusal.to_string()),
        WorkloadError::Issuer { issuer, error } => {
            tracing::debug!(%issuer, %error, "an issuer has no keys for us");
            Refusal::new(
                ProblemKind::IssuerUnreachable,
                "the workload token cannot be checked",
                format!("the keys of the issuer in claim iss, {issuer}, are not there: {error}"),
            )
        }
        WorkloadError::Store(error) => error.into(),
    }
}

fn check_keys(request: &EnrolRequest, exporter: &Exporter) -> Result<(), Refusal> {
    let identity = &request.identity;
    let message = enrolment_message(exporter, identity);
    check_signature("proof", identity, &message, &request.proof)?;
    let message = tunnel_key_message(&request.tunnel);
    let signature = &request.tunnel_signature;
    check_signature("tunnel key's signature", identity, &message, signature)
}

impl From<EnrolError> for Refusal {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::OtherTunnelKey => Self::new(
                ProblemKind::Forbidden,
                "this device is enrolled with another tunnel key",
                "enrol it again with new keys: `overlan logout`, then `overlan up`",
            ),
            EnrolError::Disabled(device, barred) => device_barred(&device, barred),
            EnrolError::InNoNetwork => Self::new(
                ProblemKind::Forbidden,
                "this device is not in any network any more",
                "an admin can put it back: `overlan admin network add NETWORK DEVICE`",
            ),
            EnrolError::KeyEnded { id, end, ago } => {
                Self::key_ended(KeyKind::AuthKey, &id, end, ago)
            }
            EnrolError::TokenUsed => Self::new(
                ProblemKind::TokenRefused,
                "the workload token is refused",
                "claim jti: this token enrolled a device before; each device needs a token of its \
                 own",
            ),
            EnrolError::RuleGone => refused(WorkloadError::Claims(ClaimRefusal::NoRule)),
            EnrolError::Grant(GrantError::UnknownNetwork { label, known }) => {
                unknown_network_among(&label, &known)
            }
            EnrolError::Grant(GrantError::NotOfRight {
                right,
                label,
                allowed,
            }) => Self::new(
                ProblemKind::Forbidden,
                &format!("the {right} does not let devices join {label:?}"),
                format!("it lets them join {}", allowed.join(", ")),
            ),
            EnrolError::NoNetwork => unknown_network(None),
            EnrolError::TooOften(wait) => Self::too_often(
                "too many devices were enrolled lately with this key, rule or login",
                wait,
            ),
            EnrolError::Quota(error) => error.into(),
            EnrolError::Join(error) => error.into(),
            EnrolError::Store(error) => error.into(),
        }
    }
}

/// Longest host name, characters (RFC 1035 gives 253 bytes).
const HOSTNAME_MAX: usize = 253;
