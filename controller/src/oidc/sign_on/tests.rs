use overlan_protocol::UnixTime;
use serde_json::{Value, json};

use super::*;
use crate::oidc::discovery::IssuerUrl;
use crate::oidc::keys::KeySet;
use crate::oidc::token::{Token, tests::Signer};

const NOW: u64 = 1_800_000_000;

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "overlan", "sub": "u-7", "nonce": "n-1",
           "email": "Ana@Example.com", "email_verified": true, "groups": ["engineers", "on-call"],
           "iat": NOW - 5, "exp": NOW + 300})
}

fn judged(claims: &Value) -> Result<Identity, IdentityError> {
    let signer = Signer::new();
    let text = signer.token(claims);
    let token = Token::parse(&text).unwrap();
    token.judge_times(UnixTime::from_secs(NOW)).unwrap();
    let keys = KeySet::parse(signer.key_set().as_bytes()).unwrap();
    let expected = Expected {
        issuer: "https://id.example",
        client_id: "overlan",
        nonce: Some("n-1"),
        groups_claim: "groups",
    };
    identity(&token.verified(&keys).unwrap(), &expected)
}

fn with(claim: &str, value: Value) -> Value {
    let mut changed = claims();
    changed[claim] = value;
    changed
}

#[test]
fn a_token_of_this_login_says_who_logs_in() {
    let ana = judged(&claims()).unwrap();
    assert_eq!(ana.subject, "u-7");
    assert_eq!(ana.verified_email.as_deref(), Some("ana@example.com"));
    let groups: Vec<&str> = ana.groups.names().collect();
    assert_eq!(groups, ["engineers", "on-call"]);
    assert!(judged(&with("azp", json!("overlan"))).is_ok());
    assert!(judged(&with("email_verified", json!("true"))).is_ok());
}

#[test]
fn an_email_that_nobody_checked_is_not_one() {
    for not in [json!(false), json!("false"), json!(1), Value::Null] {
        let ana = judged(&with("email_verified", not)).unwrap();
        assert_eq!(ana.verified_email, None);
    }
    let long = format!("{}@example.com", "a".repeat(EMAIL_MAX));
    for no_email in [
        "",
        "ana",
        "@b",
        "a@",
        "eve@evil.example@example.com",
        "a b@c",
        &long,
    ] {
        let ana = judged(&with("email", json!(no_email))).unwrap();
        assert_eq!(ana.verified_email, None, "{no_email}");
    }
    let mut silent = claims();
    silent.as_object_mut().unwrap().remove("email_verified");
    assert_eq!(judged(&silent).unwrap().verified_email, None);
}

#[test]
fn tokens_of_another_login_client_or_issuer_are_refused_with_the_claim() {
    for (claim, value, why) in [
        ("iss", json!("https://evil.example"), "claim iss is"),
        ("aud", json!("other"), "claim aud is \"other\""),
        (
            "aud",
            json!(["overlan", "other"]),
            "claim aud names several",
        ),
        ("azp", json!("other"), "claim azp is \"other\""),
        ("azp", json!(7), "claim azp is not a text"),
        ("nonce", json!("n-2"), "claim nonce is not that"),
        ("nonce", json!(1), "claim nonce is not a text"),
        ("sub", json!(""), "claim sub has more"),
        ("sub", json!("x".repeat(256)), "claim sub has more"),
        ("sub", json!(7), "claim sub is not a text"),
    ] {
        let error = judged(&with(claim, value)).unwrap_err().to_string();
        assert!(error.contains(why), "{claim}: {error}");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("nonce");
    let error = judged(&without).unwrap_err().to_string();
    assert_eq!(error, "claim nonce is missing");
}

#[test]
fn groups_are_texts_and_not_without_end() {
    let groups = |value: Value| {
        let groups = judged(&with("groups", value)).unwrap().groups;
        groups.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(groups(json!("one")), ["one"]);
    assert_eq!(groups(json!(["b", 7, "a", "a", "", "x\ny"])), ["a", "b"]);
    assert_eq!(groups(json!({"a": 1})), [""; 0]);
    assert_eq!(groups(json!(["x".repeat(GROUP_MAX + 1)])), [""; 0]);
    let many: Vec<String> = (0..1_000).map(|number| format!("g{number:04}")).collect();
    assert_eq!(groups(json!(many)).len(), GROUPS_MAX);
}

#[test]
fn the_address_says_everything_and_the_verifier_stays_here() {
    let document = json!({
        "issuer": "https://id.example",
        "authorization_endpoint": "https://id.example/authorize",
        "token_endpoint": "https://id.example/token",
        "jwks_uri": "https://id.example/jwks",
    });
    let issuer = IssuerUrl::parse("https://id.example").unwrap();
    let endpoints = Endpoints::parse(&issuer, document.to_string().as_bytes()).unwrap();
    // The pair of RFC 7636, appendix B.
    let ties = Ties {
        state: "s".to_owned(),
        nonce: "n".to_owned(),
        verifier: Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
    };
    let redirect = "https://controller.example:8443/sso/callback";
    assert_eq!(
        address(&endpoints, "over lan", redirect, &ties),
        "https://id.example/authorize?response_type=code&client_id=over%20lan&redirect_uri=\
         https%3A%2F%2Fcontroller.example%3A8443%2Fsso%2Fcallback&scope=openid%20email&state=s\
         &nonce=n&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
         &code_challenge_method=S256"
    );
    assert_ne!(Ties::random(), Ties::random());
}
