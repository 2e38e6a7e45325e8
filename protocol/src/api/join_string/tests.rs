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

fn fingerprint(byte: u8) -> Fingerprint {
    Fingerprint([byte; 32])
}

fn join(byte: u8) -> JoinString {
    let text = format!("https://c.example#sha256:{}", fingerprint(byte));
    text.parse().unwrap()
}

#[test]
fn a_controller_is_followed_through_rotations_of_its_ca() {
    let (one, two, three) = (fingerprint(1), fingerprint(2), fingerprint(3));
    let mut known = join(1);
    assert!(!known.learn(&[]), "a controller that has one for ever");
    assert!(!known.learn(&[one]));
    assert!(known.learn(&[two, one]));
    assert_eq!(known.trusted(), [two, one]);
    assert!(!known.learn(&[two, one]));
    // The one before ends, and an old join string still means this controller.
    assert!(known.learn(&[two]));
    assert_eq!(known.trusted(), [two]);
    assert!(known.learn(&[three, two]));
    assert_eq!(known.trusted(), [three, two]);
    for byte in 1..=3 {
        assert!(known.is_known_as(&join(byte)), "{byte}");
    }
    assert!(!known.is_known_as(&join(4)));
    assert!(
        !join(1).is_known_as(&known),
        "it has not learnt the new one"
    );
    // A backup of before the rotation was restored.
    assert!(known.learn(&[two]));
    assert_eq!((known.trusted(), known.ca), (vec![two], Some(two)));
    assert_eq!(known.former.cas_ended, [three, one]);
    assert!(known.to_string().ends_with(&two.to_string()));
}

#[test]
fn nobody_takes_up_an_older_ca_or_a_ca_where_a_public_one_vouches() {
    // It was enrolled after the rotation.
    let mut fresh = join(2);
    assert!(!fresh.learn(&[fingerprint(2), fingerprint(1)]));
    assert_eq!(fresh.trusted(), [fingerprint(2)]);
    let mut public: JoinString = "https://c.example".parse().unwrap();
    assert!(!public.learn(&[fingerprint(2)]));
    assert!(public.trusted().is_empty());
    assert!(public.is_known_as(&public) && !public.is_known_as(&join(1)));
}

#[test]
fn the_ended_cas_are_few() {
    let mut known = join(0);
    for byte in 1..=40 {
        known.learn(&[fingerprint(byte), fingerprint(byte - 1)]);
    }
    assert_eq!(known.former.cas_ended.len(), ENDED_MAX);
    assert_eq!(known.former.cas_ended[0], fingerprint(38));
}
