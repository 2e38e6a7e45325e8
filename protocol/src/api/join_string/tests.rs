use super::*;

#[test]
fn join_strings_read_back() {
    let pin = Fingerprint([7; 32]);
    for text in [
        format!("https://controller.example:8443#sha256:{pin}"),
        format!("https://127.0.0.1:1#sha256:{pin}"),
        format!("https://[::1]:8443#sha256:{pin}"),
        "https://controller.example:443".to_owned(),
    ] {
        assert_eq!(text.parse::<JoinString>().unwrap().to_string(), text);
    }
    assert_eq!(
        "https://c.example/".parse::<JoinString>().unwrap().server,
        HostPort::new("c.example", 443).unwrap()
    );
}

#[test]
fn wrong_join_strings_say_what_is_wrong() {
    for (text, part) in [
        ("http://c.example", "https://"),
        ("https://", "host"),
        ("https://c.example:0", "port"),
        ("https://c.example:8443#sha256:abc", "fingerprint"),
        ("https://c.example#md5:abc", "sha256:"),
        ("https://c.example/path", "path"),
        ("https://me@c.example", "user"),
        ("https://[::1", "bracket"),
    ] {
        let error = text.parse::<JoinString>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_join_string_that_lost_its_fingerprint_is_named_before_anything_is_dialled() {
    for private in [
        "127.0.0.1:8443",
        "10.0.0.7",
        "192.168.1.2:8443",
        "100.64.0.1",
        "[::1]:8443",
        "[fd00::1]:8443",
        "[::ffff:10.0.0.7]:8443",
        "controller:8443",
        "localhost",
        "Controller.Corp.Internal.",
        "nas.local",
    ] {
        let error = format!("https://{private}").parse::<JoinString>();
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("the fingerprint is missing"),
            "{private}: {error}"
        );
    }
    for public in ["controller.example:8443", "192.0.2.1", "[2001:db8::1]:443"] {
        assert!(
            format!("https://{public}").parse::<JoinString>().is_ok(),
            "{public}"
        );
    }
}
