use std::sync::Arc;

use overlan::program::state::Device;
use overlan_protocol::api::{Problem, ProblemKind};
use overlan_protocol::key::{DeviceId, Fingerprint, IdentitySecret};
use zeroize::Zeroizing;

use super::*;

fn state() -> (tempfile::TempDir, StateDir) {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&root.path().join("state")).unwrap();
    (root, state)
}

/// A device of a controller at a port where nothing listens.
pub(crate) fn device_of_nobody() -> Device {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    Device {
        join: format!("https://127.0.0.1:{port}#sha256:{}", Fingerprint([7; 32]))
            .parse()
            .unwrap(),
        device: DeviceId::random(),
        identity: Arc::new(IdentitySecret::generate()),
        tunnel_secret: Zeroizing::new([1; 32]),
        label: "db".to_owned(),
        network: "home".to_owned(),
        domain: "overlan.internal".to_owned(),
    }
}

#[tokio::test]
async fn logging_out_without_a_controller_forgets_the_device_and_says_who_still_knows_it() {
    let (_root, state) = state();
    state.save_device(&device_of_nobody()).unwrap();
    let failure = Failure::from(
        forget(&state, &upstream::outgoing(), api::WITHIN)
            .await
            .unwrap_err(),
    );
    assert_eq!(failure.code(), Code::ControllerUnreachable);
    assert!(failure.to_string().contains("removed here"), "{failure}");
    assert!(state.load_device().unwrap().is_none());
    // Nothing is left to forget: that is fine.
    forget(&state, &upstream::outgoing(), api::WITHIN)
        .await
        .unwrap();
}

#[tokio::test]
async fn logging_out_is_the_way_out_of_a_damaged_device_file() {
    let (_root, state) = state();
    std::fs::write(state.path().join("device.json"), "garbage").unwrap();
    let error = forget(&state, &upstream::outgoing(), api::WITHIN)
        .await
        .unwrap_err();
    assert!(matches!(error, ForgetError::NoKeys(_)), "{error:?}");
    assert!(state.load_device().unwrap().is_none());
}

#[test]
fn a_device_that_the_controller_removed_before_is_removed() {
    let problem = |kind| {
        HttpsError::Problem(Problem {
            kind,
            title: String::new(),
            status: 401,
            detail: String::new(),
            retry_after_secs: None,
        })
    };
    is_gone(Ok(())).unwrap();
    is_gone(Err(problem(ProblemKind::DeviceRemoved))).unwrap();
    is_gone(Err(problem(ProblemKind::NotAuthenticated))).unwrap();
    is_gone(Err(problem(ProblemKind::Unavailable))).unwrap_err();
    is_gone(Err(HttpsError::Broken(String::new()))).unwrap_err();
}

#[test]
fn the_controller_is_known_from_the_last_login_or_enrolment() {
    let (_root, state) = state();
    let failure = known_server(&state).unwrap_err();
    assert_eq!(failure.code(), Code::Usage);
    assert!(failure.to_string().contains("--server"), "{failure}");

    let device = device_of_nobody();
    state.save_device(&device).unwrap();
    assert_eq!(known_server(&state).unwrap(), device.join);
}
