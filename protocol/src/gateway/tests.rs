use super::*;
use proptest::prelude::*;

fn route(text: &str) -> GatewayRoute {
    text.parse().unwrap()
}

fn covers(route_text: &str, host: &str, port: u16) -> bool {
    let host = match host.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(host),
    };
    route(route_text).covers(host, port).is_some()
}

#[test]
fn routes_are_written_in_one_way() {
    for (text, shown) in [
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32:5432", "10.1.2.3:5432"),
        ("10.1.0.0/16:5432", "10.1.0.0/16:5432"),
        ("fd12::1/48", "fd12::/48"),
        ("[fd12::1]:80", "[fd12::1]:80"),
        ("DB.Internal.:5432", "db.internal:5432"),
        ("*.Corp.internal", "*.corp.internal"),
        ("db", "db"),
    ] {
        assert_eq!(route(text).to_string(), shown, "{text}");
        assert_eq!(route(shown), route(text));
    }
    for (text, error) in [
        ("", RouteTextError::Form),
        ("10.0.0.0/33", RouteTextError::Form),
        ("10.0.0/8", RouteTextError::Form),
        ("10.0.0.256", RouteTextError::Form),
        ("a b", RouteTextError::Form),
        ("*", RouteTextError::Form),
        ("db/8", RouteTextError::Form),
        ("db:0", RouteTextError::Port),
        ("db:http", RouteTextError::Port),
        ("0.0.0.0/0", RouteTextError::TooWide),
        ("8.0.0.0/7", RouteTextError::TooWide),
        ("::/0", RouteTextError::TooWide),
        ("127.0.0.1", RouteTextError::Ours),
        ("169.254.169.254:80", RouteTextError::Ours),
        ("100.64.0.0/10", RouteTextError::Ours),
        ("localhost:80", RouteTextError::Ours),
        ("::1", RouteTextError::Ours),
        ("fd00:ec2::254", RouteTextError::Ours),
        ("168.63.129.16", RouteTextError::Ours),
        ("64:ff9b::/96", RouteTextError::Ours),
        ("64:ff9b::a9fe:a9fe", RouteTextError::Ours),
        ("2002:7f00::/24", RouteTextError::Ours),
    ] {
        assert_eq!(text.parse::<GatewayRoute>(), Err(error), "{text:?}");
    }
}

#[test]
fn a_route_covers_what_it_says_and_nothing_beside_it() {
    for (route, host, port, is_covered) in [
        ("10.1.0.0/16", "10.1.255.1", 22, true),
        ("10.1.0.0/16", "10.2.0.1", 22, false),
        ("10.1.0.0/16", "::ffff:10.1.0.1", 22, true),
        ("10.1.0.0/16", "db.internal", 22, false),
        ("10.1.2.3:5432", "10.1.2.3", 5432, true),
        ("10.1.2.3:5432", "10.1.2.3", 22, false),
        ("fd12::/48", "fd12:0:0:1::9", 22, true),
        ("fd12::/48", "fd13::9", 22, false),
        ("db.internal", "db.internal", 1, true),
        ("db.internal", "x.db.internal", 1, false),
        ("*.corp.internal", "db.corp.internal", 1, true),
        ("*.corp.internal", "a.b.corp.internal", 1, true),
        ("*.corp.internal", "corp.internal", 1, false),
        ("*.corp.internal", "evilcorp.internal", 1, false),
    ] {
        assert_eq!(
            covers(route, host, port),
            is_covered,
            "{route} {host}:{port}"
        );
    }
    assert!(route("db:5432").covers_host(Host::Name("db")));
    assert!(route("*.corp.overlan.lan").is_below("overlan.lan"));
    assert!(!route("10.0.0.0/8").is_below("overlan.lan"));
    // A wide range may hold forbidden addresses; they are refused where it is dialled.
    assert!(!may_lead_to("169.254.169.254".parse().unwrap()));
    assert!(!may_lead_to("::ffff:127.0.0.1".parse().unwrap()));
    assert!(may_lead_to("192.168.1.1".parse().unwrap()));
}

