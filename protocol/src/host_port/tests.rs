use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<(String, u16), HostPortError> {
    let read: HostPort = text.parse()?;
    Ok((read.host().to_owned(), read.port()))
}

/// One type took the place of ten parsers. Each block has the texts of one: what it took is taken,
/// and what it refused is refused. Beside the last block, which says where they were of two minds.
#[test]
fn one_parser_reads_what_ten_read() {
    use HostPortError::{BareIpv6, Bracket, Host, HostMissing, Port, PortMissing};
    let taken = [
        // a relay's address, where a link is opened
        ("relay.example:443", "relay.example", 443),
        ("127.0.0.1:8443", "127.0.0.1", 8443),
        ("[::1]:443", "::1", 443),
        ("[fe80::1%eth0]:443", "fe80::1%eth0", 443),
        // a program's destination, in the library and in its connector for URLs
        ("db.acme:5432", "db.acme", 5432),
        ("100.64.0.7:1", "100.64.0.7", 1),
        ("[fd00::7]:80", "fd00::7", 80),
        ("web.acme:80", "web.acme", 80),
        // a peer in `ping` and `whois`
        ("100.64.0.2:50312", "100.64.0.2", 50312),
        ("[fd7a::2]:22", "fd7a::2", 22),
        ("web:22", "web", 22),
        // the target of a served port
        ("localhost:3000", "localhost", 3000),
        ("_http.internal.:80", "_http.internal.", 80),
        // a gateway's route to one host
        ("10.1.2.3:5432", "10.1.2.3", 5432),
        ("DB.Internal.:5432", "DB.Internal.", 5432),
        // a controller in a join string
        ("controller.example:8443", "controller.example", 8443),
        (
            "Controller.Corp.Internal.:1",
            "Controller.Corp.Internal.",
            1,
        ),
        ("[::ffff:10.0.0.7]:8443", "::ffff:10.0.0.7", 8443),
        // a proxy on the way out, and a host that it is not for
        ("proxy_1.example:3128", "proxy_1.example", 3128),
        ("10.0.0.7:80", "10.0.0.7", 80),
        (".example.org:443", ".example.org", 443),
        ("*.example.org:443", "*.example.org", 443),
        // a relay's addresses, as it registers
        ("ams-1.example:443", "ams-1.example", 443),
        ("bücher.example:443", "bücher.example", 443),
    ];
    for (text, host, port) in taken {
        assert_eq!(read(text), Ok((host.to_owned(), port)), "{text}");
        assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
    }
    let refused = [
        ("", PortMissing),
        ("relay", PortMissing),
        (":443", HostMissing),
        ("relay:0", Port),
        ("relay:x", Port),
        ("db:", Port),
        ("db:65536", Port),
        ("db:-1", Port),
        ("fd00::7:80", BareIpv6),
        ("db:80:80", BareIpv6),
        ("[::1:443", Bracket),
        ("a b:80", Host),
        ("a\n:80", Host),
        ("me@c.example:80", Host),
        ("c.example/path:80", Host),
        ("unix:/run/a.sock", Port),
    ];
    for (text, error) in refused {
        assert_eq!(read(text), Err(error), "{text:?}");
    }
    // Half of the ten took these: they split at the last colon and took off what looked like a
    // bracket, or read a number with a sign.
    let contested = [
        ("::1:443", BareIpv6),
        ("[relay]:443", Host),
        ("[::1]x:443", Bracket),
        ("relay:+443", Port),
    ];
    for (text, error) in contested {
        assert_eq!(read(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_port_that_is_left_out_is_the_default() {
    let read = |text| HostPort::parse_or(text, 443).map(|it| it.to_string());
    assert_eq!(read("c.example").as_deref(), Ok("c.example:443"));
    assert_eq!(read("c.example:80").as_deref(), Ok("c.example:80"));
    assert_eq!(read("[::1]").as_deref(), Ok("[::1]:443"));
    assert_eq!(read(""), Err(HostPortError::HostMissing));
    assert_eq!(read("::1"), Err(HostPortError::BareIpv6));
    assert_eq!(read("c.example:"), Err(HostPortError::Port));
}

#[test]
fn what_a_caller_judges_itself_is_only_taken_apart() {
    for (text, host, port) in [
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.0.0.0/8:53", "10.0.0.0/8", Some(53)),
        ("fd12::/48", "fd12::/48", None),
        ("[fd12::/48]:53", "fd12::/48", Some(53)),
        ("*.corp.internal", "*.corp.internal", None),
        ("*", "*", None),
        ("", "", None),
    ] {
        assert_eq!(split(text), Ok((host, port)), "{text}");
    }
    assert_eq!(split("db:http"), Err(HostPortError::Port));
    assert_eq!(split("[fd12::1"), Err(HostPortError::Bracket));
}

#[test]
fn a_host_has_a_bounded_length() {
    let longest = "a".repeat(HOST_MAX);
    assert!(HostPort::new(&longest, 1).is_ok());
    let longer = HostPort::new(&format!("{longest}a"), 1);
    assert_eq!(longer, Err(HostPortError::HostTooLong));
    let text = HostPortError::HostTooLong.to_string();
    assert!(text.contains(&HOST_MAX.to_string()), "{text}");
}

#[test]
fn json_has_the_text() {
    let relay: HostPort = serde_json::from_str(r#""[::1]:443""#).unwrap();
    assert_eq!(relay.address(), Some("::1".parse().unwrap()));
    assert_eq!(serde_json::to_string(&relay).unwrap(), r#""[::1]:443""#);
    let error = serde_json::from_str::<HostPort>(r#""relay""#).unwrap_err();
    assert!(error.to_string().contains("HOST:PORT"), "{error}");
}

proptest! {
    #[test]
    fn what_is_read_prints_as_something_that_reads_the_same(text in "\\PC{0,40}") {
        if let Ok(read) = text.parse::<HostPort>() {
            prop_assert_eq!(read.to_string().parse::<HostPort>(), Ok(read));
        }
    }

    #[test]
    fn every_name_and_every_address_has_a_text(
        address: std::net::IpAddr,
        name in "[a-zA-Z0-9._-]{1,80}",
        port in 1..=u16::MAX,
    ) {
        let from_address = HostPort::try_from(SocketAddr::new(address, port)).unwrap();
        prop_assert_eq!(from_address.socket_address(), Some(SocketAddr::new(address, port)));
        for written in [from_address, HostPort::new(&name, port).unwrap()] {
            prop_assert_eq!(written.to_string().parse::<HostPort>(), Ok(written));
        }
    }
}
