use overlan::program::service::{OverlayTransport, Target};

use super::*;

fn serve(port: u16, target: &str) -> Serve {
    Serve::tcp(port, target.parse::<Target>().unwrap())
}

#[test]
fn a_number_means_both_transports_and_a_word_before_it_one() {
    let entry = |text: &str| text.parse::<ServedEntry>();
    assert_eq!(entry("53"), Ok(ServedEntry::Port(53, None)));
    let udp = ServedEntry::Port(53, Some(OverlayTransport::Udp));
    assert_eq!(entry("udp:53"), Ok(udp));
    assert!(entry("udp:0").is_err());
    assert!(matches!(entry("udp.internal:5"), Ok(ServedEntry::Route(_))));
}

#[tokio::test]
async fn without_a_running_client_the_stored_list_changes() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&root.path().join("state")).unwrap();
    let wanted = serve(80, "127.0.0.1:8080");
    change(&state, &Request::ServeAdd(wanted.clone()), |serves| {
        serve_list::add(serves, &wanted)
    })
    .await
    .unwrap();
    assert_eq!(state.load_serves().unwrap(), std::slice::from_ref(&wanted));
    let failure = change(
        &state,
        &Request::ServeRemove {
            port: 81,
            transport: None,
        },
        |serves| serve_list::remove(serves, 81, None).map(drop),
    )
    .await
    .unwrap_err();
    assert_eq!(failure.code(), Code::Other);
    assert_eq!(state.load_serves().unwrap(), [wanted]);
}
