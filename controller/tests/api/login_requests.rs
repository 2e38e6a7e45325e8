//! Logins that one machine asks for and a person grants on another one.

use overlan_protocol::api::{
    DevicesOfPerson, LoginAsked, LoginBeginRequest, LoginBegun, LoginCode, LoginPolled,
    LoginResponse, LoginSecret, NetworkSummary, ProblemKind, RemovePersonRequest, Role,
    SessionSummary, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;
use serde_json::Value;

use crate::lab::{EMAIL, Lab, WITHIN, refused};
use crate::tenants::{colleague, second_tenant};

async fn try_begin(lab: &Lab, host: &str) -> Result<LoginBegun, HttpsError> {
    let request = LoginBeginRequest {
        program: "overlan login".to_owned(),
        host: host.to_owned(),
    };
    let mut stranger = lab.connect().await;
    stranger.post(path::LOGIN_BEGIN, &request, WITHIN).await
}

async fn poll(lab: &Lab, secret: &Secret) -> Result<LoginPolled, HttpsError> {
    let secret = secret.clone();
    let mut stranger = lab.connect().await;
    let request = LoginSecret { secret };
    stranger.post(path::LOGIN_POLL, &request, WITHIN).await
}

async fn decide(
    lab: &Lab,
    by: &LoginResponse,
    path: &str,
    code: &str,
) -> Result<LoginAsked, HttpsError> {
    let code = code.to_owned();
    let mut person = lab.person(by).await;
    person.post(path, &LoginCode { code }, WITHIN).await
}

async fn granted(lab: &Lab, by: &LoginResponse) -> LoginBegun {
    let begun = try_begin(lab, "headless").await.unwrap();
    decide(lab, by, path::LOGIN_APPROVE, &begun.code)
        .await
        .unwrap();
    begun
}

#[tokio::test]
async fn a_granted_request_becomes_a_session_once() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let begun = try_begin(&lab, "headless").await.unwrap();
    let pending = poll(&lab, &begun.secret).await.unwrap();
    assert!(
        matches!(pending, LoginPolled::Pending { interval_secs } if interval_secs > 0),
        "{pending:?}"
    );
    let hasty = poll(&lab, &begun.secret).await.unwrap();
    assert!(
        matches!(hasty, LoginPolled::SlowDown { interval_secs }
            if interval_secs > begun.interval_secs),
        "{hasty:?}"
    );
    let typed = begun.code.to_lowercase().replace('-', " ");
    let asked = decide(&lab, &owner, path::LOGIN_LOOK, &typed)
        .await
        .unwrap();
    assert_eq!(
        (asked.host.as_str(), asked.program.as_str()),
        ("headless", "overlan login")
    );
    assert_eq!(
        (asked.source.as_str(), &asked.code),
        ("127.0.0.1", &begun.code)
    );

    let racing = (0..3).map(|_| decide(&lab, &owner, path::LOGIN_APPROVE, &begun.code));
    let racing = futures_util::future::join_all(racing).await;
    assert_eq!(racing.iter().filter(|it| it.is_ok()).count(), 1);
    let racing = (0..3).map(|_| poll(&lab, &begun.secret));
    let racing = futures_util::future::join_all(racing).await;
    let mut sessions = Vec::new();
    for polled in racing {
        match polled {
            Ok(LoginPolled::Approved { login }) => sessions.push(login),
            other => assert_eq!(refused(other), ProblemKind::KeyUnknown),
        }
    }
    assert_eq!(sessions.len(), 1, "one poll gets the session");
    assert_eq!(sessions[0].email, EMAIL);
    let mut person = lab.person(&sessions[0]).await;
    let _: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
    let texts = lab.texts("SELECT id FROM login_requests").await;
    assert!(texts.is_empty(), "{texts:?}");
}

#[tokio::test]
async fn a_request_is_refused_taken_back_or_ends() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let begun = try_begin(&lab, "headless").await.unwrap();
    decide(&lab, &owner, path::LOGIN_DENY, &begun.code)
        .await
        .unwrap();
    let late = decide(&lab, &owner, path::LOGIN_APPROVE, &begun.code).await;
    assert_eq!(refused(late), ProblemKind::NotFound);
    let denied = poll(&lab, &begun.secret).await.unwrap();
    assert!(matches!(denied, LoginPolled::Denied { .. }), "{denied:?}");

    let begun = try_begin(&lab, "headless").await.unwrap();
    let request = LoginSecret {
        secret: begun.secret.clone(),
    };
    let mut stranger = lab.connect().await;
    let _: Value = stranger
        .post(path::LOGIN_CANCEL, &request, WITHIN)
        .await
        .unwrap();
    assert_eq!(
        refused(poll(&lab, &begun.secret).await),
        ProblemKind::KeyUnknown
    );
    let gone = decide(&lab, &owner, path::LOGIN_LOOK, &begun.code).await;
    assert_eq!(refused(gone), ProblemKind::NotFound);

    let begun = granted(&lab, &owner).await;
    lab.sql("UPDATE login_requests SET expires = 1").await;
    let ended = poll(&lab, &begun.secret).await.unwrap();
    assert!(matches!(ended, LoginPolled::Expired), "{ended:?}");
    let code = decide(&lab, &owner, path::LOGIN_LOOK, "not a code").await;
    assert_eq!(refused(code), ProblemKind::BadRequest);
    let hostile = try_begin(&lab, "\u{1b}[2J").await;
    assert_eq!(refused(hostile), ProblemKind::BadRequest);
}

#[tokio::test]
async fn a_request_of_one_organisation_is_not_there_for_another() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let foreign = second_tenant(&lab).await;
    let begun = try_begin(&lab, "headless").await.unwrap();
    lab.sql("UPDATE login_requests SET wanted_org = 1").await;
    for path in [path::LOGIN_LOOK, path::LOGIN_APPROVE, path::LOGIN_DENY] {
        let result = decide(&lab, &foreign, path, &begun.code).await;
        assert_eq!(refused(result), ProblemKind::NotFound, "{path}");
    }
}

#[tokio::test]
async fn a_grant_ends_with_the_persons_logins_and_with_the_persons_place() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let anna = colleague(&lab, Role::Member).await;
    let begun = granted(&lab, &anna).await;
    let mut person = lab.person(&anna).await;
    let leave = RemovePersonRequest {
        devices: DevicesOfPerson::Remove,
    };
    let path = format!("{}/leave", path::ORGANISATION);
    let _: Value = person.post(&path, &leave, WITHIN).await.unwrap();
    let polled = poll(&lab, &begun.secret).await;
    assert!(
        matches!(&polled, Ok(LoginPolled::Denied { .. }) | Err(_)),
        "{polled:?}"
    );

    let begun = granted(&lab, &owner).await;
    let mut person = lab.person(&owner).await;
    person.delete(path::SESSIONS, WITHIN).await.unwrap();
    assert_eq!(
        refused(poll(&lab, &begun.secret).await),
        ProblemKind::KeyUnknown
    );
    let sessions: Vec<SessionSummary> = person.get(path::SESSIONS, WITHIN).await.unwrap();
    assert_eq!(sessions.len(), 1);
}

#[tokio::test]
async fn one_source_opens_a_bounded_number_of_requests() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let mut opened = 0;
    let refusal = loop {
        match try_begin(&lab, "headless").await {
            Ok(_) => opened += 1,
            Err(error) => break refused(Err::<(), _>(error)),
        }
    };
    assert_eq!((refusal, opened), (ProblemKind::TooMany, 30));
}
