use overlan_protocol::dns::{Record, Zone};

use super::*;
use crate::names::lookup::tests::answer;
use crate::names::tests::{DEMO, two_networks};

/// As [`crate::doors::dns::Resolver::explain`] does it where nobody has to be asked.
fn explain(name: &str, kind: &str, netmap: &Netmap) -> Result<Explained, NoQuestion> {
    let wanted = ExplainedQuestion::new(name, kind)?;
    let reply = answer(&wanted.query, netmap, ExplainedQuestion::TRANSPORT).unwrap();
    wanted.explain(&reply, &[], netmap)
}

#[test]
fn every_rule_is_named() {
    let mut netmap = two_networks();
    let dns = &mut netmap.networks.get_mut(&DEMO).unwrap().dns;
    dns.set_zone("corp.internal", Some(&Zone::default()));
    let address = [Record::parse("A", "100.64.0.2").unwrap()];
    dns.set_records("www.corp.internal", &address);
    dns.set_records("site.demo.overlan.lan", &address);
    let network = || "demo".to_owned();
    let zone = |zone: &str| Rule::Zone {
        zone: zone.to_owned(),
    };
    for (name, kind, code, rule, answers) in [
        (
            "Web.Demo.overlan.lan.",
            "a",
            "NOERROR",
            Rule::Device { network: network() },
            1,
        ),
        (
            "web.demo.overlan.lan",
            "TXT",
            "NOERROR",
            Rule::Device { network: network() },
            0,
        ),
        (
            "site.demo.overlan.lan",
            "A",
            "NOERROR",
            Rule::Record { network: network() },
            1,
        ),
        (
            "www.corp.internal",
            "A",
            "NOERROR",
            Rule::Record { network: network() },
            1,
        ),
        (
            "no.corp.internal",
            "A",
            "NXDOMAIN",
            zone("corp.internal"),
            0,
        ),
        (
            "no.demo.overlan.lan",
            "A",
            "NXDOMAIN",
            zone("demo.overlan.lan"),
            0,
        ),
        (
            "web.other.overlan.lan",
            "A",
            "NXDOMAIN",
            zone("overlan.lan"),
            0,
        ),
        (
            "2.0.64.100.in-addr.arpa",
            "PTR",
            "NOERROR",
            Rule::Reverse,
            2,
        ),
        ("example.org", "A", "REFUSED", Rule::Outside, 0),
        ("1.0.0.10.in-addr.arpa", "PTR", "REFUSED", Rule::Outside, 0),
    ] {
        let explained = explain(name, kind, &netmap).unwrap();
        assert_eq!(explained.rule, rule, "{name}");
        assert_eq!(
            (&*explained.code, explained.answers.len()),
            (code, answers),
            "{explained:?}"
        );
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let netmap = two_networks();
    let long = "a".repeat(64);
    assert_eq!(
        explain(&long, "A", &netmap),
        Err(NoQuestion::Name(long.clone()))
    );
    assert_eq!(
        explain("web", "X9", &netmap),
        Err(NoQuestion::Kind("X9".into()))
    );
}

#[test]
fn strings_are_quoted_as_dig_quotes_them() {
    let long = "x".repeat(256);
    for (value, shown) in [
        ("two words", r#""two words""#),
        (r#""quote\back"#, r#""\"quote\\back""#),
        ("a\tb\u{1b}[31m\0", r#""a\009b\027[31m\000""#),
        ("büro;$@", r#""b\195\188ro;$@""#),
        (&long, &format!("\"{}\" \"x\"", &long[1..])),
    ] {
        let mut netmap = two_networks();
        let dns = &mut netmap.networks.get_mut(&DEMO).unwrap().dns;
        let text = [Record::parse("TXT", value).unwrap()];
        dns.set_records("note.demo.overlan.lan", &text);
        let explained = explain("note.demo.overlan.lan", "TXT", &netmap).unwrap();
        let expected = format!("note.demo.overlan.lan. 5 IN TXT {shown}");
        assert_eq!(explained.answers, [expected]);
    }
}
