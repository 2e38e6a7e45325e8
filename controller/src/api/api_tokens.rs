//! `/api/v1/api-tokens`: people make, list and revoke the tokens of their own programs.
//! [`crate::access`] decides what a token may do.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::api::{
    API_TOKEN_LIFE_MAX_SECS, API_TOKEN_LIFE_SECS, ApiTokenRequest, ApiTokenResponse,
    ApiTokenSummary, Permission, ProblemKind,
};

use super::body::{Empty, Json, plain_text, readable};
use super::caller::Person;
use super::changed::Changed;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::access::{ScopeError, Scopes};
use crate::auth::{API_TOKEN_PREFIX, NamedSecret};
use crate::clock;
use crate::deployment::Deployment;
use crate::store::api_tokens::{self, ApiToken};

pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<ApiTokenRequest>,
) -> Result<Changed<ApiTokenResponse>, Refusal> {
    let life = request.expires_in_secs.unwrap_or(API_TOKEN_LIFE_SECS);
    if !(1..=API_TOKEN_LIFE_MAX_SECS).contains(&life) {
        return Err(Refusal::bad_request(format!(
            "an API token may live for 1 to {API_TOKEN_LIFE_MAX_SECS} s"
        )));
    }
    let name = plain_text("the name", &request.name, 1, NAME_MAX)?;
    let scopes = Scopes::of_maker(person.role, &request.scopes)?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let known = api_tokens::count(&mut tx, person.org, person.account).await?;
    if known >= TOKENS_MAX {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("a person has at most {TOKENS_MAX} API tokens"),
            "revoke one first: `overlan admin api-token list` shows them",
        ));
    }
    let (named, text) = NamedSecret::generate(API_TOKEN_PREFIX);
    let summary = ApiTokenSummary {
        id: named.id,
        name,
        scopes: scopes.names(),
        created: now,
        expires: now + Duration::from_secs(life),
        last_used: None,
        last_source: String::new(),
    };
    let token = ApiToken {
        org: person.org,
        account: person.account,
        role: person.role,
        summary,
    };
    api_tokens::insert(&mut tx, &token, &named.digest).await?;
    deployment.store.commit(tx).await?;
    let summary = token.summary;
    let what = format!(
        "made API token {} ({}) for {}",
        summary.id,
        summary.name,
        summary.scopes.join(", ")
    );
    let token = text;
    Ok(Changed::new(what, ApiTokenResponse { token, summary }))
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    page: Page,
) -> Result<Paged<ApiTokenSummary>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let tokens = api_tokens::of_person(&mut tx, person.org, person.account).await?;
    page.of(tokens, |token| token.id.clone())
}

pub(super) async fn revoke(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let id = readable(id)?;
    let mut tx = deployment.store.write().await?;
    let name = api_tokens::remove(&mut tx, person.org, person.account, &id).await?;
    let name = name.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "you have no such API token",
            "`overlan admin api-token list` shows them",
        )
    })?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(
        format!("revoked API token {id} ({name})"),
        Empty {},
    ))
}

impl From<ScopeError> for Refusal {
    fn from(error: ScopeError) -> Self {
        match error {
            ScopeError::None | ScopeError::Unknown(_) => Self::bad_request(error.to_string()),
            ScopeError::NotHeld { role, scope } => Self::new(
                ProblemKind::Forbidden,
                &error.to_string(),
                format!("leave {scope} out; the role {role} has {}", held(role)),
            ),
        }
    }
}

/// Lists the permissions of a role.
fn held(role: overlan_protocol::api::Role) -> String {
    let mut all = Permission::ALL.to_vec();
    all.retain(|permission| crate::access::allows(role, *permission));
    let names: Vec<&str> = all.into_iter().map(Permission::name).collect();
    names.join(", ")
}

/// Longest name, characters.
const NAME_MAX: usize = 100;

/// API tokens that one person may have in an organisation, those among them that ended lately: one
/// for each program, and no list that nobody can read.
const TOKENS_MAX: u64 = 50;
