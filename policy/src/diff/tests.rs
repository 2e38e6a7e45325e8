use overlan_protocol::{HostIndex, UnixTime};

use crate::{Among, Compiled, Difference, Shift, World, WorldDevice, WorldPerson, diff, parse};

fn world() -> World {
    let device = |number: u32, label: &str, owner: &str, tags: &[&str]| WorldDevice {
        host: HostIndex::new(number).unwrap(),
        label: label.to_owned(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        owner: Some(owner.to_owned()),
        routes: Vec::new(),
    };
    let person = |email: &str| WorldPerson {
        email: email.to_owned(),
        role: overlan_protocol::api::Role::Member,
        groups: Vec::new(),
    };
    World {
        devices: vec![
            device(2, "ana", "ana@x", &[]),
            device(3, "ana-2", "ana@x", &[]),
            device(4, "bo", "bo@x", &[]),
            device(5, "db", "bo@x", &["db"]),
        ],
        people: vec![person("ana@x"), person("bo@x")],
    }
}

fn compare(old: &str, new: &str) -> Difference {
    let head = "[tags]\ndb = []\n[hosts]\nnet='10.1.0.0/16'\npart='10.1.2.0/24'\n";
    let of = |rules: &str| {
        let document = parse(&format!("{head}{rules}")).unwrap();
        Compiled::new(&document, &world(), UnixTime::EPOCH)
    };
    diff(&of(old), &of(new))
}

fn rule(id: &str, from: &str, to: &str, services: &str) -> String {
    format!("[[rules]]\nid='{id}'\nfrom='{from}'\nto='{to}'\nservices='{services}'\n")
}

fn shown(shifts: &[Shift]) -> Vec<String> {
    let each = shifts.iter().map(|it| {
        let (from, to) = (it.from.join(","), it.to.join(","));
        let own = match it.among {
            Among::All => "",
            Among::OnePerson => " within",
            Among::Others => " between",
        };
        format!("{from} -> {to} {} by {}{own}", it.service, it.rule)
    });
    each.collect()
}

#[test]
fn gains_and_losses_name_their_rules() {
    let old = rule("people-db", "members", "tag:db", "tcp/5432");
    let new = rule("ana-db", "ana@x", "tag:db", "tcp/5000-6000");
    let difference = compare(&old, &new);
    assert_eq!(
        shown(&difference.gains),
        [
            "ana,ana-2 -> db tcp/5000-5431 by ana-db",
            "ana,ana-2 -> db tcp/5433-6000 by ana-db"
        ]
    );
    assert_eq!(
        shown(&difference.losses),
        ["bo -> db tcp/5432 by people-db"]
    );
    assert!(!difference.is_cut);
}

#[test]
fn the_same_reach_by_other_rules_is_no_difference() {
    let old = rule("one", "members", "tag:db", "tcp/80-89");
    let new = rule("a", "ana@x", "tag:db", "tcp") + &rule("b", "bo@x", "tag:db", "tcp/80-89");
    let difference = compare(&old, &new);
    assert_eq!(difference.losses, []);
    assert_eq!(shown(&difference.gains).len(), 2, "{difference:?}");
    assert!(compare(&old, &old.replace("one", "other")).is_empty());
}

#[test]
fn devices_of_one_person_are_said_to_be() {
    let old = rule("own", "members", "self", "tcp/22");
    let difference = compare(&old, "");
    assert_eq!(
        shown(&difference.losses),
        ["ana,ana-2,bo -> ana,ana-2,bo tcp/22 by own within"]
    );
    // The devices of one person could already.
    let all = rule("all", "members", "members", "tcp/22");
    let difference = compare(&old, &(old.clone() + &all));
    assert_eq!(
        shown(&difference.gains),
        ["ana,ana-2,bo -> ana,ana-2,bo tcp/22 by all between"]
    );
    assert_eq!(difference.losses, []);
}

#[test]
fn gateway_hosts_are_compared_by_what_rules_name() {
    let difference = compare(
        &rule("net", "members", "host:net", "tcp/80"),
        &rule("part", "members", "host:part", "tcp/80"),
    );
    assert_eq!(
        shown(&difference.losses),
        ["ana,ana-2,bo -> 10.1.0.0/16 tcp/80 by net"]
    );
    assert_eq!(difference.gains, [], "a part of it was reached before");
}
