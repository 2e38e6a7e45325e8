//! API tokens: what their maker may do and gave them, until they end.

use overlan_protocol::api::{
    ApiTokenRequest, ApiTokenResponse, ApiTokenSummary, AuthKeyRequest, AuthKeyResponse,
    DeviceSummary, LoginResponse, NetworkSummary, ProblemKind, SessionSummary, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::{Connection, HttpsError};

use crate::lab::{Lab, WITHIN, refused};

async fn make(
    lab: &Lab,
    owner: &LoginResponse,
    scopes: &[&str],
) -> Result<ApiTokenResponse, HttpsError> {
    let request = ApiTokenRequest {
        name: "inventory".to_owned(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        expires_in_secs: None,
    };
    let mut person = lab.person(owner).await;
    person.post(path::API_TOKENS, &request, WITHIN).await
}

async fn program(lab: &Lab, token: &Secret) -> Connection {
    let mut connection = lab.connect().await;
    connection.bearer(token);
    connection
}

async fn tokens(lab: &Lab, owner: &LoginResponse) -> Vec<ApiTokenSummary> {
    let mut person = lab.person(owner).await;
    person.get(path::API_TOKENS, WITHIN).await.unwrap()
}

#[tokio::test]
async fn a_token_does_what_it_was_made_for_and_no_more() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let made = make(&lab, &owner, &["devices:read", "auth-keys:write"]).await;
    let made = made.unwrap();
    assert!(made.token.reveal().starts_with("ovt_"), "its form");
    assert_eq!(made.summary.scopes, ["devices:read", "auth-keys:write"]);
    assert_eq!(tokens(&lab, &owner).await[0].last_used, None);

    let mut program = program(&lab, &made.token).await;
    let devices: Vec<DeviceSummary> = program.get(path::DEVICES, WITHIN).await.unwrap();
    assert!(devices.is_empty());
    let _: AuthKeyResponse = program
        .post(path::AUTH_KEYS, &AuthKeyRequest::default(), WITHIN)
        .await
        .unwrap();
    let networks = program.get::<Vec<NetworkSummary>>(path::NETWORKS, WITHIN);
    let error = networks.await.unwrap_err();
    assert!(error.to_string().contains("networks:read"), "{error}");
    assert_eq!(error.problem(), Some(ProblemKind::Forbidden));
    // What belongs to the account is the person's own, the tokens themselves among it.
    let sessions = program.get::<Vec<SessionSummary>>(path::SESSIONS, WITHIN);
    assert_eq!(refused(sessions.await), ProblemKind::Forbidden);
    let listed = program.get::<Vec<ApiTokenSummary>>(path::API_TOKENS, WITHIN);
    assert_eq!(refused(listed.await), ProblemKind::Forbidden);

    let used = tokens(&lab, &owner).await.remove(0);
    assert!(used.last_used.is_some());
    assert_eq!(used.last_source, "127.0.0.1");
}

#[tokio::test]
async fn a_token_ends_by_its_time_and_by_revocation() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let made = make(&lab, &owner, &["devices:read"]).await.unwrap();
    let mut program = program(&lab, &made.token).await;
    let devices = program.get::<Vec<DeviceSummary>>(path::DEVICES, WITHIN);
    devices.await.unwrap();
    lab.sql("UPDATE api_tokens SET expires = 1").await;
    let devices = program.get::<Vec<DeviceSummary>>(path::DEVICES, WITHIN);
    assert_eq!(refused(devices.await), ProblemKind::KeyExpired);
    let mut person = lab.person(&owner).await;
    let one = format!("{}/{}", path::API_TOKENS, made.summary.id);
    person.delete(&one, WITHIN).await.unwrap();
    let devices = program.get::<Vec<DeviceSummary>>(path::DEVICES, WITHIN);
    assert_eq!(refused(devices.await), ProblemKind::KeyUnknown);
    let again = person.delete(&one, WITHIN).await;
    assert_eq!(refused(again), ProblemKind::NotFound);
    assert!(tokens(&lab, &owner).await.is_empty());
}

#[tokio::test]
async fn a_token_that_says_too_little_or_too_much_is_not_made() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for (scopes, said) in [
        (&[][..], "needs a scope"),
        (&["devices"], "choose from networks:read"),
        (&["devices:read", "*"], "choose from"),
    ] {
        let error = make(&lab, &owner, scopes).await.unwrap_err();
        assert_eq!(error.problem(), Some(ProblemKind::BadRequest), "{scopes:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut person = lab.person(&owner).await;
    for (name, expires_in_secs) in [("", None), ("x", Some(0)), ("x", Some(400 * 24 * 3_600))] {
        let request = ApiTokenRequest {
            name: name.to_owned(),
            scopes: vec!["devices:read".to_owned()],
            expires_in_secs,
        };
        let made = person.post::<_, ApiTokenResponse>(path::API_TOKENS, &request, WITHIN);
        assert_eq!(refused(made.await), ProblemKind::BadRequest);
    }
    assert!(tokens(&lab, &owner).await.is_empty());
    for _ in 0..50 {
        make(&lab, &owner, &["devices:read"]).await.unwrap();
    }
    let one_more = make(&lab, &owner, &["devices:read"]).await;
    assert_eq!(refused(one_more), ProblemKind::Forbidden);
}

#[tokio::test]
async fn the_database_has_no_token_but_its_digest() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let made = make(&lab, &owner, &["devices:read"]).await.unwrap();
    // The secret itself may have underscores.
    let secret = made.token.reveal().splitn(3, '_').nth(2).unwrap();
    let rows = lab
        .texts("SELECT id || name || scopes || hex(secret) || last_source FROM api_tokens")
        .await;
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains(secret));
    // Another secret for the same id is nobody's.
    let wrong = format!("ovt_{}_{}", made.summary.id, "A".repeat(43));
    let mut program = program(&lab, &Secret::new(&wrong)).await;
    let devices = program.get::<Vec<DeviceSummary>>(path::DEVICES, WITHIN);
    assert_eq!(refused(devices.await), ProblemKind::KeyUnknown);
}
