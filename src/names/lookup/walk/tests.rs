use std::sync::Arc;

use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS};
use overlan_protocol::dns::{Record as Kept, Zone};

use super::super::tests::{query, texts};
use super::*;
use crate::names::Delegation;
use crate::names::tests::{DEMO, LAB, two_networks};

/// `corp.example` is answered by `db` of network demo, `lab.example` by an address of network lab;
/// a gateway of demo leads to 10.1.0.0/16.
fn netmap() -> Arc<Netmap> {
    let mut netmap = two_networks();
    let zone = |via: &str| Zone {
        via: vec![via.parse().unwrap()],
    };
    let lab = &mut netmap.networks.get_mut(&LAB).unwrap().dns;
    lab.set_zone("lab.example", Some(&zone("100.64.0.2")));
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.dns.set_zone("corp.example", Some(&zone("db")));
    let alias = [Kept::parse("CNAME", "git.corp.example").unwrap()];
    demo.dns.set_records("git.demo.overlan.lan", &alias);
    let gateway = demo.peers.get_mut(&2).unwrap();
    gateway.routes = vec!["10.1.0.0/16".parse().unwrap()];
    Arc::new(netmap)
}

fn walk(name: &str, kind: RecordType) -> Box<Walk> {
    let bytes = query(name, kind).to_vec().unwrap();
    match Walk::begin(&bytes, DnsTransport::Tcp) {
        Start::Walk(walk) => walk,
        Start::Silence | Start::Reply(_) => panic!("{name} is a question"),
    }
}

#[track_caller]
fn asks(walk: &mut Walk, netmap: &Netmap, forwards: bool) -> (Resolvers, Question) {
    match walk.step(netmap, forwards) {
        Step::Ask(source, question) => (source, question),
        Step::Done => panic!("{:?}", reply(walk)),
    }
}

fn reply(walk: &Walk) -> Message {
    Message::from_vec(&walk.finish()).unwrap()
}

fn heard(records: Vec<Record>, alias: Option<&str>) -> Heard {
    Heard {
        code: ResponseCode::NoError,
        records,
        alias: alias.map(|alias| Name::from_ascii(alias).unwrap()),
        soa: None,
        life: 60,
        wire: Box::default(),
    }
}

fn a(owner: &str, address: &str) -> Record {
    let data = match address.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 60, data)
}

#[test]
fn a_name_of_a_zone_with_resolvers_is_asked_of_them_and_answered_in_its_case() {
    let netmap = netmap();
    let mut walk = walk("Git.Corp.Example.", RecordType::A);
    let (source, question) = asks(&mut walk, &netmap, false);
    assert!(
        matches!(&source, Resolvers::Zone(Delegation { network, zone, via })
        if *network == DEMO && zone == "corp.example" && via.len() == 1)
    );
    assert_eq!(question.key().unwrap().0, "git.corp.example");
    let said = heard(vec![a("git.corp.example.", "10.1.0.7")], None);
    walk.handle_heard(&source, Some((&said, 20)), &netmap);
    assert!(matches!(walk.step(&netmap, false), Step::Done));
    let reply = reply(&walk);
    assert_eq!(texts(&reply.answers), ["10.1.0.7"]);
    assert_eq!(reply.answers[0].ttl, 40, "it is 20 s old");
    let asked = Name::from_ascii("Git.Corp.Example.").unwrap();
    assert!(reply.answers[0].name.eq_case(&asked));
    assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
}

