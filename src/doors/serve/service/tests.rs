use super::*;

#[test]
fn a_target_reads_back_as_it_is_written() {
    for text in [
        "127.0.0.1:8080",
        "[::1]:22",
        "db.internal:5432",
        "localhost:80",
        "unix:/run/app.sock",
    ] {
        let target: Target = text.parse().unwrap();
        assert_eq!(target.to_string(), text);
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
    }
    for (wrong, why) in [
        ("", UnusableTarget::Form),
        ("127.0.0.1", UnusableTarget::Form),
        ("127.0.0.1:0", UnusableTarget::PortZero),
        ("db:0", UnusableTarget::PortZero),
        ("db:65536", UnusableTarget::Form),
        ("no name:80", UnusableTarget::Form),
        (":80", UnusableTarget::Form),
        ("unix:", UnusableTarget::RelativePath),
        ("unix:app.sock", UnusableTarget::RelativePath),
    ] {
        assert_eq!(wrong.parse::<Target>(), Err(why), "{wrong}");
    }
}

#[test]
fn what_earlier_versions_stored_is_still_read() {
    let stored = r#"{"kind":"tcp","port":80,"target":"127.0.0.1:8080"}"#;
    let serve: Serve = serde_json::from_str(stored).unwrap();
    let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    assert_eq!(serve, Serve::tcp(80, address));
    assert_eq!(serde_json::to_string(&serve).unwrap(), stored);
}
