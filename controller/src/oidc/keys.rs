//! The public keys of an issuer (RFC 7517): reads a key set, and checks signatures by its keys.
//! Decides which keys can be used; fetches none.
//!
//! The signature is checked by aws-lc-rs itself. A library for tokens would add one more judgement
//! of claims beside ours, with defaults of its own about which claims may be absent or malformed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// The ways in which a token may be signed: by a key pair whose public half cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// Returns the algorithm with this name in a header or a key.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// The keys of an issuer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySet(Vec<IssuerKey>);

/// One key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IssuerKey {
    kid: String,
    material: Material,
}

/// The key itself; it serves one algorithm, whatever a token's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The reason why a text is not a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetError {
    /// It is not a JSON document with keys.
    #[error("it is not a JSON Web Key Set: an object with the list \"keys\"")]
    Form,
    /// It has more keys than any issuer.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    /// No key of it can check a signature.
    #[error("it has no key with a \"kid\" for RS256 (2048 bits or more), ES256 or EdDSA")]
    NoneUsable,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds are left out: an issuer may have more than we
    /// understand.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set: WrittenSet = serde_json::from_slice(text).map_err(|_| KeySetError::Form)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let written = set.keys.into_iter();
        let written = written.filter_map(|key| serde_json::from_value::<WrittenKey>(key).ok());
        let keys: Vec<IssuerKey> = written.filter_map(usable).collect();
        match keys.is_empty() {
            true => Err(KeySetError::NoneUsable),
            false => Ok(Self(keys)),
        }
    }

    /// Says whether there is a key of that name.
    pub(crate) fn has(&self, kid: &str) -> bool {
        self.named(kid).next().is_some()
    }

    pub(super) fn named(&self, kid: &str) -> impl Iterator<Item = &IssuerKey> {
        self.0.iter().filter(move |key| key.kid == kid)
    }
}

impl IssuerKey {
    /// Says whether this key made the signature, in the one way in which it signs.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let checked = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs256) => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_), _) => return false,
        };
        checked.is_ok()
    }
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Takes a key over if it is for signatures that we check.
fn usable(key: WrittenKey) -> Option<IssuerKey> {
    if key.usage.as_deref().is_some_and(|usage| usage != "sig") || key.kid.is_empty() {
        return None;
    }
    let bytes = |text: &Option<String>| BASE64URL_NOPAD.decode(text.as_ref()?.as_bytes()).ok();
    let fixed = |text| bytes(text).filter(|bytes| bytes.len() == COORDINATE);
    let (material, algorithm) = match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => {
            let n = bytes(&key.n).filter(|n| RSA_BYTES.contains(&n.len()))?;
            let e = bytes(&key.e).filter(|e| (1..=EXPONENT_MAX).contains(&e.len()))?;
            (Material::Rsa { n, e }, Algorithm::Rs256)
        }
        ("EC", Some("P-256")) => {
            let point = [&[UNCOMPRESSED][..], &fixed(&key.x)?, &fixed(&key.y)?].concat();
            (Material::P256(point), Algorithm::Es256)
        }
        ("OKP", Some("Ed25519")) => (Material::Ed25519(fixed(&key.x)?), Algorithm::EdDsa),
        _ => return None,
    };
    let kid = key.kid;
    let named = key.alg.as_deref();
    let fits = named.is_none_or(|named| Algorithm::named(named) == Some(algorithm));
    fits.then_some(IssuerKey { kid, material })
}

/// Bytes of a coordinate of P-256, and of a key of Ed25519.
const COORDINATE: usize = 32;

/// First byte of a point that is written with both coordinates.
const UNCOMPRESSED: u8 = 4;

/// Bytes of a modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Longest exponent, bytes; every key in use has three.
const EXPONENT_MAX: usize = 8;

/// Most keys of one issuer: vendors have two to six.
const KEYS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_left_out() {
        let key = "ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8";
        let good = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"good","x":"{key}"}}"#);
        let others = [
            r#"{"kty":"oct","kid":"a","k":"AAAA"}"#.to_owned(),
            r#"{"kty":"RSA","kid":"b","n":"AQAB","e":"AQAB"}"#.to_owned(),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"c","x":"{key}","use":"enc"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"d","x":"{key}","alg":"RS256"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","kid":"e","x":"{key}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"","x":"{key}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"f","x":"{key}","y":"AQAB"}}"#),
            "7".to_owned(),
        ];
        let set = |keys: &[String]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        let none = KeySet::parse(set(&others).as_bytes());
        assert_eq!(none, Err(KeySetError::NoneUsable));
        let all = [&others[..], &[good]].concat();
        let read = KeySet::parse(set(&all).as_bytes()).unwrap();
        assert_eq!(read.0.len(), 1);
        assert!(read.has("good") && !read.has("c"));
    }

    #[test]
    fn other_documents_are_not_key_sets() {
        for text in ["", "[]", "{}", r#"{"keys":7}"#, "<html>"] {
            assert_eq!(KeySet::parse(text.as_bytes()), Err(KeySetError::Form));
        }
        let many = format!(r#"{{"keys":[{}0]}}"#, "0,".repeat(KEYS_MAX));
        assert_eq!(KeySet::parse(many.as_bytes()), Err(KeySetError::TooMany));
    }
}
