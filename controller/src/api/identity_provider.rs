//! The identity provider of an organisation: people with the right set, show, test and remove it.
//! Logins by it are elsewhere.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::api::{
    GROUPS_CLAIM, IdentityProviderRequest, IdentityProviderState, IdentityProviderSummary,
    IdentityProviderTest, ProblemKind, path,
};
use overlan_protocol::name::is_domain;

use super::body::{Empty, Json, plain_text};
use super::caller::Person;
use super::changed::Changed;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::identities::{client, client_place};
use crate::netmaps::{Fact, OrgId};
use crate::oidc::{self, IssuerUrl, ProviderError};
use crate::store::identity_providers::{self, IdentityProvider};
use crate::store::{Tx, changes, identities};

pub(super) async fn show(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<IdentityProviderState>, Refusal> {
    let mut tx = deployment.store.read().await?;
    Ok(Json(state(&mut tx, &deployment, person.org).await?))
}

/// Sets the provider. What an earlier one said of people does not count any more, unless this is
/// the same issuer, for which subjects mean the same people.
pub(super) async fn set(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<IdentityProviderRequest>,
) -> Result<Changed<IdentityProviderState>, Refusal> {
    let now = clock::wall();
    let mut provider = readable_provider(&request, person.org)?;
    provider.changed = now;
    let mut tx = deployment.store.write().await?;
    let before = identity_providers::get(&mut tx, person.org).await?;
    let is_same = |before: &IdentityProvider| {
        before.issuer == provider.issuer && before.client_id == provider.client_id
    };
    provider.sealed_secret = match (&request.client_secret, &before) {
        (Some(secret), _) => {
            let length = secret.reveal().len();
            if !(1..=SECRET_MAX).contains(&length) {
                let text = format!("the client secret must have 1 to {SECRET_MAX} bytes");
                return Err(Refusal::bad_request(text));
            }
            deployment.sealer.seal(&client_place(person.org), secret)
        }
        (None, Some(before)) if is_same(before) => before.sealed_secret.clone(),
        (None, Some(_) | None) => return Err(no_secret()),
    };
    identity_providers::put(&mut tx, &provider).await?;
    if before.is_some_and(|before| before.issuer != provider.issuer) {
        forget(&mut tx, person.org).await?;
    }
    let state = state(&mut tx, &deployment, person.org).await?;
    deployment.store.commit(tx).await?;
    let what = format!("set the identity provider {}", provider.issuer);
    Ok(Changed::new(what, state))
}

pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    if !identity_providers::remove(&mut tx, person.org).await? {
        return Ok(Changed::nothing(Empty {}));
    }
    forget(&mut tx, person.org).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new("removed the identity provider", Empty {}))
}

/// Asks the provider for its documents, and says what a login by it would meet.
pub(super) async fn test(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(Empty {}): Json<Empty>,
) -> Result<Changed<IdentityProviderTest>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let provider = identity_providers::get(&mut tx, person.org).await?;
    drop(tx);
    let provider = provider.ok_or_else(none)?;
    let client = client(&deployment.sealer, &provider).ok_or_else(secret_lost)?;
    let asked = client.endpoints(&deployment.issuers).await;
    let endpoints = asked.map_err(|error| silent(&error))?;
    let keys = client.check_keys(&deployment.issuers).await;
    keys.map_err(|error| silent(&error))?;
    Ok(Changed::nothing(IdentityProviderTest {
        authorization_endpoint: endpoints.authorization.text().to_owned(),
        token_endpoint: endpoints.token.text().to_owned(),
        scopes: endpoints.scopes.clone(),
        warnings: endpoints.warnings(),
    }))
}

/// Returns the address to which providers send browsers back.
pub(super) fn redirect_uri(deployment: &Deployment) -> String {
    format!("{}{}", deployment.origin, path::SSO_CALLBACK)
}

