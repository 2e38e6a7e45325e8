use overlan_protocol::dns::{Record as Kept, Zone};

use hickory_proto::op::ResponseCode;
use overlan_protocol::netmap::Netmap;

use super::super::tests::{look_up, texts};
use super::super::*;
use crate::names::tests::{DEMO, LAB, two_networks};

fn with_records(records: &[(&str, &str, &str)]) -> Netmap {
    let mut netmap = two_networks();
    let network = netmap.networks.get_mut(&DEMO).unwrap();
    network
        .dns
        .set_zone("corp.internal", Some(&Zone::default()));
    for (name, kind, value) in records {
        let mut kept = network.dns.records.get(*name).cloned().unwrap_or_default();
        kept.push(Kept::parse(kind, value).unwrap());
        network.dns.set_records(name, &kept);
    }
    netmap
}

#[test]
fn records_of_every_type_are_answered() {
    let text = "x".repeat(300);
    let netmap = with_records(&[
        ("wiki.demo.overlan.lan", "A", "100.64.0.2"),
        ("wiki.demo.overlan.lan", "AAAA", "fd3b:7e5c:1a42::2"),
        (
            "_db._tcp.demo.overlan.lan",
            "SRV",
            "10 5 5432 db.demo.overlan.lan",
        ),
        ("web.demo.overlan.lan", "TXT", &text),
        ("git.corp.internal", "A", "100.64.0.3"),
    ]);
    for (name, kind, data) in [
        ("Wiki.demo.overlan.lan.", RecordType::A, "100.64.0.2"),
        (
            "wiki.demo.overlan.lan.",
            RecordType::AAAA,
            "fd3b:7e5c:1a42::2",
        ),
        (
            "_db._tcp.demo.overlan.lan.",
            RecordType::SRV,
            "10 5 5432 db.demo.overlan.lan.",
        ),
        ("web.demo.overlan.lan.", RecordType::A, "100.64.0.2"),
        ("git.corp.internal.", RecordType::A, "100.64.0.3"),
    ] {
        let reply = look_up(&netmap, name, kind);
        assert_eq!(texts(&reply.answers), [data], "{name} {kind}");
        assert!(reply.metadata.authoritative);
    }
    let reply = look_up(&netmap, "web.demo.overlan.lan.", RecordType::TXT);
    let RData::TXT(txt) = &reply.answers[0].data else {
        panic!("{reply:?}");
    };
    let lengths: Vec<usize> = txt.txt_data.iter().map(|part| part.len()).collect();
    assert_eq!(lengths, [255, 45]);
}

#[test]
fn names_between_and_missing_names_are_told_apart() {
    let netmap = with_records(&[
        ("_db._tcp.demo.overlan.lan", "TXT", "x"),
        ("a.b.corp.internal", "TXT", "x"),
    ]);
    for (name, code) in [
        ("_tcp.demo.overlan.lan.", ResponseCode::NoError),
        ("b.corp.internal.", ResponseCode::NoError),
        ("corp.internal.", ResponseCode::NoError),
        ("c.corp.internal.", ResponseCode::NXDomain),
        ("_udp.demo.overlan.lan.", ResponseCode::NXDomain),
        ("_tcp.lab.overlan.lan.", ResponseCode::NXDomain),
        ("other.internal.", ResponseCode::Refused),
    ] {
        let reply = look_up(&netmap, name, RecordType::A);
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn aliases_are_followed_inside_our_zones_and_not_in_circles() {
    let netmap = with_records(&[
        ("www.demo.overlan.lan", "CNAME", "site.corp.internal"),
        ("site.corp.internal", "CNAME", "web.demo.overlan.lan"),
        ("out.corp.internal", "CNAME", "example.org"),
        ("gone.corp.internal", "CNAME", "nobody.corp.internal"),
        ("one.corp.internal", "CNAME", "two.corp.internal"),
        ("two.corp.internal", "CNAME", "one.corp.internal"),
    ]);
    let reply = look_up(&netmap, "www.demo.overlan.lan.", RecordType::A);
    assert_eq!(
        texts(&reply.answers),
        ["site.corp.internal.", "web.demo.overlan.lan.", "100.64.0.2"]
    );
    let asked = look_up(&netmap, "www.demo.overlan.lan.", RecordType::CNAME);
    assert_eq!(texts(&asked.answers), ["site.corp.internal."]);
    for (name, code, answers) in [
        ("out.corp.internal.", ResponseCode::NoError, 1),
        ("gone.corp.internal.", ResponseCode::NXDomain, 1),
        ("one.corp.internal.", ResponseCode::ServFail, 0),
    ] {
        let reply = look_up(&netmap, name, RecordType::A);
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert_eq!(reply.answers.len(), answers, "{name}");
    }
}

#[test]
fn the_longest_zone_wins_then_the_first_network_by_name() {
    let mut netmap = with_records(&[("db.corp.internal", "TXT", "demo")]);
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.dns.set_zone("corp.internal", Some(&Zone::default()));
    lab.dns
        .set_zone("deep.corp.internal", Some(&Zone::default()));
    for name in ["db.corp.internal", "db.deep.corp.internal"] {
        lab.dns.set_records(name, &[Kept::Txt("lab".into())]);
    }
    let text = |netmap: &Netmap, name: &str| texts(&look_up(netmap, name, RecordType::TXT).answers);
    assert_eq!(text(&netmap, "db.corp.internal."), ["demo"]);
    assert_eq!(text(&netmap, "db.deep.corp.internal."), ["lab"]);
    netmap.networks.get_mut(&LAB).unwrap().name = "a".into();
    assert_eq!(text(&netmap, "db.corp.internal."), ["lab"]);
}
