use super::*;

fn serve(port: u16, target: &str) -> Serve {
    Serve::tcp(port, target.parse::<Target>().unwrap())
}

#[test]
fn a_port_has_one_target() {
    let mut serves = Vec::new();
    add(&mut serves, &serve(443, "127.0.0.1:8443")).unwrap();
    add(&mut serves, &serve(80, "127.0.0.1:8080")).unwrap();
    add(&mut serves, &serve(80, "127.0.0.1:8080")).unwrap();
    assert_eq!(
        serves.iter().map(|serve| serve.port).collect::<Vec<_>>(),
        [80, 443]
    );
    let conflict = add(&mut serves, &serve(80, "127.0.0.1:1")).unwrap_err();
    assert!(conflict.to_string().contains("127.0.0.1:8080"));
    assert_eq!(serves[0], serve(80, "127.0.0.1:8080"));

    remove(&mut serves, 80, None).unwrap();
    assert_eq!(
        remove(&mut serves, 80, None),
        Err(ServeConflict::NotThere(80))
    );
    add(&mut serves, &serve(80, "127.0.0.1:1")).unwrap();
}

#[test]
fn a_number_is_a_port_for_streams_and_one_for_datagrams() {
    let target = "127.0.0.1:53".parse::<Target>().unwrap();
    let both = [Serve::tcp(53, target.clone()), Serve::udp(53, target)];
    let mut serves = Vec::new();
    for serve in &both {
        add(&mut serves, serve).unwrap();
    }
    assert_eq!(serves, both);
    let published = |text: &str| text.parse::<Published>();
    assert_eq!(published("53"), Ok(Published::Port(53, None)));
    let Ok(Published::Port(53, Some(transport))) = published("udp:53") else {
        panic!("udp:53 is no port");
    };
    remove(&mut serves, 53, Some(transport)).unwrap();
    assert_eq!(serves, both[..1]);
    assert!(remove(&mut serves, 53, Some(transport)).is_err());
    add(&mut serves, &both[1]).unwrap();
    assert_eq!(remove(&mut serves, 53, None).unwrap().len(), 2);
    assert!(published("udp:0").is_err());
    assert!(matches!(
        published("udp.internal:5"),
        Ok(Published::Route(_))
    ));
}

#[test]
fn the_list_has_an_end() {
    let mut serves = Vec::new();
    for port in 1..=1_024 {
        add(&mut serves, &serve(port, "127.0.0.1:1")).unwrap();
    }
    assert_eq!(
        add(&mut serves, &serve(2_000, "127.0.0.1:1")),
        Err(ServeConflict::Full)
    );
}

#[tokio::test]
async fn without_a_running_client_the_stored_list_changes() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&root.path().join("state")).unwrap();
    let wanted = serve(80, "127.0.0.1:8080");
    change(&state, &Request::ServeAdd(wanted.clone()), |serves| {
        add(serves, &wanted)
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
        |serves| remove(serves, 81, None).map(drop),
    )
    .await
    .unwrap_err();
    assert_eq!(failure.code(), Code::Other);
    assert_eq!(state.load_serves().unwrap(), [wanted]);
}
