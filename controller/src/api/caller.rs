//! Decides who calls: the person of a session, or a device or relay that proved its key on this
//! very connection. [`admit`] finds the caller before the handler; handlers take it by extractors.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use overlan_protocol::api::{ApiTokenSummary, Bar, Barred, Permission, ProblemKind, Role};
use overlan_protocol::key::{IdentityKey, Secret};
use overlan_protocol::proof::{ChannelProof, Principal};
use overlan_protocol::{Exporter, UnixTime};

use super::channel::Channel;
use super::endpoint::Access;
use super::problem::Refusal;
use crate::access::{self, Scopes};
use crate::auth::{
    API_TOKEN_PREFIX, API_TOKEN_TOUCH, NamedSecret, SESSION_IDLE, SESSION_PREFIX, SESSION_TOUCH,
    digest,
};
use crate::clock;
use crate::deployment::Deployment;
use crate::limits::Caller;
use crate::netmaps::OrgId;
use crate::store::accounts::Digest;
use crate::store::api_tokens::{self, ApiToken};
use crate::store::devices::Device;
use crate::store::relays::RelayRow;
use crate::store::{accounts, devices, relays, sessions};

/// A person who is logged in, or whose program has an API token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) org: OrgId,
    pub(super) account: i64,
    pub(super) role: Role,
    /// The SHA-256 of the session or API token.
    pub(super) token: Digest,
    /// The scopes of an API token; `None` for a session.
    scopes: Option<Scopes>,
}

/// A device that proved its key on this connection.
#[derive(Debug, Clone)]
pub(super) struct DeviceCaller(pub(super) Device);

/// A device that proved its key on this connection and has not made too many changes lately.
#[derive(Debug)]
pub(super) struct ChangingDevice(pub(super) Device);

/// The device that proved its key on this connection, if there is one.
#[derive(Debug)]
pub(super) struct ProvenDevice(pub(super) Option<Device>);

/// The address that the connection comes from, as connections are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

/// The address that the connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromAddress(pub(super) IpAddr);

/// A relay that proved its key on this connection.
#[derive(Debug, Clone)]
pub(super) struct RelayCaller(pub(super) RelayRow);

/// The TLS exporter of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThisChannel(pub(super) Exporter);

/// Finds the caller of a request, and refuses one that `access` does not admit. The handler's
/// extractors find the caller afterwards.
pub(super) async fn admit(
    parts: &mut Parts,
    deployment: &Deployment,
    access: Access,
) -> Result<(), Refusal> {
    match access {
        Access::Anybody => {}
        Access::OwnAccount => {
            let person = Person::calling(parts, deployment).await?;
            if person.scopes.is_some() {
                return Err(needs_login());
            }
            parts.extensions.insert(person);
        }
        Access::May(permission) => {
            let person = Person::calling(parts, deployment).await?;
            person.check(permission)?;
            parts.extensions.insert(person);
        }
        Access::Device => {
            let device = DeviceCaller::calling(parts, deployment).await?;
            parts.extensions.insert(device);
        }
        Access::Relay => {
            let relay = RelayCaller::calling(parts, deployment).await?;
            parts.extensions.insert(relay);
        }
    }
    Ok(())
}

/// Takes the caller that [`admit`] found.
fn admitted<T: Clone + Send + Sync + 'static>(parts: &mut Parts) -> Result<T, Refusal> {
    let caller = parts.extensions.remove::<T>();
    caller
        .ok_or_else(|| Refusal::internal(&"a handler wants a caller that its route does not admit"))
}

impl Person {
    async fn calling(parts: &Parts, deployment: &Deployment) -> Result<Self, Refusal> {
        let token = authorization(parts)
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(not_authenticated)?;
        let person = match token.trim().starts_with(API_TOKEN_PREFIX) {
            true => by_api_token(deployment, token, channel(parts)?.source).await?,
            false => person(deployment, token).await?,
        };
        let email = {
            let mut tx = deployment.store.read().await?;
            accounts::email(&mut tx, person.account).await?
        };
        let email = email.unwrap_or_default();
        take_place(parts, Caller::Person(person.account), &email)?;
        Ok(person)
    }

    /// Says whether an API token asks in place of a login.
    pub(super) fn is_program(&self) -> bool {
        self.scopes.is_some()
    }

    fn check(&self, permission: Permission) -> Result<(), Refusal> {
        if !access::allows(self.role, permission) {
            return Err(role_forbids(self.role, permission));
        }
        match self.scopes {
            Some(scopes) if !scopes.contain(permission) => Err(token_forbids(permission)),
            Some(_) | None => Ok(()),
        }
    }
}

impl FromRequestParts<Arc<Deployment>> for Person {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        admitted(parts)
    }
}

