use super::*;

fn nobody() -> JoinString {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let pin = overlan_protocol::key::Fingerprint([7; 32]);
    format!("https://127.0.0.1:{port}#sha256:{pin}")
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_first_start_needs_a_server_and_a_key() {
    let up = Node::builder().up().await;
    assert!(matches!(up, Err(UpError::NotEnrolled)), "{up:?}");
    let up = Node::builder().server(nobody()).up().await;
    assert!(matches!(up, Err(UpError::NotEnrolled)), "{up:?}");
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_said_and_the_state_is_free_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let up = Node::builder()
        .state_dir(&path)
        .server(nobody())
        .auth_key(Secret::new("ovk_x_y"))
        .up()
        .await;
    assert!(matches!(up, Err(UpError::Enrol(_))), "{up:?}");
    StateDir::open(&path).unwrap().lock().unwrap();
}

#[tokio::test]
async fn a_state_belongs_to_one_node() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let state = StateDir::open(&path).unwrap();
    let _held = state.lock().unwrap();
    let up = Node::builder().state_dir(&path).up().await;
    assert!(
        matches!(up, Err(UpError::State(StateError::InUse { .. }))),
        "{up:?}"
    );
}

#[test]
fn a_key_is_not_shown() {
    let builder = Node::builder().auth_key(Secret::new("ovk_secret"));
    assert!(!format!("{builder:?}").contains("ovk_secret"));
}
