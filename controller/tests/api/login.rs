use overlan_protocol::api::{
    Health, LoginRequest, LoginResponse, NetworkSummary, ProblemKind, SetupResponse, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;

use crate::lab::{EMAIL, Lab, PASSWORD, WITHIN, refused};

fn request(email: &str, password: &str) -> LoginRequest {
    LoginRequest {
        email: email.to_owned(),
        password: Secret::new(password),
        organisation: None,
    }
}

async fn login(lab: &Lab, email: &str, password: &str) -> Result<LoginResponse, HttpsError> {
    let mut connection = lab.connect().await;
    connection
        .post(path::LOGIN, &request(email, password), WITHIN)
        .await
}

#[tokio::test]
async fn setup_works_once_and_only_with_the_token() {
    let lab = Lab::start().await;
    let mut connection = lab.connect().await;
    let health: Health = connection.get(path::HEALTH, WITHIN).await.unwrap();
    assert!(!health.set_up);

    let mut wrong = lab.setup_request();
    wrong.setup_token = Secret::new("ovx_wrong");
    let result = connection
        .post::<_, SetupResponse>(path::SETUP, &wrong, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::SetupRefused);

    let owner = lab.set_up().await;
    assert_eq!(owner.email, EMAIL);
    let again = connection
        .post::<_, SetupResponse>(path::SETUP, &lab.setup_request(), WITHIN)
        .await;
    assert_eq!(refused(again), ProblemKind::SetupRefused);
    let health: Health = connection.get(path::HEALTH, WITHIN).await.unwrap();
    assert!(health.set_up);
}

#[tokio::test]
async fn racing_setups_make_one_owner() {
    let lab = Lab::start().await;
    let attempts = (0..8).map(|_| async {
        let mut connection = lab.connect().await;
        connection
            .post::<_, SetupResponse>(path::SETUP, &lab.setup_request(), WITHIN)
            .await
            .is_ok()
    });
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.into_iter().filter(|done| *done).count(), 1);
}

#[tokio::test]
async fn setup_refuses_weak_values_and_keeps_the_token() {
    let lab = Lab::start().await;
    let mut connection = lab.connect().await;
    let weak: [fn(&mut overlan_protocol::api::SetupRequest); 4] = [
        |request| request.password = Secret::new("fourteen chars"),
        |request| request.email = "nobody".to_owned(),
        |request| request.network = "Not A Label".to_owned(),
        |request| request.organisation = " ".to_owned(),
    ];
    for change in weak {
        let mut request = lab.setup_request();
        change(&mut request);
        let result = connection
            .post::<_, SetupResponse>(path::SETUP, &request, WITHIN)
            .await;
        assert_eq!(refused(result), ProblemKind::BadRequest);
    }
    lab.set_up().await;
}

#[tokio::test]
async fn a_login_opens_a_session_and_logout_ends_it() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let session = login(&lab, "Owner@Example.org", PASSWORD).await.unwrap();
    assert_eq!(session.organisation, "Example");
    let mut connection = lab.person(&session).await;
    let networks: Vec<NetworkSummary> = connection.get(path::NETWORKS, WITHIN).await.unwrap();
    assert_eq!(networks.len(), 1);
    assert_eq!(networks[0].name, "demo");
    assert!(networks[0].default);
    connection.delete(path::SESSION, WITHIN).await.unwrap();
    let after = connection
        .get::<Vec<NetworkSummary>>(path::NETWORKS, WITHIN)
        .await;
    assert_eq!(refused(after), ProblemKind::NotAuthenticated);
}

#[tokio::test]
async fn wrong_logins_look_alike_and_slow_the_account_down() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let unknown = login(&lab, "nobody@example.org", PASSWORD).await;
    assert_eq!(refused(unknown), ProblemKind::WrongPassword);
    for _ in 0..5 {
        let wrong = login(&lab, EMAIL, "correct horse battery stable").await;
        assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    }
    match login(&lab, EMAIL, PASSWORD).await {
        Err(HttpsError::Problem(problem)) => {
            assert_eq!(problem.kind, ProblemKind::TooMany);
            assert_eq!(problem.status, 429);
            assert!(problem.retry_after_secs.is_some_and(|secs| secs >= 1));
        }
        other => panic!("expected a delay, got {other:?}"),
    }
    let other = login(&lab, "nobody@example.org", PASSWORD).await;
    assert_eq!(
        refused(other),
        ProblemKind::WrongPassword,
        "another account is not delayed"
    );
}
