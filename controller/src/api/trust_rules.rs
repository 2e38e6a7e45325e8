//! Trust rules: people make, list, test and remove the rules by which jobs enrol with the token of
//! their own provider. [`crate::enrol`] decides which rules make sense, and what they accept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use data_encoding::HEXLOWER;
use overlan_protocol::api::{
    ClaimMismatch, LIFETIME_MAX_SECS, LIFETIME_MIN_SECS, LIFETIME_SECS, ProblemKind,
    TokenTestRequest, TokenTestResponse, TrustRuleRequest, TrustRuleSummary,
};
use overlan_protocol::key::random_bytes;
use overlan_protocol::name::is_label;
use overlan_protocol::tag::TAGS_MAX;

use super::auth_keys::networks_named;
use super::body::{Empty, Json, plain_text, readable};
use super::caller::Person;
use super::changed::Changed;
use super::enrol::refused;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol::{self, ClaimRefusal, TrustRule, WorkloadError};
use crate::netmaps::OrgId;
use crate::oidc::{self, IssuerUrl, KeySet};
use crate::store::StoreError;
use crate::store::accounts::{self, NetworkRow};
use crate::store::trust_rules::{self, ListedRule};

pub(super) async fn make(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<TrustRuleRequest>,
) -> Result<Changed<TrustRuleSummary>, Refusal> {
    let (mut rule, labels) = readable_rule(request, person.org)?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let networks = networks_named(&mut tx, person.org, &labels).await?;
    rule.networks = networks.iter().map(|network| network.id).collect();
    enrol::one_more_trust_rule(trust_rules::count(&mut tx, person.org).await?)?;
    match trust_rules::holder_of_audience(&mut tx, &rule.audience).await? {
        Some(holder) if holder != person.org => return Err(audience_taken(&rule.audience)),
        Some(_) | None => {}
    }
    match trust_rules::insert(&mut tx, &rule, now).await {
        Err(StoreError::Conflict) => return Err(name_taken(&rule.name)),
        other => other?,
    }
    deployment.store.commit(tx).await?;
    let what = format!(
        "made trust rule {} for tokens of {}",
        rule.name, rule.issuer
    );
    let listed = ListedRule {
        rule,
        uses: 0,
        last_used: None,
        created: now,
    };
    Ok(Changed::new(what, summary(listed, &networks)))
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<TrustRuleSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let networks = accounts::networks(&mut tx, person.org).await?;
    let rules = trust_rules::of_org(&mut tx, person.org).await?;
    let rules = rules.into_iter().map(|rule| summary(rule, &networks));
    Ok(Json(rules.collect()))
}

pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    name: Result<Path<String>, PathRejection>,
) -> Result<Changed<Empty>, Refusal> {
    let name = readable(name)?;
    let mut tx = deployment.store.write().await?;
    let removed = trust_rules::remove(&mut tx, person.org, &name).await?;
    removed.ok_or_else(unknown_rule)?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new(format!("removed trust rule {name}"), Empty {}))
}

/// Judges a token as an enrolment would, by the rules of the person's organisation. The token is
/// not used up.
pub(super) async fn test(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<TokenTestRequest>,
) -> Result<Changed<TokenTestResponse>, Refusal> {
    let believed = enrol::believe(&deployment, request.token.reveal(), clock::wall()).await;
    let believed = match believed {
        Ok(believed) => believed,
        Err(error) => {
            let judged = judgement(None, Some(error), BTreeMap::new())?;
            return Ok(Changed::nothing(judged));
        }
    };
    if believed.rules.iter().any(|rule| rule.org != person.org) {
        // Rules of others are not shown.
        let none = WorkloadError::Claims(ClaimRefusal::NoRule);
        return Ok(Changed::nothing(judgement(
            None,
            Some(none),
            BTreeMap::new(),
        )?));
    }
    let claims = believed.verified.claims();
    let rules = believed.rules.iter();
    let rules = rules.map(|rule| (rule.name.clone(), rule.mismatches(claims)));
    let rules = rules.collect();
    Ok(Changed::nothing(match believed.workload() {
        Ok(workload) => judgement(Some(workload.rule.name), None, rules)?,
        Err(error) => judgement(None, Some(error), rules)?,
    }))
}

fn judgement(
    rule: Option<String>,
    error: Option<WorkloadError>,
    rules: BTreeMap<String, Vec<ClaimMismatch>>,
) -> Result<TokenTestResponse, Refusal> {
    let refusal = match error {
        Some(WorkloadError::Store(error)) => return Err(error.into()),
        Some(error) => Some(refused(error).text()),
        None => None,
    };
    Ok(TokenTestResponse {
        rule,
        refusal,
        rules,
    })
}

