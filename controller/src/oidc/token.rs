//! A signed token in its compact form (RFC 7515, RFC 7519). Decides whether it may be believed at
//! a time, once its issuer's keys are there; looks no key up.
//!
//! ```text
//! text ──parse──> Token ──judge(now)──> ──verified(keys)──> Verified
//! ```
//!
//! There is no way to [`Verified`] but by a signature, and a token that has ended or is for
//! somebody else never makes anybody ask for keys.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::UnixTime;
use serde_json::{Map, Value};

use super::claims::Claims;
use super::keys::{Algorithm, KeySet};
use super::refusal::{Shown, TokenRefusal};

/// A token whose signature was not checked yet.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: String,
    claims: Claims,
}

/// The claims of a token that its issuer signed.
#[derive(Debug)]
pub(crate) struct Verified(Claims);

impl Verified {
    /// Returns the claims.
    pub(crate) fn claims(&self) -> &Claims {
        &self.0
    }
}

impl<'a> Token<'a> {
    /// Reads a token. Whatever a header asks for beyond algorithm and key is refused, and so is
    /// each algorithm by which others than the issuer could sign.
    pub(crate) fn parse(text: &'a str) -> Result<Self, TokenRefusal> {
        if text.len() > TOKEN_MAX {
            return Err(TokenRefusal::TooLong { len: text.len() });
        }
        let three = TokenRefusal::Form("it has three parts with dots between");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| three.clone())?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| three.clone())?;
        if payload.contains('.') {
            return Err(three);
        }
        let header = object(header, "its header is not a JSON object in base64url")?;
        let (algorithm, kid) = read_header(&header)?;
        let payload = object(payload, "its claims are not a JSON object in base64url")?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes());
        let signature =
            signature.map_err(|_| TokenRefusal::Form("its signature is not in base64url"))?;
        Ok(Self {
            signed,
            signature,
            algorithm,
            kid,
            claims: Claims::new(payload),
        })
    }

    /// Returns the issuer that the token claims to be from.
    pub(crate) fn issuer(&self) -> Result<&str, TokenRefusal> {
        self.claims.text("iss")
    }

    /// Returns the audience that the token claims to be for.
    pub(crate) fn audience(&self) -> Result<&str, TokenRefusal> {
        self.claims.audience()
    }

    /// Returns the id of the key that the token claims to be signed by.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Decides whether `now` lies in the token's life, which must not be longer than [`LIFE_MAX`]:
    /// so long its id is remembered.
    pub(crate) fn judge_times(&self, now: UnixTime) -> Result<(), TokenRefusal> {
        let end = self.expires()?;
        if end + LEEWAY <= now {
            return Err(TokenRefusal::Expired {
                ago: now.since(end),
            });
        }
        for claim in ["nbf", "iat"] {
            let begin = self.claims.time(claim)?;
            if let Some(begin) = begin.filter(|begin| *begin > now + LEEWAY) {
                let left = begin.since(now);
                return Err(TokenRefusal::NotYet { claim, left });
            }
        }
        match end > now + LIFE_MAX {
            true => Err(TokenRefusal::LongLived),
            false => Ok(()),
        }
    }

    /// Returns the text by which this token is recognised: no other token of its issuer has it, and
    /// no change of the signature makes another. Issuers that give no id sign another time instead.
    pub(crate) fn mark(&self) -> String {
        let issuer = self.claims.text("iss").unwrap_or_default();
        match self.claims.text("jti") {
            Ok(id) => format!("jti\n{issuer}\n{id}"),
            Err(_) => format!("token\n{}", self.signed),
        }
    }

    /// Returns the end of the token's life.
    pub(crate) fn expires(&self) -> Result<UnixTime, TokenRefusal> {
        let claim = "exp";
        let end = self.claims.time(claim)?;
        end.ok_or(TokenRefusal::Missing { claim })
    }

    /// Checks the signature by the key of `keys` that the token names.
    pub(crate) fn verified(&self, keys: &KeySet) -> Result<Verified, TokenRefusal> {
        let mut known = keys.named(&self.kid).peekable();
        if known.peek().is_none() {
            return Err(TokenRefusal::UnknownKey(Shown::new(&self.kid)));
        }
        let message = self.signed.as_bytes();
        let is_by = known.any(|key| key.verifies(self.algorithm, message, &self.signature));
        match is_by {
            true => Ok(Verified(self.claims.clone())),
            false => Err(TokenRefusal::Signature),
        }
    }
}

fn object(part: &str, else_it_is: &'static str) -> Result<Map<String, Value>, TokenRefusal> {
    let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).ok();
    let object = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    object.ok_or(TokenRefusal::Form(else_it_is))
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, String), TokenRefusal> {
    // Extensions that must be understood (RFC 7515, 4.1.11), and claims that are not JSON.
    for field in ["crit", "b64", "zip", "enc"] {
        if header.contains_key(field) {
            return Err(TokenRefusal::Header { field });
        }
    }
    let text = |field: &str| header.get(field).and_then(Value::as_str);
    if header.contains_key("typ") && !text("typ").is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE))
    {
        return Err(TokenRefusal::Header { field: "typ" });
    }
    let asked = text("alg").ok_or(TokenRefusal::Header { field: "alg" })?;
    let algorithm =
        Algorithm::named(asked).ok_or_else(|| TokenRefusal::Algorithm(Shown::new(asked)))?;
    let kid = text("kid").filter(|kid| !kid.is_empty());
    Ok((algorithm, kid.ok_or(TokenRefusal::NoKeyId)?.to_owned()))
}

/// The one type of token: others, such as access tokens, prove something else.
const TYPE: &str = "JWT";

/// Longest token, bytes: those of GitHub and GitLab have two thousand, and a request body has room
/// for no more.
pub(crate) const TOKEN_MAX: usize = 12 * 1024;

/// The error of an issuer's clock, and of ours: a token is believed, and remembered, so much longer
/// than it says.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);

/// Longest rest of a token's life: vendors give an hour or less, and Kubernetes a day at most to
/// those that ask for it.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

#[cfg(test)]
pub(crate) mod tests;