/// Finds the person that a session token belongs to.
pub(super) async fn person(deployment: &Deployment, token: &str) -> Result<Person, Refusal> {
    let token = token.trim();
    if !token.starts_with(SESSION_PREFIX) {
        return Err(not_authenticated());
    }
    let token = digest(token);
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let session = sessions::get(&mut tx, &token, now, SESSION_IDLE).await?;
    drop(tx);
    let session = session.ok_or_else(not_authenticated)?;
    if now >= session.last_used + SESSION_TOUCH {
        let mut tx = deployment.store.write().await?;
        sessions::touch(&mut tx, &token, now).await?;
        deployment.store.commit(tx).await?;
    }
    Ok(Person {
        org: session.org,
        account: session.account,
        role: session.role,
        token,
        scopes: None,
    })
}

/// Finds the person whose program has an API token. Their role is the present one: a token never
/// has more rights than its maker.
async fn by_api_token(
    deployment: &Deployment,
    text: &str,
    source: IpAddr,
) -> Result<Person, Refusal> {
    let named = NamedSecret::parse(API_TOKEN_PREFIX, &Secret::new(text));
    let named = named.ok_or_else(token_unknown)?;
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let found = api_tokens::get(&mut tx, &named.id, &named.digest).await?;
    drop(tx);
    let ApiToken {
        org,
        account,
        role,
        summary,
    } = found.ok_or_else(token_unknown)?;
    if now >= summary.expires {
        return Err(token_expired(&summary, now));
    }
    let is_fresh = |used| now < used + API_TOKEN_TOUCH;
    if !summary.last_used.is_some_and(is_fresh) || summary.last_source != source.to_string() {
        let mut tx = deployment.store.write().await?;
        api_tokens::touch(&mut tx, &summary.id, source, now).await?;
        deployment.store.commit(tx).await?;
    }
    Ok(Person {
        org,
        account,
        token: named.digest,
        role,
        scopes: Some(Scopes::stored(&summary.scopes)),
    })
}

impl DeviceCaller {
    async fn calling(parts: &Parts, deployment: &Deployment) -> Result<Self, Refusal> {
        let (proof, exporter) = proof(parts)?;
        let Principal::Device(id) = proof.principal else {
            return Err(not_authenticated());
        };
        let mut tx = deployment.store.read().await?;
        if let Some(device) = devices::get(&mut tx, id).await? {
            check(&proof, &device.identity, &exporter)?;
            take_place(parts, Caller::Device(id), &device.hostname)?;
            if let Some(barred) = device.barred {
                return Err(device_barred(&device, barred));
            }
            return Ok(Self(device));
        }
        let removed = devices::removed_identity(&mut tx, id).await?;
        let identity = removed.ok_or_else(device_unknown)?;
        check(&proof, &identity, &exporter)?;
        Err(device_removed())
    }
}

impl FromRequestParts<Arc<Deployment>> for DeviceCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        admitted(parts)
    }
}

impl FromRequestParts<Arc<Deployment>> for ChangingDevice {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        deployment: &Arc<Deployment>,
    ) -> Result<Self, Refusal> {
        let DeviceCaller(device) = DeviceCaller::from_request_parts(parts, deployment).await?;
        let counted = deployment
            .budgets
            .lock()
            .changes
            .count(clock::now(), device.id);
        let what = "this device changes its networks or routes too often";
        counted.map_err(|wait| Refusal::too_often(what, wait))?;
        Ok(Self(device))
    }
}

impl FromRequestParts<Arc<Deployment>> for ProvenDevice {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        deployment: &Arc<Deployment>,
    ) -> Result<Self, Refusal> {
        // A caller without a valid proof is a stranger, and no worse.
        let device = DeviceCaller::calling(parts, deployment).await;
        Ok(Self(device.ok().map(|DeviceCaller(device)| device)))
    }
}

impl FromRequestParts<Arc<Deployment>> for FromAddress {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        Ok(Self(channel(parts)?.address))
    }
}

impl FromRequestParts<Arc<Deployment>> for Source {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        Ok(Self(channel(parts)?.source))
    }
}

impl RelayCaller {
    async fn calling(parts: &Parts, deployment: &Deployment) -> Result<Self, Refusal> {
        let (proof, exporter) = proof(parts)?;
        let Principal::Relay(id) = proof.principal else {
            return Err(not_authenticated());
        };
        let mut tx = deployment.store.read().await?;
        let relay = relays::get(&mut tx, id).await?;
        let relay = relay.ok_or_else(relay_unknown)?;
        check(&proof, &relay.identity, &exporter)?;
        take_place(parts, Caller::Relay(id), &relay.name)?;
        Ok(Self(relay))
    }
}

impl FromRequestParts<Arc<Deployment>> for RelayCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        admitted(parts)
    }
}

impl FromRequestParts<Arc<Deployment>> for ThisChannel {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        Ok(Self(channel(parts)?.exporter))
    }
}

