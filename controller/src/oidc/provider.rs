//! Asks an identity provider about people: exchanges the code of a login, and asks again later.
//! `sign_on` decides whom an answer names; `fetch` connects.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use overlan_protocol::key::Secret;
use serde::Deserialize;

use super::claims::Claims;
use super::discovery::IssuerUrl;
use super::endpoints::{Endpoints, EndpointsError};
use super::fetch::{FetchError, With};
use super::issuers::{IssuerError, Issuers, KeySource};
use super::refusal::{Shown, TokenRefusal};
use super::sign_on::{Expected, Identity, IdentityError, described, escaped, form, identity};
use super::token::Token;
use crate::clock;

/// This controller, as an identity provider knows it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) issuer: IssuerUrl,
    /// The CA by which the provider's server is known, in PEM; `None` is a public one.
    pub(crate) ca: Option<String>,
    pub(crate) client_id: String,
    pub(crate) secret: Secret,
    pub(crate) groups_claim: String,
}

/// The person that the provider named.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) identity: Identity,
    /// The token by which the provider is asked again.
    pub(crate) refresh: Option<Secret>,
}

/// The reason why the provider named nobody. One variant per thing that is done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderError {
    /// It does not answer, or its keys are missing.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Nobody can log in by it.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// It does not take the code or the token: it was used, has ended or was revoked.
    #[error("it does not take the code or the token any more (invalid_grant)")]
    Ended,
    /// It refuses for another reason.
    #[error("it refuses to give a token: {0}")]
    Refused(String),
    /// Its answer is not one.
    #[error("its answer has no {0}")]
    Form(&'static str),
    /// Its token names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<FetchError> for ProviderError {
    fn from(error: FetchError) -> Self {
        match error.refused() {
            Some("invalid_grant") => Self::Ended,
            Some("invalid_client" | "unauthorized_client") => Self::Refused(
                "it does not know this client id with this secret (invalid_client)".to_owned(),
            ),
            Some(code) if !code.is_empty() => Self::Refused(code.to_owned()),
            Some(_) | None => Self::Issuer(error.into()),
        }
    }
}

impl From<TokenRefusal> for ProviderError {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Identity(refusal.into())
    }
}

/// The answer of a token endpoint; what else it may hold is not used.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
}

/// A code that came back from the provider, and what it is tied to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code<'a> {
    pub(crate) code: &'a str,
    pub(crate) verifier: &'a Secret,
    pub(crate) nonce: &'a str,
    pub(crate) redirect_uri: &'a str,
}

impl Client {
    /// Returns how people log in by the provider.
    pub(crate) async fn endpoints(
        &self,
        issuers: &Issuers,
    ) -> Result<Arc<Endpoints>, ProviderError> {
        issuers.endpoints(&self.issuer, &self.ca).await
    }

    /// Fetches the keys of the provider, if they are not known yet.
    pub(crate) async fn check_keys(&self, issuers: &Issuers) -> Result<(), ProviderError> {
        let keys = issuers.keys(&self.key_source(), "").await;
        Ok(keys.map(|_| ())?)
    }

    fn key_source(&self) -> KeySource {
        KeySource::Served {
            issuer: self.issuer.clone(),
            ca: self.ca.clone(),
        }
    }

    /// Exchanges a code for the person who logged in with it.
    pub(crate) async fn redeem(
        &self,
        issuers: &Issuers,
        code: &Code<'_>,
    ) -> Result<Answer, ProviderError> {
        let _place = issuers.login()?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.code),
            ("redirect_uri", code.redirect_uri),
            ("code_verifier", code.verifier.reveal()),
        ];
        let endpoints = self.endpoints(issuers).await?;
        let tokens = self.tokens(issuers, &endpoints, &fields).await?;
        let text = tokens.id_token.ok_or(ProviderError::Form("id_token"))?;
        Ok(Answer {
            identity: self.believed(issuers, &text, Some(code.nonce)).await?,
            refresh: tokens.refresh_token,
        })
    }

    /// Asks who the person with a token is now, who must be `subject`.
    pub(crate) async fn refresh(
        &self,
        issuers: &Issuers,
        refresh: &Secret,
        subject: &str,
    ) -> Result<Answer, ProviderError> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.reveal()),
        ];
        let endpoints = self.endpoints(issuers).await?;
        let tokens = self.tokens(issuers, &endpoints, &fields).await?;
        let identity = match (tokens.id_token, tokens.access_token, &endpoints.userinfo) {
            (Some(text), _, _) => self.believed(issuers, &text, None).await?,
            (None, Some(access), Some(userinfo)) => {
                let right = Secret::new(&format!("Bearer {}", access.reveal()));
                let with = With::Authorization(&right);
                let answer = issuers.ask(userinfo, self.ca.as_deref(), with).await?;
                described(&claims(&answer)?, &self.groups_claim)?
            }
            (None, _, _) => return Err(ProviderError::Form("id_token, and it has no userinfo")),
        };
        if identity.subject != subject {
            return Err(IdentityError::Subject.into());
        }
        Ok(Answer {
            identity,
            refresh: tokens.refresh_token,
        })
    }

    async fn tokens(
        &self,
        issuers: &Issuers,
        endpoints: &Endpoints,
        fields: &[(&str, &str)],
    ) -> Result<Tokens, ProviderError> {
        let mut fields = fields.to_vec();
        let basic = match endpoints.secret_in_form {
            true => {
                fields.push(("client_id", &self.client_id));
                fields.push(("client_secret", self.secret.reveal()));
                None
            }
            false => {
                let pair = [escaped(&self.client_id), escaped(self.secret.reveal())].join(":");
                let encoded = BASE64.encode(pair.as_bytes());
                Some(Secret::new(&format!("Basic {encoded}")))
            }
        };
        let form = Secret::new(&form(&fields));
        let with = With::Form {
            form: &form,
            authorization: basic.as_ref(),
        };
        let answer = issuers.ask(&endpoints.token, self.ca.as_deref(), with);
        let answer = answer.await?;
        serde_json::from_slice(&answer).map_err(|_| ProviderError::Form("tokens"))
    }

    /// Believes an ID token that the provider signed, for this client and for now.
    async fn believed(
        &self,
        issuers: &Issuers,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<Identity, ProviderError> {
        let token = Token::parse(text)?;
        let issuer = token.issuer()?;
        if issuer != self.issuer.text() {
            return Err(IdentityError::Issuer(Shown::new(issuer)).into());
        }
        token.judge_times(clock::wall())?;
        let keys = issuers.keys(&self.key_source(), token.kid()).await?;
        let verified = token.verified(&keys)?;
        let expected = Expected {
            issuer: self.issuer.text(),
            client_id: &self.client_id,
            nonce,
            groups_claim: &self.groups_claim,
        };
        Ok(identity(&verified, &expected)?)
    }
}

/// Reads what the provider says of the holder of a token, over a connection that proves its name.
fn claims(answer: &Bytes) -> Result<Claims, ProviderError> {
    let read = serde_json::from_slice(answer);
    read.map(Claims::new)
        .map_err(|_| ProviderError::Form("claims"))
}
