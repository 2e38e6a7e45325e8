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
    let transport = Some(OverlayTransport::Udp);
    remove(&mut serves, 53, transport).unwrap();
    assert_eq!(serves, both[..1]);
    assert!(remove(&mut serves, 53, transport).is_err());
    add(&mut serves, &both[1]).unwrap();
    assert_eq!(remove(&mut serves, 53, None).unwrap().len(), 2);
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