/// Checks everything of a rule that can be checked without the database. Returns it without
/// networks, and the labels of those.
fn readable_rule(
    request: TrustRuleRequest,
    org: OrgId,
) -> Result<(TrustRule, Vec<String>), Refusal> {
    if !is_label(&request.name) {
        let text = "the name must be a label: lower-case letters, digits and hyphens";
        return Err(Refusal::bad_request(text));
    }
    let lifetime = request.lifetime_secs.unwrap_or(LIFETIME_SECS);
    if !(LIFETIME_MIN_SECS..=LIFETIME_MAX_SECS).contains(&lifetime) {
        return Err(Refusal::bad_request(format!(
            "a device may live for {LIFETIME_MIN_SECS} to {LIFETIME_MAX_SECS} s"
        )));
    }
    if request.tags.len() > TAGS_MAX {
        return Err(Refusal::bad_request(format!(
            "a device can have {TAGS_MAX} tags, so a rule cannot give more"
        )));
    }
    let claims = readable_claims(request.claims)?;
    let device_name = plain_text("the device name", &request.device_name, 0, VALUE_MAX)?;
    enrol::examine(&claims, &device_name)
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let issuer = plain_text("the issuer", &request.issuer, 1, VALUE_MAX)?;
    match &request.jwks {
        Some(keys) => {
            let read = KeySet::parse(keys.as_bytes());
            read.map_err(|error| Refusal::bad_request(format!("the JWKS: {error}")))?;
        }
        None => {
            let read = IssuerUrl::parse(&issuer);
            read.map_err(|error| Refusal::bad_request(format!("the issuer {issuer:?}: {error}")))?;
        }
    }
    if let Some(ca) = &request.issuer_ca {
        oidc::check_ca(ca)
            .map_err(|error| Refusal::bad_request(format!("the issuer's CA: {error}")))?;
    }
    let rule = TrustRule {
        id: HEXLOWER.encode(&random_bytes::<ID_BYTES>()),
        org,
        name: request.name,
        issuer,
        audience: plain_text("the audience", &request.audience, 1, VALUE_MAX)?,
        claims,
        issuer_ca: request.issuer_ca,
        jwks: request.jwks,
        networks: Default::default(),
        tags: request.tags,
        device_name,
        lifetime: Duration::from_secs(lifetime),
    };
    Ok((rule, request.networks))
}

fn readable_claims(claims: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    if claims.len() > CLAIMS_MAX {
        return Err(Refusal::bad_request(format!(
            "a rule may name {CLAIMS_MAX} claims at most"
        )));
    }
    for (claim, value) in &claims {
        let read = [
            plain_text("the name of a claim", claim, 1, VALUE_MAX)?,
            plain_text("the value of a claim", value, 0, VALUE_MAX)?,
        ];
        // The issuer's values are compared as they are.
        if read != [claim.as_str(), value.as_str()] {
            let text = format!("claim {claim:?} has white space around its name or value");
            return Err(Refusal::bad_request(text));
        }
    }
    Ok(claims)
}

fn summary(listed: ListedRule, networks: &[NetworkRow]) -> TrustRuleSummary {
    let rule = listed.rule;
    let of_rule = networks
        .iter()
        .filter(|network| rule.networks.contains(&network.id));
    TrustRuleSummary {
        warnings: enrol::examine(&rule.claims, &rule.device_name).unwrap_or_default(),
        networks: of_rule.map(|network| network.name.clone()).collect(),
        tags: rule.tags,
        name: rule.name,
        id: rule.id,
        issuer: rule.issuer,
        audience: rule.audience,
        claims: rule.claims,
        device_name: rule.device_name,
        lifetime_secs: rule.lifetime.as_secs(),
        has_issuer_ca: rule.issuer_ca.is_some(),
        has_jwks: rule.jwks.is_some(),
        uses: listed.uses,
        last_used: listed.last_used,
        created: listed.created,
    }
}

fn name_taken(name: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NameTaken,
        &format!("the organisation has a trust rule {name} already"),
        "choose another name, or remove it first: `overlan admin trust-rule remove NAME`",
    )
}

/// A job chooses its organisation by the audience, so no other organisation may claim it.
fn audience_taken(audience: &str) -> Refusal {
    Refusal::new(
        ProblemKind::NameTaken,
        &format!("the audience {audience:?} belongs to another organisation of this controller"),
        "choose one of your own with --audience, and give it to the jobs with --oidc-audience",
    )
}

fn unknown_rule() -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        "there is no such trust rule",
        "`overlan admin trust-rule list` shows the rules",
    )
}

/// Bytes of a rule's id.
const ID_BYTES: usize = 6;

/// Longest issuer, audience, claim or value, characters.
const VALUE_MAX: usize = 512;

/// Most claims of a rule: GitHub's tokens have three dozen.
const CLAIMS_MAX: usize = 40;