#[test]
fn aliases_lead_from_our_names_into_zones_and_back() {
    let netmap = netmap();
    let mut walk = walk("git.demo.overlan.lan.", RecordType::A);
    let (source, question) = asks(&mut walk, &netmap, false);
    assert_eq!(question.key().unwrap().0, "git.corp.example");
    let cname = RData::CNAME(CNAME(Name::from_ascii("web.demo.overlan.lan.").unwrap()));
    let owner = Name::from_ascii("git.corp.example.").unwrap();
    let records = vec![Record::from_rdata(owner, 60, cname)];
    let said = heard(records, Some("web.demo.overlan.lan."));
    walk.handle_heard(&source, Some((&said, 0)), &netmap);
    assert!(matches!(walk.step(&netmap, false), Step::Done));
    assert_eq!(
        texts(&reply(&walk).answers),
        ["git.corp.example.", "web.demo.overlan.lan.", "100.64.0.2"]
    );
    // Resolvers that hand a name to each other come to an end.
    let mut walk = super::tests::walk("x.corp.example.", RecordType::A);
    let mut asked = 0;
    while let Step::Ask(source, _) = walk.step(&netmap, false) {
        asked += 1;
        let other = ["x.corp.example.", "x.lab.example."][asked % 2];
        walk.handle_heard(&source, Some((&heard(Vec::new(), Some(other)), 0)), &netmap);
    }
    assert_eq!(asked, ALIASES_MAX + 1);
    let code = reply(&walk).metadata.response_code;
    assert_eq!(code, ResponseCode::ServFail);
}

#[test]
fn when_nobody_answers_the_query_has_failed() {
    let netmap = netmap();
    let mut walk = walk("git.demo.overlan.lan.", RecordType::A);
    let (source, _) = asks(&mut walk, &netmap, false);
    walk.handle_heard(&source, None, &netmap);
    assert!(matches!(walk.step(&netmap, false), Step::Done));
    let reply = reply(&walk);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(reply.answers.is_empty());
}

#[test]
fn only_foreign_names_are_handed_on() {
    let netmap = netmap();
    for (name, foreign) in [
        ("example.org.", true),
        ("1.0.0.10.in-addr.arpa.", true),
        ("overlan.lan.", false),
        ("no.demo.overlan.lan.", false),
        ("web.other.overlan.lan.", false),
        ("9.0.64.100.in-addr.arpa.", false),
    ] {
        let asked = walk(name, RecordType::A).step(&netmap, true);
        let is_forwarded = matches!(asked, Step::Ask(Resolvers::Forward, _));
        assert_eq!(is_forwarded, foreign, "{name}");
    }
    let inside = walk("x.corp.example.", RecordType::A).step(&netmap, true);
    assert!(matches!(inside, Step::Ask(Resolvers::Zone(_), _)));
    let transfer = walk("example.org.", RecordType::AXFR).step(&netmap, true);
    assert!(matches!(transfer, Step::Done));
    // A device that does not know its networks yet does not know which names are theirs.
    let mut unknown = Netmap::clone(&netmap);
    unknown.version = 0;
    let mut early = walk("example.org.", RecordType::A);
    assert!(matches!(early.step(&unknown, true), Step::Done));
    let code = reply(&early).metadata.response_code;
    assert_eq!(code, ResponseCode::ServFail);
}