fn proof(parts: &Parts) -> Result<(ChannelProof, Exporter), Refusal> {
    let proof = authorization(parts).and_then(ChannelProof::from_header);
    let proof = proof.ok_or_else(not_authenticated)?;
    Ok((proof, channel(parts)?.exporter))
}

/// Moves the connection from the strangers to its caller.
fn take_place(parts: &Parts, caller: Caller, name: &str) -> Result<(), Refusal> {
    Ok(channel(parts)?.seat.prove(caller, name)?)
}

fn check(proof: &ChannelProof, identity: &IdentityKey, exporter: &Exporter) -> Result<(), Refusal> {
    if proof.is_proved_by(identity, exporter) {
        Ok(())
    } else {
        Err(not_authenticated())
    }
}

fn channel(parts: &Parts) -> Result<&Channel, Refusal> {
    let channel = parts.extensions.get::<Channel>();
    channel.ok_or_else(|| Refusal::internal(&"a request came on no connection"))
}

fn authorization(parts: &Parts) -> Option<&str> {
    parts.headers.get(header::AUTHORIZATION)?.to_str().ok()
}

pub(super) fn not_authenticated() -> Refusal {
    Refusal::new(
        ProblemKind::NotAuthenticated,
        "the controller does not know who is asking",
        "log in again; a device or relay that is not known any more must enrol again",
    )
}

fn needs_login() -> Refusal {
    Refusal::new(
        ProblemKind::Forbidden,
        "an API token cannot do this: it belongs to the account itself",
        "log in as the person: `overlan login`",
    )
}

fn token_unknown() -> Refusal {
    Refusal::new(
        ProblemKind::KeyUnknown,
        "this API token is not known",
        "copy all of it; if that does not help, it was revoked or ended long ago: make a new one \
         with `overlan admin api-token create`",
    )
}

fn token_expired(token: &ApiTokenSummary, now: UnixTime) -> Refusal {
    let secs = now.since(token.expires).as_secs();
    let title = format!("API token {} ({}) has expired", token.id, token.name);
    let detail = format!("{secs} s ago; make a new one with `overlan admin api-token create`");
    Refusal::new(ProblemKind::KeyExpired, &title, detail).status(StatusCode::UNAUTHORIZED)
}

fn token_forbids(permission: Permission) -> Refusal {
    Refusal::new(
        ProblemKind::Forbidden,
        &format!("this API token does not have the scope {permission}"),
        "make one that has it: `overlan admin api-token create NAME --scope …`",
    )
}

fn role_forbids(role: Role, permission: Permission) -> Refusal {
    let holders = access::holders(permission).into_iter().map(Role::name);
    let holders: Vec<&str> = holders.collect();
    Refusal::new(
        ProblemKind::Forbidden,
        &format!("the role {role} does not have the permission {permission}"),
        format!("ask somebody who has it: {}", holders.join(" or ")),
    )
}

fn device_unknown() -> Refusal {
    Refusal::new(
        ProblemKind::DeviceUnknown,
        "the controller does not know this device",
        "its database is older than this enrolment, and may have been restored from a backup; \
         enrol the device again",
    )
}

fn relay_unknown() -> Refusal {
    Refusal::new(
        ProblemKind::RelayUnknown,
        "the controller does not know this relay",
        "it was removed, or the database is older than it; make a token with `overlan admin \
         relay-token create NAME`, and start the relay with that token and an empty --state-dir",
    )
}

/// A device that is known and takes no part.
pub(super) fn device_barred(device: &Device, barred: Barred) -> Refusal {
    let ago = clock::wall().since(barred.since).as_secs();
    let called = device.called();
    match barred.why {
        Bar::Disabled => Refusal::new(
            ProblemKind::DeviceDisabled,
            &format!("an admin disabled this device, {called}, {ago} s ago"),
            format!("an admin lets it in again: `overlan admin device enable {called}`"),
        ),
        Bar::Expired => Refusal::new(
            ProblemKind::DeviceExpired,
            &format!("the right of this device, {called}, expired {ago} s ago"),
            format!(
                "prove it again on the device: `overlan login`, or get an auth key, and start \
                 `overlan up` again; or an admin runs `overlan admin device enable {called}`"
            ),
        ),
    }
}

pub(super) fn device_removed() -> Refusal {
    Refusal::new(
        ProblemKind::DeviceRemoved,
        "this device was removed from its network",
        "enrol it again",
    )
}

/// Checks a signature of `identity`, given as text.
pub(super) fn check_signature(
    what: &str,
    identity: &IdentityKey,
    message: &[u8],
    signature: &str,
) -> Result<(), Refusal> {
    let valid = overlan_protocol::key::decode_signature(signature)
        .is_ok_and(|signature| identity.verifies(message, &signature));
    if valid {
        Ok(())
    } else {
        Err(Refusal::new(
            ProblemKind::NotAuthenticated,
            &format!("the {what} is not valid"),
            "it must be made by the identity key, for this very connection",
        ))
    }
}