#[test]
fn the_closest_route_wins() {
    let by_closeness = |routes: &[&str], host: Host<'_>| {
        let best = routes
            .iter()
            .max_by_key(|text| route(text).covers(host, 5432));
        (*best.unwrap()).to_owned()
    };
    let address = Host::Address("10.1.2.3".parse().unwrap());
    let ranges = ["10.0.0.0/8", "10.1.2.0/24", "10.1.0.0/16", "11.0.0.0/8"];
    assert_eq!(by_closeness(&ranges, address), "10.1.2.0/24");
    assert_eq!(
        by_closeness(&["10.1.2.3", "10.1.2.3:5432"], address),
        "10.1.2.3:5432"
    );
    let name = Host::Name("db.corp.internal");
    let names = ["*.internal:5432", "*.corp.internal", "db.corp.internal"];
    assert_eq!(by_closeness(&names, name), "db.corp.internal");
    assert_eq!(by_closeness(&names[..2], name), "*.corp.internal");
}

#[test]
fn requests_and_answers_survive_the_wire() {
    let request = Request {
        host: "db.internal".to_owned(),
        port: 5432,
    };
    let bytes = request.encode().unwrap();
    assert_eq!(bytes[..4], [1, 11, 0x15, 0x38]);
    let (head, host) = bytes.split_first_chunk().unwrap();
    assert_eq!(Request::host_len(*head), Some(11));
    assert_eq!(Request::decode(*head, host), Some(request));
    let mapped = Request::decode([1, 16, 0, 80], b"::ffff:10.1.2.03");
    assert_eq!(mapped, None, "no address and no name");
    let mapped = Request::decode([1, 15, 0, 80], b"::ffff:10.1.2.3").unwrap();
    assert_eq!(mapped.host(), Host::Address("10.1.2.3".parse().unwrap()));
    for head in [[2, 1, 0, 80], [1, 0, 0, 80], [1, 254, 0, 80], [1, 1, 0, 0]] {
        assert_eq!(Request::host_len(head), None, "{head:?}");
    }
    let long = Request {
        host: "a".repeat(254),
        port: 1,
    };
    assert_eq!(long.encode(), None);
    for byte in 0..=6 {
        assert_eq!(Answer::from_byte(byte).byte(), byte);
    }
    assert_eq!(Answer::from_byte(99), Answer::Failed);
}

proptest! {
    #[test]
    fn no_text_harms_and_what_is_understood_comes_back(text in "\\PC{0,60}") {
        if let Ok(route) = text.parse::<GatewayRoute>() {
            prop_assert_eq!(route.to_string().parse::<GatewayRoute>(), Ok(route));
        }
    }

    #[test]
    fn no_bytes_harm(
        head in any::<[u8; HEAD_LEN]>(),
        host in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Some(request) = Request::decode(head, &host) {
            prop_assert!(request.encode().is_some());
        }
    }
}

#[test]
fn a_route_includes_the_hosts_of_narrower_ones() {
    let includes = |wide: &str, narrow: &str| {
        let (wide, narrow): (GatewayRoute, GatewayRoute) =
            (wide.parse().unwrap(), narrow.parse().unwrap());
        wide.includes_hosts_of(&narrow)
    };
    for (wide, narrow) in [
        ("10.1.0.0/16", "10.1.2.0/24"),
        ("10.1.0.0/16", "10.1.2.3"),
        ("*.corp.internal", "wiki.corp.internal"),
        ("*.corp.internal", "*.docs.corp.internal"),
    ] {
        assert!(
            includes(wide, narrow) && includes(wide, wide),
            "{wide} {narrow}"
        );
        assert!(!includes(narrow, wide), "{narrow} {wide}");
    }
    for (one, other) in [
        ("10.1.0.0/16", "10.2.0.0/16"),
        ("10.1.2.3", "wiki.corp.internal"),
        ("*.corp.internal", "corp.internal"),
        ("*.corp.internal", "wiki.notcorp.internal"),
        ("fd00:1::/64", "10.1.2.3"),
    ] {
        assert!(
            !includes(one, other) && !includes(other, one),
            "{one} {other}"
        );
    }
}