#[test]
fn foreign_names_cannot_name_the_overlay_this_host_or_what_lies_behind_a_gateway() {
    let netmap = netmap();
    let name = "evil.example.";
    for (address, by_zone, by_foreigner) in [
        ("192.0.2.1", true, true),
        ("2001:db8::1", true, true),
        ("192.168.1.5", true, true),
        ("10.1.0.7", true, false),
        ("100.64.0.2", true, false),
        ("fd3b:7e5c:1a42::2", true, false),
        ("127.0.0.1", false, false),
        ("0.0.0.0", false, false),
        ("::1", false, false),
        ("::ffff:127.0.0.1", false, false),
        ("::ffff:100.64.0.2", true, false),
        ("169.254.169.254", false, false),
        ("fe80::1", false, false),
    ] {
        for (zone, allowed) in [(true, by_zone), (false, by_foreigner)] {
            let asked = if zone { "evil.corp.example." } else { name };
            let mut walk = walk(asked, RecordType::ANY);
            let (source, _) = asks(&mut walk, &netmap, true);
            let hint = match address.parse().unwrap() {
                IpAddr::V4(v4) => (
                    SvcParamKey::Ipv4Hint,
                    SvcParamValue::Ipv4Hint(IpHint(vec![A(v4)])),
                ),
                IpAddr::V6(v6) => (
                    SvcParamKey::Ipv6Hint,
                    SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(v6)])),
                ),
            };
            let https = RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), vec![hint])));
            let owner = Name::from_ascii(asked).unwrap();
            let records = vec![a(asked, address), Record::from_rdata(owner, 60, https)];
            walk.handle_heard(&source, Some((&heard(records, None), 0)), &netmap);
            let told = reply(&walk).answers.len();
            assert_eq!(told, if allowed { 2 } else { 0 }, "{address} zone={zone}");
        }
    }
    // Nor by another name of theirs.
    for target in ["web.demo.overlan.lan.", "db.corp.example."] {
        let mut walk = walk(name, RecordType::A);
        let (source, _) = asks(&mut walk, &netmap, true);
        let said = heard(Vec::new(), Some(target));
        walk.handle_heard(&source, Some((&said, 0)), &netmap);
        assert!(matches!(walk.step(&netmap, true), Step::Done));
        assert!(reply(&walk).answers.is_empty());
    }
}

fn cname(owner: &str, target: &str) -> Record {
    let target = RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 60, target)
}

#[test]
fn what_a_source_says_of_names_of_others_is_not_told() {
    let netmap = netmap();
    let forged = "203.0.113.9";
    // A foreign name: it ends at the alias, and nobody says more.
    for target in [
        "web.demo.overlan.lan.",
        "no.demo.overlan.lan.",
        "db.corp.example.",
    ] {
        let mut walk = walk("evil.example.", RecordType::A);
        let (source, _) = asks(&mut walk, &netmap, true);
        let chain = vec![cname("evil.example.", target), a(target, forged)];
        walk.handle_heard(&source, Some((&heard(chain, None), 0)), &netmap);
        assert!(matches!(walk.step(&netmap, true), Step::Done));
        assert_eq!(texts(&reply(&walk).answers), [target]);
    }
    // A name of a zone: the alias is looked up anew.
    for (target, source_of_it) in [
        ("www.bank.example.", Some("forward")),
        ("x.lab.example.", Some("lab.example")),
        ("web.demo.overlan.lan.", None),
    ] {
        let mut walk = walk("x.corp.example.", RecordType::A);
        let (source, _) = asks(&mut walk, &netmap, true);
        let chain = vec![
            cname("x.corp.example.", "y.corp.example."),
            cname("y.corp.example.", target),
            a(target, forged),
        ];
        walk.handle_heard(&source, Some((&heard(chain, None), 0)), &netmap);
        let asked = match walk.step(&netmap, true) {
            Step::Ask(Resolvers::Forward, _) => Some("forward".to_owned()),
            Step::Ask(Resolvers::Zone(zone), _) => Some(zone.zone),
            Step::Done => None,
        };
        assert_eq!(asked.as_deref(), source_of_it, "{target}");
        let told = texts(&reply(&walk).answers);
        assert_eq!(told[..2], ["y.corp.example.".to_owned(), target.to_owned()]);
        assert!(!told.contains(&forged.to_owned()), "{told:?}");
    }
    // That there is no such name is not said of names of others either.
    let mut none = heard(
        vec![cname("evil.example.", "web.demo.overlan.lan.")],
        Some("web.demo.overlan.lan."),
    );
    none.code = ResponseCode::NXDomain;
    let mut walk = walk("evil.example.", RecordType::A);
    let (source, _) = asks(&mut walk, &netmap, true);
    walk.handle_heard(&source, Some((&none, 0)), &netmap);
    let code = reply(&walk).metadata.response_code;
    assert_eq!(code, ResponseCode::NoError);
}