async fn state(
    tx: &mut Tx,
    deployment: &Deployment,
    org: OrgId,
) -> Result<IdentityProviderState, Refusal> {
    let provider = match identity_providers::get(tx, org).await? {
        None => None,
        Some(provider) => Some(IdentityProviderSummary {
            issuer: provider.issuer,
            client_id: provider.client_id,
            domains: provider.domains,
            groups_claim: provider.groups_claim,
            has_issuer_ca: provider.issuer_ca.is_some(),
            changed: provider.changed,
            people: identities::count(tx, org).await?,
        }),
    };
    Ok(IdentityProviderState {
        redirect_uri: redirect_uri(deployment),
        provider,
    })
}

/// Forgets whom the provider named, and their groups.
async fn forget(tx: &mut Tx, org: OrgId) -> Result<(), Refusal> {
    if identities::forget(tx, org).await? > 0 {
        changes::append(tx, org, None, &Fact::Policy, clock::wall()).await?;
    }
    Ok(())
}

/// Checks everything of a provider that can be checked without asking it. Returns it without its
/// secret.
fn readable_provider(
    request: &IdentityProviderRequest,
    org: OrgId,
) -> Result<IdentityProvider, Refusal> {
    let issuer = plain_text("the issuer", &request.issuer, 1, VALUE_MAX)?;
    let read = IssuerUrl::parse(&issuer);
    read.map_err(|error| Refusal::bad_request(format!("the issuer {issuer:?}: {error}")))?;
    if let Some(ca) = &request.issuer_ca {
        oidc::check_ca(ca)
            .map_err(|error| Refusal::bad_request(format!("the issuer's CA: {error}")))?;
    }
    if request.domains.len() > DOMAINS_MAX {
        let text = format!("an identity provider speaks for {DOMAINS_MAX} domains at most");
        return Err(Refusal::bad_request(text));
    }
    let mut domains = Vec::with_capacity(request.domains.len());
    for domain in &request.domains {
        let domain = domain.trim().to_lowercase();
        if !is_domain(&domain) {
            let text = format!("{domain:?} is not a domain: write example.com");
            return Err(Refusal::bad_request(text));
        }
        domains.push(domain);
    }
    domains.sort_unstable();
    domains.dedup();
    let groups_claim = match request.groups_claim.trim() {
        "" => GROUPS_CLAIM.to_owned(),
        claim => plain_text("the name of the groups claim", claim, 1, VALUE_MAX)?,
    };
    Ok(IdentityProvider {
        org,
        issuer,
        issuer_ca: request.issuer_ca.clone(),
        client_id: plain_text("the client id", &request.client_id, 1, VALUE_MAX)?,
        sealed_secret: Vec::new(),
        domains,
        groups_claim,
        changed: clock::wall(),
    })
}

/// Says why the provider did not answer as it should.
pub(super) fn silent(error: &ProviderError) -> Refusal {
    Refusal::new(
        ProblemKind::IssuerUnreachable,
        &format!("the identity provider is of no use: {error}"),
        "`overlan admin identity-provider show` shows what is set; a CA of its own is given with \
         --issuer-ca",
    )
}

/// There is no provider.
pub(super) fn none() -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        "the organisation has no identity provider",
        "an owner sets one: `overlan admin identity-provider set --help`",
    )
}

/// The secret was sealed by another key.
pub(super) fn secret_lost() -> Refusal {
    Refusal::new(
        ProblemKind::Conflict,
        "the secret of the identity provider's client cannot be opened",
        "the file sealing-key.json of the controller is another one; an owner gives the secret \
         again: `overlan admin identity-provider set`",
    )
}

fn no_secret() -> Refusal {
    Refusal::bad_request(
        "a client secret is needed: --client-secret-file PATH, or - for a line of standard input",
    )
}

/// Longest issuer, client id and name of a claim, characters.
const VALUE_MAX: usize = 512;

/// Longest secret of a client, bytes: providers make 40 to 90.
const SECRET_MAX: usize = 1_024;

/// Most domains of a provider.
const DOMAINS_MAX: usize = 100;
