use overlan_protocol::api::Role;
use overlan_protocol::{HostIndex, UnixTime};

use crate::{Compiled, World, WorldDevice, WorldPerson, parse, run_tests};

const POLICY: &str = r#"
[groups]
dev = ["ana@x", "idp:engineers"]
[tags]
db = []
[hosts]
net = "10.1.0.0/16"
part = "10.1.2.0/24"
[[rules]]
id = "dev-db"
from = "group:dev"
to = "tag:db"
services = ["tcp/5432", "tcp/8000-8099"]
[[rules]]
id = "own"
from = "members"
to = "self"
services = "tcp/22"
[[rules]]
id = "part"
from = "members"
to = "host:part"
services = "tcp/80"
"#;

fn failures(tests: &str, world: &World) -> Vec<String> {
    let document = parse(&format!("{POLICY}{tests}")).unwrap();
    let compiled = Compiled::new(&document, world, UnixTime::EPOCH);
    let failures = run_tests(&document, &compiled);
    failures.into_iter().map(|it| it.to_string()).collect()
}

fn one(from: &str, to: &str, more: &str) -> Vec<String> {
    let test = format!("[[tests]]\nfrom='{from}'\nto='{to}'\n{more}\n");
    failures(&test, &World::default())
}

/// Nobody has to exist for a test to say something.
#[test]
fn tests_are_about_words() {
    assert!(one("ana@x", "tag:db", "allow='tcp/5432'\ndeny='tcp/22'").is_empty());
    assert!(one("group:dev", "tag:db", "allow='tcp/8000-8099'").is_empty());
    assert!(one("idp:engineers", "tag:db", "allow='tcp/5432'").is_empty());
    assert!(one("bo@x", "tag:db", "deny='any'").is_empty());
    assert!(one("members", "self", "allow='tcp/22'\ndeny='tcp/23'").is_empty());
    assert!(one("ana@x", "bo@x", "deny='any'").is_empty());
    assert!(one("ana@x", "ana@x", "allow='tcp/22'").is_empty());
    assert!(one("tag:db", "any", "deny='any'").is_empty());
    assert!(one("ana@x", "host:part", "allow='tcp/80'\ndeny='tcp/81'").is_empty());
}

#[test]
fn a_failure_names_the_test_and_the_rule() {
    assert_eq!(
        one("ana@x", "tag:db", "deny='tcp/5000-6000'"),
        ["line 24, column 1: ana@x to tag:db must be denied tcp/5432, and rule dev-db allows it"]
    );
    assert_eq!(
        one("group:dev", "tag:db", "allow='tcp/8090-8100'"),
        ["line 24, column 1: group:dev to tag:db must be allowed tcp/8100, and no rule allows it"]
    );
    assert_eq!(one("members", "tag:db", "allow='tcp/5432'").len(), 1);
    // A rule about a part of a range does not allow the whole, and does not leave it denied.
    assert_eq!(one("ana@x", "host:net", "allow='tcp/80'").len(), 1);
    assert_eq!(one("ana@x", "host:net", "deny='tcp/80'").len(), 1);
    assert_eq!(one("ana@x", "host:*", "deny='tcp/80'").len(), 1);
    assert!(one("tag:db", "host:*", "deny='any'").is_empty());
}

/// Nobody could know from the document alone who is in a group of the identity provider.
#[test]
fn tests_hold_for_those_who_exist() {
    let device = WorldDevice {
        host: HostIndex::MIN,
        label: "bo-laptop".to_owned(),
        tags: Vec::new(),
        owner: Some("bo@x".to_owned()),
        routes: Vec::new(),
    };
    let mut world = World {
        devices: vec![device],
        people: vec![WorldPerson {
            email: "bo@x".to_owned(),
            role: Role::Member,
            groups: vec!["engineers".to_owned()],
        }],
    };
    let test = "[[tests]]\nfrom='role:member'\nto='tag:db'\ndeny='any'\n";
    assert_eq!(
        failures(test, &world),
        [
            "line 24, column 1: role:member to tag:db must be denied tcp/5432, and rule dev-db \
             allows it (such as device bo-laptop)"
        ]
    );
    world.people[0].groups.clear();
    assert!(failures(test, &world).is_empty());
}
