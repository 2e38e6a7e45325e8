//! Passwords are changed, sessions listed and ended, and a lost password is set on the controller's
//! machine.

use overlan_controller::{ResetError, reset_password};
use overlan_protocol::api::Credential;
use overlan_protocol::api::{
    LoginRequest, LoginResponse, NetworkSummary, PasswordRequest, ProblemKind, SessionSummary,
    SessionsEnded, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::proof::Principal;
use overlan_transport::https::HttpsError;

use crate::lab::{Device, EMAIL, Lab, PASSWORD, WITHIN, refused};

const ANOTHER: &str = "another battery, another horse";

async fn login(lab: &Lab, password: &str) -> Result<LoginResponse, HttpsError> {
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(password),
        organisation: None,
    };
    lab.connect()
        .await
        .post(path::LOGIN, &request, WITHIN)
        .await
}

async fn change(
    lab: &Lab,
    session: &LoginResponse,
    old: &str,
    new: &str,
) -> Result<SessionsEnded, HttpsError> {
    let request = PasswordRequest {
        old: Secret::new(old),
        new: Secret::new(new),
    };
    let mut person = lab.person(session).await;
    person.post(path::PASSWORD, &request, WITHIN).await
}

async fn list(lab: &Lab, session: &LoginResponse) -> Result<Vec<SessionSummary>, HttpsError> {
    lab.person(session).await.get(path::SESSIONS, WITHIN).await
}

async fn works(lab: &Lab, session: &LoginResponse) -> bool {
    let mut person = lab.person(session).await;
    let networks = person.get::<Vec<NetworkSummary>>(path::NETWORKS, WITHIN);
    networks.await.is_ok()
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_all_other_sessions() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let thief = login(&lab, PASSWORD).await.unwrap();
    let wrong = change(&lab, &thief, "correct horse battery stable", ANOTHER).await;
    assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    for weak in ["too short", EMAIL, PASSWORD] {
        let result = change(&lab, &owner, PASSWORD, weak).await;
        assert_eq!(refused(result), ProblemKind::BadRequest, "{weak}");
    }
    assert!(works(&lab, &thief).await);
    let done = change(&lab, &owner, PASSWORD, ANOTHER).await.unwrap();
    assert_eq!(done.ended, 1);
    assert!(works(&lab, &owner).await && !works(&lab, &thief).await);
    assert_eq!(
        refused(login(&lab, PASSWORD).await),
        ProblemKind::WrongPassword
    );
    login(&lab, ANOTHER).await.unwrap();
}

#[tokio::test]
async fn whoever_has_a_session_guesses_the_password_no_faster_by_it() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for _ in 0..5 {
        let wrong = change(&lab, &owner, "correct horse battery stable", ANOTHER).await;
        assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    }
    let delayed = change(&lab, &owner, PASSWORD, ANOTHER).await;
    assert_eq!(refused(delayed), ProblemKind::TooMany);
}

#[tokio::test]
async fn who_stole_a_session_or_sits_at_the_same_address_does_not_keep_the_password_as_it_is() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let thief = login(&lab, PASSWORD).await.unwrap();
    for _ in 0..5 {
        let wrong = change(&lab, &thief, "correct horse battery stable", ANOTHER).await;
        assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    }
    let delayed = change(&lab, &thief, PASSWORD, ANOTHER).await;
    assert_eq!(refused(delayed), ProblemKind::TooMany);
    let done = change(&lab, &owner, PASSWORD, ANOTHER).await.unwrap();
    assert_eq!(done.ended, 1);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_or_all_others() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(login(&lab, PASSWORD).await.unwrap());
    }
    let listed = list(&lab, &owner).await.unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed.iter().filter(|session| session.current).count(), 1);
    assert!(listed.iter().all(|session| session.source == "127.0.0.1"));
    let first = list(&lab, &others[0]).await.unwrap();
    let first = first.iter().find(|session| session.current).unwrap();
    let mut person = lab.person(&owner).await;
    let one = format!("{}/{}", path::SESSIONS, first.id);
    person.delete(&one, WITHIN).await.unwrap();
    assert_eq!(
        refused(person.delete(&one, WITHIN).await),
        ProblemKind::NotFound
    );
    assert!(!works(&lab, &others[0]).await && works(&lab, &others[1]).await);
    person.delete(path::SESSIONS, WITHIN).await.unwrap();
    assert_eq!(list(&lab, &owner).await.unwrap().len(), 1);
    assert!(!works(&lab, &others[1]).await && !works(&lab, &others[2]).await);
}

#[tokio::test]
async fn a_lost_password_is_set_beside_a_running_controller() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let reset = async |email: &str, password: &str| {
        reset_password(&lab.data_dir(), email, &Secret::new(password)).await
    };
    let nobody = reset("anna@example.org", ANOTHER).await.unwrap_err();
    assert!(
        nobody.to_string().contains(EMAIL),
        "it names those that there are: {nobody}"
    );
    let weak = reset(EMAIL, "short").await;
    assert!(matches!(weak, Err(ResetError::Password(_))), "{weak:?}");
    let elsewhere = lab.dir.path().join("nothing");
    let missing = reset_password(&elsewhere, EMAIL, &Secret::new(ANOTHER)).await;
    assert!(matches!(missing, Err(ResetError::NoDatabase(_))));
    assert!(!elsewhere.exists(), "nothing is made");

    assert_eq!(reset("Owner@example.org", ANOTHER).await.unwrap(), 1);
    assert!(!works(&lab, &owner).await, "its sessions ended");
    assert_eq!(
        refused(login(&lab, PASSWORD).await),
        ProblemKind::WrongPassword
    );
    login(&lab, ANOTHER).await.unwrap();
}

#[tokio::test]
async fn a_device_of_the_person_has_a_lane_of_its_own() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let credential = Credential::Session(owner.session.clone());
    let mine = Device::new().enrol(&lab, credential, "laptop").await;
    let mine = mine.unwrap();
    let key = lab.reusable_key(&owner).await;
    let by_key = lab.enrol(&key, "server").await;
    for _ in 0..5 {
        let wrong = login(&lab, "correct horse battery stable").await;
        assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    }
    assert_eq!(refused(login(&lab, PASSWORD).await), ProblemKind::TooMany);
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut other = by_key.connect(&lab).await;
    let result = other.post::<_, LoginResponse>(path::LOGIN, &request, WITHIN);
    assert_eq!(refused(result.await), ProblemKind::TooMany);
    let mut forged = lab.connect().await;
    forged.prove(Principal::Device(mine.id()), &by_key.secret);
    let result = forged.post::<_, LoginResponse>(path::LOGIN, &request, WITHIN);
    assert_eq!(refused(result.await), ProblemKind::TooMany);
    let mut own = mine.connect(&lab).await;
    let session: LoginResponse = own.post(path::LOGIN, &request, WITHIN).await.unwrap();
    assert_eq!(session.email, EMAIL);
}
