use overlan_protocol::api::Role;
use overlan_protocol::policy::{Denial, Filter, Protocol, Verdict};

use super::*;
use crate::parse;
use crate::world::{WorldDevice, WorldPerson};

const DOCUMENT: &str = r#"
    [groups]
    dev = ["ana@x", "idp:engineers"]
    all-dev = ["group:dev"]
    [tags]
    db = ["group:dev"]
    ci = []
    [hosts]
    printer = "10.1.0.9"
    wiki = "wiki.corp"
    [[rules]]
    id = "dev-db"
    from = "group:all-dev"
    to = "tag:db"
    services = ["tcp/5432", "icmp"]
    comment = "see the handbook"
    [[rules]]
    id = "own"
    from = "members"
    to = "self"
    services = "any"
    [[rules]]
    id = "print"
    from = ["members", "device:kiosk"]
    to = "host:printer"
    services = "tcp/9100"
    [[rules]]
    id = "audit"
    from = "role:auditor"
    to = "any"
    services = "tcp/443"
    until = 2026-12-31T00:00:00Z
"#;

pub(crate) fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

fn device(number: u32, label: &str, tags: &[&str], owner: Option<&str>) -> WorldDevice {
    WorldDevice {
        host: host(number),
        label: label.to_owned(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        owner: owner.map(str::to_owned),
        routes: Vec::new(),
    }
}

fn person(email: &str, role: Role, groups: &[&str]) -> WorldPerson {
    WorldPerson {
        email: email.to_owned(),
        role,
        groups: groups.iter().map(|&it| it.to_owned()).collect(),
    }
}

const ANA: u32 = 2;
const ANA_PHONE: u32 = 3;
const BO: u32 = 4;
const CY: u32 = 5;
const DB: u32 = 6;
const GATEWAY: u32 = 7;
const KIOSK: u32 = 8;
const LEFT: u32 = 9;

fn world() -> World {
    let mut gateway = device(GATEWAY, "gw", &["ci"], Some("ana@x"));
    gateway.routes = vec!["10.1.0.0/16".parse().unwrap()];
    World {
        devices: vec![
            device(ANA, "ana", &[], Some("ana@x")),
            device(ANA_PHONE, "phone", &[], Some("ana@x")),
            device(BO, "bo", &[], Some("bo@x")),
            device(CY, "cy", &[], Some("cy@x")),
            device(DB, "db-1", &["db"], Some("ana@x")),
            gateway,
            device(KIOSK, "kiosk", &[], None),
            device(LEFT, "left", &[], Some("gone@x")),
        ],
        people: vec![
            person("ana@x", Role::Member, &[]),
            person("bo@x", Role::Member, &["engineers"]),
            person("cy@x", Role::Auditor, &[]),
        ],
    }
}

fn time(text: &str) -> UnixTime {
    let text = format!("[[rules]]\nfrom='any'\nto='any'\nservices='any'\nuntil={text}T00:00:00Z");
    parse(&text).unwrap().rules[0].until.unwrap()
}

fn compiled() -> Compiled {
    let document = parse(DOCUMENT).unwrap();
    Compiled::new(&document, &world(), time("2026-12-01"))
}

fn judge(from: u32, to: u32, port: u16) -> Verdict {
    let to = Destination::Device(host(to));
    compiled().judge(host(from), to, Protocol::Tcp, port)
}

fn by(rule: &str) -> Verdict {
    Verdict::Allowed(RuleId::new(rule).unwrap())
}

const NO_RULE: Verdict = Verdict::Denied(Denial::NoRule);

#[test]
fn people_reach_what_their_groups_may() {
    assert_eq!(judge(ANA, DB, 5_432), by("dev-db"));
    // By a group of the identity provider, in a group in a group.
    assert_eq!(judge(BO, DB, 5_432), by("dev-db"));
    assert_eq!(judge(KIOSK, DB, 5_432), NO_RULE);
    assert_eq!(
        judge(DB, ANA, 5_432),
        NO_RULE,
        "the other way is another way"
    );
    assert!(matches!(
        judge(ANA, DB, 22),
        Verdict::Denied(Denial::OtherServices(_))
    ));
}

/// A server that somebody enrolled has none of the person's rights.
#[test]
fn a_device_with_a_tag_is_nobodys() {
    assert_eq!(judge(ANA, ANA_PHONE, 22), by("own"));
    assert_eq!(judge(ANA, BO, 22), NO_RULE);
    assert!(!judge(ANA, DB, 22).is_allowed());
    assert_eq!(judge(DB, ANA, 22), NO_RULE);
    assert_eq!(judge(LEFT, LEFT, 22), NO_RULE, "its person is gone");
}

#[test]
fn rules_end() {
    assert_eq!(judge(CY, KIOSK, 443), by("audit"));
    let mut later = compiled();
    assert_eq!(later.next_change(), Some(time("2026-12-31")));
    assert!(!later.advance(time("2026-12-30")));
    assert!(later.advance(time("2026-12-31")));
    assert_eq!(later.next_change(), None);
    let to = Destination::Device(host(KIOSK));
    let verdict = later.judge(host(CY), to, Protocol::Tcp, 443);
    let (rule, until) = (RuleId::new("audit").unwrap(), time("2026-12-31"));
    assert_eq!(verdict, Verdict::Denied(Denial::Ended { rule, until }));
    assert!(
        !later
            .filter_of(host(CY))
            .allows_outbound(host(KIOSK), Protocol::Tcp, 443)
    );
    assert!(later.notes()[0].what.contains("rule audit ended"));
    let fresh = Compiled::new(&parse(DOCUMENT).unwrap(), &world(), time("2027-01-01"));
    assert_eq!(fresh.filter_of(host(KIOSK)), later.filter_of(host(KIOSK)));
}

#[test]
fn gateway_hosts_are_reached_by_rules_about_them() {
    let matrix = compiled();
    let printer = Host::Address("10.1.0.9".parse().unwrap());
    let judge =
        |from, host_, port| matrix.judge(host(from), Destination::Host(host_), Protocol::Tcp, port);
    assert_eq!(judge(BO, printer, 9_100), by("print"));
    assert_eq!(judge(KIOSK, printer, 9_100), by("print"));
    assert!(!judge(BO, printer, 22).is_allowed());
    assert_eq!(judge(DB, printer, 9_100), NO_RULE);
    assert_eq!(
        judge(BO, Host::Address("10.1.0.8".parse().unwrap()), 9_100),
        NO_RULE
    );
    assert_eq!(judge(BO, Host::Name("wiki.corp"), 443), NO_RULE);
    let gateway = matrix.filter_of(host(GATEWAY));
    assert!(gateway.judge_host_in(host(BO), printer, 9_100).is_allowed());
    assert!(!gateway.judge_host_in(host(DB), printer, 9_100).is_allowed());
    let kiosk = matrix.filter_of(host(KIOSK));
    assert!(
        kiosk
            .judge_host_out(host(GATEWAY), printer, 9_100)
            .is_allowed()
    );
    assert!(!kiosk.judge_host_out(host(BO), printer, 9_100).is_allowed());
    assert!(matrix.visible_to(host(KIOSK)).contains(&host(GATEWAY)));
    assert!(matrix.visible_to(host(GATEWAY)).contains(&host(KIOSK)));
    assert!(!matrix.visible_to(host(DB)).contains(&host(GATEWAY)));
}

#[test]
fn an_answer_names_rule_line_and_reason() {
    let matrix = compiled();
    let to = Destination::Device(host(DB));
    let answer = matrix.explain(host(BO), to, Protocol::Tcp, 5_432);
    assert!(answer.allowed);
    assert_eq!(
        answer.sentence,
        "bo may reach db-1 on tcp/5432: rule dev-db allows it"
    );
    assert_eq!(answer.place.unwrap().line, 11);
    assert_eq!(answer.comment.as_deref(), Some("see the handbook"));
    let refused = matrix.explain(host(KIOSK), to, Protocol::Icmp, 0);
    assert_eq!(
        refused.sentence,
        "kiosk may not reach db-1 on icmp: no rule of the network's policy allows it"
    );
    assert_eq!((refused.rule, refused.place), (None, None));
}

#[test]
fn the_starter_is_the_starter() {
    let document = parse(crate::STARTER).unwrap();
    let matrix = Compiled::new(&document, &world(), UnixTime::EPOCH);
    assert!(matrix.is_open());
    assert!(!compiled().is_open());
    for device in world().devices {
        assert_eq!(matrix.filter_of(device.host), Filter::starter());
        assert_eq!(matrix.visible_to(device.host).len(), 7);
    }
    assert_eq!(matrix.class_count(), 1);
    let nothing = Compiled::new(&Document::default(), &world(), UnixTime::EPOCH);
    let filter = nothing.filter_of(host(ANA));
    assert_eq!(filter.hosts_in, Some(Vec::new()));
    assert!(filter.inbound.is_empty() && filter.outbound.is_empty());
    assert!(nothing.visible_to(host(ANA)).is_empty());
}

#[test]
fn owners_and_those_who_are_named_set_tags() {
    let document = parse(DOCUMENT).unwrap();
    let [ana, bo, cy] = world().people.try_into().unwrap();
    assert!(document.may_set_tag(&ana, "db"));
    assert!(document.may_set_tag(&bo, "db"));
    assert!(!document.may_set_tag(&cy, "db"));
    assert!(!document.may_set_tag(&ana, "ci"));
    assert!(!document.may_set_tag(&ana, "unheard-of"));
    assert!(document.may_set_tag(&person("o@x", Role::Owner, &[]), "ci"));
    assert!(document.may_set_tag(&person("o@x", Role::Admin, &[]), "ci"));
}

#[test]
fn only_those_that_a_change_is_about_are_affected() {
    let old = compiled();
    let now = time("2026-12-01");
    assert!(compiled().affected(&old).is_empty());
    let change = |from: &str, to: &str| {
        let document = parse(&DOCUMENT.replace(from, to)).unwrap();
        let hosts = Compiled::new(&document, &world(), now).affected(&old);
        hosts.into_iter().map(HostIndex::get).collect::<Vec<u32>>()
    };
    assert_eq!(change("tcp/5432", "tcp/5433"), [ANA, ANA_PHONE, BO, DB]);
    assert_eq!(change("see the", "read the"), [0; 0]);
    assert_eq!(change("10.1.0.9", "10.1.0.8").len(), 6);
    let mut world = world();
    world.people[1].groups.clear();
    let document = parse(DOCUMENT).unwrap();
    let hosts = Compiled::new(&document, &world, now).affected(&old);
    assert!(
        hosts.contains(&host(BO)) && hosts.contains(&host(DB)),
        "{hosts:?}"
    );
    assert!(!hosts.contains(&host(KIOSK)), "{hosts:?}");
}
