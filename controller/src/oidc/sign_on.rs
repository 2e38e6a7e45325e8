//! One login of a person by an identity provider (authorisation code with PKCE): the address that
//! the browser is sent to, and what must come back. Decides who somebody is by an ID token that its
//! issuer signed; asks nobody, and knows no account.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::key::{KEY_LEN, Secret, random_bytes};

use super::claims::Claims;
use super::endpoints::Endpoints;
use super::refusal::{Shown, TokenRefusal};
use super::token::Verified;

/// The values that tie the parts of one login together. Each is used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ties {
    /// Ties the way back to the browser that was sent away.
    pub(crate) state: String,
    /// Ties the ID token to this login.
    pub(crate) nonce: String,
    /// Ties the code to this controller: its digest goes with the browser, itself with the code.
    pub(crate) verifier: Secret,
}

impl Ties {
    /// Makes new ones, of 256 random bits each.
    pub(crate) fn random() -> Self {
        let random = || BASE64URL_NOPAD.encode(&random_bytes::<KEY_LEN>());
        Self {
            state: random(),
            nonce: random(),
            verifier: Secret::new(&random()),
        }
    }

    fn challenge(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.verifier.reveal().as_bytes());
        BASE64URL_NOPAD.encode(digest.as_ref())
    }
}

/// Returns the address at which a person logs in to the provider.
pub(crate) fn address(
    endpoints: &Endpoints,
    client_id: &str,
    redirect_uri: &str,
    ties: &Ties,
) -> String {
    let scopes = endpoints.scopes.join(" ");
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("scope", &scopes),
        ("state", &ties.state),
        ("nonce", &ties.nonce),
        ("code_challenge", &ties.challenge()),
        ("code_challenge_method", "S256"),
    ]);
    format!("{}?{query}", endpoints.authorization.text())
}

/// Writes fields as `application/x-www-form-urlencoded`.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// Escapes every byte that has a meaning in a form.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// A person, as an identity provider means one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The subject: what the provider calls the person, never again anybody else.
    pub(crate) subject: String,
    /// The email in lower case, if the provider says that it is the person's.
    pub(crate) verified_email: Option<String>,
    pub(crate) groups: Groups,
}

/// The groups of a person at an identity provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups(BTreeSet<String>);

impl Groups {
    /// Takes the names that can be written in a policy, and no more than [`GROUPS_MAX`] of them.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let fits = |name: &String| {
            !name.is_empty() && name.len() <= GROUP_MAX && !name.contains(char::is_control)
        };
        let mut fitting: BTreeSet<String> = names.into_iter().filter(fits).collect();
        while fitting.len() > GROUPS_MAX {
            fitting.pop_last();
        }
        Self(fitting)
    }

    /// Returns their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The reason why an ID token does not say who logs in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The token is not believed.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// It is from another issuer.
    #[error("claim iss is {0}, which is not the organisation's identity provider")]
    Issuer(Shown),
    /// It is for another client.
    #[error("claim {claim} is {is}, which is not this controller's client id")]
    Client { claim: &'static str, is: Shown },
    /// It belongs to another login.
    #[error("claim nonce is not that of this login")]
    Nonce,
    /// It is of another person than before.
    #[error("claim sub is not that of the person who logged in")]
    Subject,
    /// The subject is not one.
    #[error("claim sub has more than {SUBJECT_MAX} characters, or none")]
    SubjectForm,
}

/// The provider and the client that an ID token must be of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// The login that it must be of; `None` for one that comes later.
    pub(crate) nonce: Option<&'a str>,
    pub(crate) groups_claim: &'a str,
}

/// Reads from a token that its issuer signed, and whose times are right, who logs in.
pub(crate) fn identity(
    verified: &Verified,
    expected: &Expected<'_>,
) -> Result<Identity, IdentityError> {
    let claims = verified.claims();
    let issuer = claims.text("iss")?;
    if issuer != expected.issuer {
        return Err(IdentityError::Issuer(Shown::new(issuer)));
    }
    let client = |claim, is: &str| match is == expected.client_id {
        true => Ok(()),
        false => Err(IdentityError::Client {
            claim,
            is: Shown::new(is),
        }),
    };
    client("aud", claims.audience()?)?;
    match claims.text("azp") {
        Err(TokenRefusal::Missing { .. }) => {}
        azp => client("azp", azp?)?,
    }
    if let Some(nonce) = expected.nonce
        && claims.text("nonce")? != nonce
    {
        return Err(IdentityError::Nonce);
    }
    described(claims, expected.groups_claim)
}

/// Reads who somebody is from what the provider tells: the claims of an ID token, or its answer
/// about the holder of a token.
pub(crate) fn described(claims: &Claims, groups_claim: &str) -> Result<Identity, IdentityError> {
    let subject = claims.text("sub")?;
    if subject.is_empty() || subject.chars().count() > SUBJECT_MAX {
        return Err(IdentityError::SubjectForm);
    }
    // Some providers write it as a text.
    let is_verified = claims.value("email_verified").as_deref() == Some("true");
    let email = claims.text("email").ok().filter(|_| is_verified);
    let email = email.map(|email| email.trim().to_lowercase());
    Ok(Identity {
        subject: subject.to_owned(),
        verified_email: email.filter(|email| is_email(email)),
        groups: Groups::new(claims.texts(groups_claim)),
    })
}

/// Says whether a text has one name and one domain, which decides whose it is.
fn is_email(text: &str) -> bool {
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let mut parts = text.split('@');
    let has_both = parts
        .by_ref()
        .take(2)
        .filter(|part| !part.is_empty())
        .count()
        == 2;
    plain && has_both && parts.next().is_none() && text.chars().count() <= EMAIL_MAX
}

/// Longest email, characters (RFC 5321).
const EMAIL_MAX: usize = 254;

/// Longest subject, characters (OpenID Connect Core, 2).
const SUBJECT_MAX: usize = 255;

/// Longest name of a group that counts, bytes: a policy can name no longer one.
const GROUP_MAX: usize = 254;

/// Most groups of a person that count, the first by name: providers name up to 200 in a token.
const GROUPS_MAX: usize = 200;

#[cfg(test)]
mod tests;
