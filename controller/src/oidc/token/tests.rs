use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// An issuer with one key of each kind that needs no prime numbers.
pub(crate) struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

impl Signer {
    pub(crate) fn new() -> Self {
        Self {
            ed: Ed25519KeyPair::generate().unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    pub(crate) fn key_set(&self) -> String {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "alg": "EdDSA",
             "x": text(self.ed.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": text(&point[1..33]),
             "y": text(&point[33..])},
        ]})
        .to_string()
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(self.key_set().as_bytes()).unwrap()
    }

    /// Signs `claims` by the key that the header names.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match header["kid"].as_str() {
            Some("ec") => self
                .ec
                .sign(&SystemRandom::new(), signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            _ => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}), claims)
    }
}

const NOW: u64 = 1_800_000_000;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "https://controller.example",
           "sub": "job", "iat": NOW - 5, "nbf": NOW - 5, "exp": NOW + 300})
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

#[test]
fn a_token_by_the_issuers_key_is_verified() {
    let signer = Signer::new();
    for header in [
        json!({"alg": "EdDSA", "kid": "ed"}),
        json!({"alg": "ES256", "kid": "ec", "typ": "jwt"}),
    ] {
        let text = signer.sign(&header, &claims());
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.judge_times(now()), Ok(()));
        assert_eq!(token.audience(), Ok("https://controller.example"));
        let verified = token.verified(&signer.keys()).unwrap();
        assert_eq!(verified.claims().text("sub"), Ok("job"));
    }
}

#[test]
fn headers_by_which_others_could_sign_are_refused() {
    let signer = Signer::new();
    let refused = |header: Value| Token::parse(&signer.sign(&header, &claims())).unwrap_err();
    for alg in ["none", "None", "HS256", "RS512", "PS256", "ES384", ""] {
        let error = refused(json!({"alg": alg, "kid": "ed"}));
        assert_eq!(error, TokenRefusal::Algorithm(Shown::new(alg)));
        assert!(error.to_string().starts_with("header alg is"), "{error}");
    }
    let field = |field| TokenRefusal::Header { field };
    assert_eq!(refused(json!({"kid": "ed"})), field("alg"));
    assert_eq!(refused(json!({"alg": 7, "kid": "ed"})), field("alg"));
    let critical = json!({"alg": "EdDSA", "kid": "ed", "crit": ["x"]});
    assert_eq!(refused(critical), field("crit"));
    let access = json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"});
    assert_eq!(refused(access), field("typ"));
    assert_eq!(refused(json!({"alg": "EdDSA"})), TokenRefusal::NoKeyId);
    // No signature at all, as `alg: none` has it.
    let text = signer.sign(&json!({"alg": "none"}), &claims());
    let bare = format!("{}.", text.rsplit_once('.').unwrap().0);
    assert!(matches!(
        Token::parse(&bare),
        Err(TokenRefusal::Algorithm(_))
    ));
}

#[test]
fn a_key_signs_in_its_own_way_only() {
    let signer = Signer::new();
    let crossed = signer.sign(&json!({"alg": "ES256", "kid": "ed"}), &claims());
    let crossed = Token::parse(&crossed).unwrap().verified(&signer.keys());
    assert_eq!(crossed.unwrap_err(), TokenRefusal::Signature);
    let other = Signer::new().token(&claims());
    let other = Token::parse(&other).unwrap().verified(&signer.keys());
    assert_eq!(other.unwrap_err(), TokenRefusal::Signature);
    let unknown = signer.sign(&json!({"alg": "EdDSA", "kid": "new"}), &claims());
    let unknown = Token::parse(&unknown).unwrap().verified(&signer.keys());
    assert_eq!(
        unknown.unwrap_err(),
        TokenRefusal::UnknownKey(Shown::new("new"))
    );
}

#[test]
fn times_are_held_with_a_minute_for_clocks() {
    let signer = Signer::new();
    let judged = |claims: &Value| {
        Token::parse(&signer.token(claims))
            .unwrap()
            .judge_times(now())
    };
    let leeway = LEEWAY.as_secs();
    assert_eq!(judged(&with("exp", json!(NOW - leeway + 1))), Ok(()));
    let ago = LEEWAY;
    assert_eq!(
        judged(&with("exp", json!(NOW - leeway))),
        Err(TokenRefusal::Expired { ago })
    );
    for claim in ["nbf", "iat"] {
        assert_eq!(judged(&with(claim, json!(NOW + leeway))), Ok(()));
        let left = Duration::from_secs(leeway + 1);
        assert_eq!(
            judged(&with(claim, json!(NOW + leeway + 1))),
            Err(TokenRefusal::NotYet { claim, left })
        );
        let error = judged(&with(claim, json!("soon")));
        assert_eq!(error, Err(TokenRefusal::NotTime { claim }));
    }
    let claim = "exp";
    assert_eq!(
        judged(&with("exp", json!(LIFE_MAX.as_secs() + NOW + 1))),
        Err(TokenRefusal::LongLived)
    );
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(judged(&endless), Err(TokenRefusal::Missing { claim }));
    let text = judged(&with("exp", json!("never")));
    assert_eq!(text, Err(TokenRefusal::NotTime { claim }));
}

#[test]
fn what_is_not_a_token_is_refused_before_it_is_read() {
    let long = "a".repeat(TOKEN_MAX + 1);
    assert_eq!(
        Token::parse(&long).unwrap_err(),
        TokenRefusal::TooLong { len: long.len() }
    );
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "ovk_0_1",
        "e30.e30.e30",
        "ey J.e30.AA",
    ] {
        assert!(Token::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", bytes in any::<Vec<u8>>()) {
        let _ = Token::parse(&text);
        let part = BASE64URL_NOPAD.encode(&bytes);
        let _ = Token::parse(&format!("{part}.{part}.{part}"));
        let _ = KeySet::parse(&bytes);
        let _ = Token::parse(&format!("eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.{part}.{part}"));
    }

    #[test]
    fn a_changed_token_is_never_verified(at in any::<prop::sample::Index>(), flip in 1u8..128) {
        let signer = Signer::new();
        let text = signer.token(&claims());
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes)
            && let Ok(token) = Token::parse(&changed)
        {
            prop_assert!(token.verified(&signer.keys()).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_token_is_good_from_its_begin_to_its_end(
        begin in 0u64..1_000, life in 0u64..100_000, at in 0u64..200_000,
    ) {
        let claims = json!({"iss": "i", "aud": "a", "nbf": begin, "exp": begin + life});
        let text = Signer::new().token(&claims);
        let judged = Token::parse(&text).unwrap().judge_times(UnixTime::from_secs(at));
        let leeway = LEEWAY.as_secs();
        let in_life = begin <= at + leeway && at < begin + life + leeway;
        let short = begin + life <= at + LIFE_MAX.as_secs();
        prop_assert_eq!(judged.is_ok(), in_life && short);
    }
}
