//! Trust rules: to which organisation an audience leads, and which device a token is good for.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    Credential, LoginResponse, ProblemKind, TokenTestRequest, TokenTestResponse, TrustRuleRequest,
    TrustRuleSummary, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;
use serde_json::{Value, json};

use crate::lab::{Device, Lab, WITHIN, refused};
use crate::people::signed_up;

/// An issuer that no controller can reach; rules have its keys.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn rule(&self, name: &str, audience: &str) -> TrustRuleRequest {
        let key = BASE64URL_NOPAD.encode(self.0.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": key}]});
        TrustRuleRequest {
            name: name.to_owned(),
            issuer: ISSUER.to_owned(),
            audience: audience.to_owned(),
            claims: BTreeMap::from([("sub".to_owned(), "job".to_owned())]),
            jwks: Some(keys.to_string()),
            ..TrustRuleRequest::default()
        }
    }

    fn token(&self, audience: &str) -> Secret {
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = part(json!({"alg": "EdDSA", "kid": "k"}));
        let end = UnixTime::from(now()).as_secs() + 300;
        let claims = json!({"iss": ISSUER, "aud": audience, "sub": "job", "exp": end});
        let signed = format!("{header}.{}", part(claims));
        let signature = BASE64URL_NOPAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        Secret::new(&format!("{signed}.{signature}"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens have the time of this machine"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

async fn make(
    lab: &Lab,
    by: &LoginResponse,
    rule: &TrustRuleRequest,
) -> Result<TrustRuleSummary, HttpsError> {
    let mut person = lab.person(by).await;
    person.post(path::TRUST_RULES, rule, WITHIN).await
}

#[tokio::test]
async fn an_audience_leads_into_one_organisation_and_no_other_sees_its_rules() {
    let lab = Lab::start_with_sign_up().await;
    let ours = lab.set_up().await;
    let theirs = signed_up(&lab, "eve@example.org", "Other").await;
    let issuer = Issuer::new();
    make(&lab, &ours, &issuer.rule("job", "ours"))
        .await
        .unwrap();

    // Their own keys for that issuer would let their own tokens in, but not to our audience.
    let evil = Issuer::new();
    let taken = make(&lab, &theirs, &evil.rule("job", "ours")).await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);
    make(&lab, &theirs, &evil.rule("job", "theirs"))
        .await
        .unwrap();
    let forged = Device::new().enrol(&lab, Credential::Workload(evil.token("ours")), "x");
    assert_eq!(refused(forged.await.map(|_| ())), ProblemKind::TokenRefused);

    let mut person = lab.person(&theirs).await;
    let listed: Vec<TrustRuleSummary> = person.get(path::TRUST_RULES, WITHIN).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].audience, "theirs");
    let request = TokenTestRequest {
        token: issuer.token("ours"),
    };
    let tested: TokenTestResponse = person
        .post(path::TRUST_RULES_TEST, &request, WITHIN)
        .await
        .unwrap();
    assert_eq!((tested.rule, tested.rules.len()), (None, 0));
    assert!(tested.refusal.unwrap().contains("no trust rule"));
    let path = format!("{}/job", path::TRUST_RULES);
    person.delete(&path, WITHIN).await.unwrap();
    let gone = person.delete(&path, WITHIN).await;
    assert_eq!(refused(gone), ProblemKind::NotFound);

    let device = Device::new().enrol(&lab, Credential::Workload(issuer.token("ours")), "x");
    assert_eq!(device.await.unwrap().label(), "x");
}

#[tokio::test]
async fn a_token_is_good_for_one_device_which_may_ask_again_for_a_lost_answer() {
    let lab = Lab::start_with_sign_up().await;
    let owner = lab.set_up().await;
    let issuer = Issuer::new();
    make(&lab, &owner, &issuer.rule("job", "ours"))
        .await
        .unwrap();
    let token = issuer.token("ours");
    let by_token = || Credential::Workload(token.clone());
    let device = Device::new().enrol(&lab, by_token(), "job").await.unwrap();
    let first = device.id();
    let again = device.enrol(&lab, by_token(), "job").await.unwrap();
    assert_eq!(again.id(), first);
    let other = Device::new().enrol(&lab, by_token(), "job").await;
    assert_eq!(refused(other.map(|_| ())), ProblemKind::TokenRefused);
    // A rule that is gone lets nobody in.
    let mut person = lab.person(&owner).await;
    let path = format!("{}/job", path::TRUST_RULES);
    person.delete(&path, WITHIN).await.unwrap();
    let late = Device::new().enrol(&lab, Credential::Workload(issuer.token("ours")), "job");
    assert_eq!(refused(late.await.map(|_| ())), ProblemKind::TokenRefused);
}

const ISSUER: &str = "https://cluster.example";
