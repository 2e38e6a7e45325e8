//! Judges the token of a job by the trust rules: reads the rules, gets the issuer's keys, and says
//! which rule accepts it. Changes nothing, so that no transaction is open while an issuer is asked.
//!
//! ```text
//! parse → times → rules of issuer and audience → keys → signature → claims → Workload
//! ```

use std::sync::Arc;

use overlan_protocol::UnixTime;

use super::trust::{ClaimRefusal, TrustRule, choose};
use crate::auth;
use crate::deployment::Deployment;
use crate::oidc::{
    IssuerError, IssuerUrl, KeySet, KeySource, Shown, Token, TokenRefusal, Verified,
};
use crate::store::accounts::Digest;
use crate::store::{StoreError, trust_rules};

/// A job whose token a rule accepts.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) rule: TrustRule,
    /// The name that the rule gives to the device.
    pub(crate) hostname: Option<String>,
    /// The SHA-256 by which the token is recognised when it comes again.
    pub(crate) digest: Digest,
    /// The end of the token.
    pub(crate) expires: UnixTime,
}

/// A token that its issuer signed for us, and the rules for such tokens.
#[derive(Debug)]
pub(crate) struct Believed {
    pub(crate) rules: Vec<TrustRule>,
    pub(crate) verified: Verified,
    digest: Digest,
    expires: UnixTime,
}

/// The reason why the token of a job is no right. One variant per thing that the API answers
/// differently.
#[derive(Debug)]
pub(crate) enum WorkloadError {
    /// The token is not believed.
    Token(TokenRefusal),
    /// No rule accepts its claims.
    Claims(ClaimRefusal),
    /// There are no keys of its issuer.
    Issuer { issuer: Shown, error: IssuerError },
    /// The database failed.
    Store(StoreError),
}

impl From<StoreError> for WorkloadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TokenRefusal> for WorkloadError {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token(refusal)
    }
}

impl Believed {
    /// Chooses the rule by which the job comes in.
    pub(crate) fn workload(&self) -> Result<Workload, WorkloadError> {
        let claims = self.verified.claims();
        let rule = choose(&self.rules, claims).map_err(WorkloadError::Claims)?;
        let hostname = rule.device_name(claims).map_err(WorkloadError::Claims)?;
        Ok(Workload {
            rule: rule.clone(),
            hostname,
            digest: self.digest,
            expires: self.expires,
        })
    }
}

/// Decides whether a token is signed by its issuer, for us and for now. Only issuers that a rule
/// names are asked for keys, and only for a token that could be good.
pub(crate) async fn believe(
    deployment: &Deployment,
    text: &str,
    now: UnixTime,
) -> Result<Believed, WorkloadError> {
    let token = Token::parse(text)?;
    let (issuer, audience) = (token.issuer()?, token.audience()?);
    token.judge_times(now)?;
    let rules = rules(deployment, issuer, audience).await?;
    let mut refused = None;
    // Rules of one issuer may know its keys from different places; mostly there is one.
    for source in sources(&rules) {
        let of_source = |rule: &TrustRule| source_of(rule).as_ref() == Some(&source);
        match verified(deployment, &token, &source).await {
            Ok(verified) => {
                return Ok(Believed {
                    rules: rules.into_iter().filter(of_source).collect(),
                    verified,
                    digest: auth::digest(token.mark()),
                    expires: token.expires()?,
                });
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        TokenRefusal::Issuer {
            is: Shown::new(issuer),
        }
        .into()
    }))
}

async fn rules(
    deployment: &Deployment,
    issuer: &str,
    audience: &str,
) -> Result<Vec<TrustRule>, WorkloadError> {
    let mut tx = deployment.store.read().await?;
    let rules = trust_rules::for_token(&mut tx, issuer, audience).await?;
    if !rules.is_empty() {
        return Ok(rules);
    }
    Err(match trust_rules::names_issuer(&mut tx, issuer).await? {
        true => TokenRefusal::Audience {
            is: Shown::new(audience),
        },
        false => TokenRefusal::Issuer {
            is: Shown::new(issuer),
        },
    }
    .into())
}

async fn verified(
    deployment: &Deployment,
    token: &Token<'_>,
    source: &KeySource,
) -> Result<Verified, WorkloadError> {
    let keys = deployment.issuers.keys(source, token.kid()).await;
    let keys = keys.map_err(|error| WorkloadError::Issuer {
        issuer: Shown::new(token.issuer().unwrap_or_default()),
        error,
    })?;
    Ok(token.verified(&keys)?)
}

/// Returns the places from which the rules know the issuer's keys, each once.
fn sources(rules: &[TrustRule]) -> Vec<KeySource> {
    let mut sources = Vec::new();
    for source in rules.iter().filter_map(source_of) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// Returns the place from which a rule knows the keys. A rule was checked when it was made.
fn source_of(rule: &TrustRule) -> Option<KeySource> {
    match &rule.jwks {
        Some(keys) => {
            let keys = KeySet::parse(keys.as_bytes()).ok()?;
            Some(KeySource::Given(Arc::new(keys)))
        }
        None => Some(KeySource::Served {
            issuer: IssuerUrl::parse(&rule.issuer).ok()?,
            ca: rule.issuer_ca.clone(),
        }),
    }
}
