use overlan_protocol::dns::Record;

use super::super::tests::{DEMO, netmap};
use super::*;

fn told(netmap: &Netmap, text: &str, error: &DialError) -> String {
    next(netmap, &Destination::from_text(text), 80, error).unwrap_or_default()
}

#[test]
fn a_step_names_the_device_that_it_is_about() {
    let mut netmap = netmap();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.peers.get_mut(&3).unwrap().routes = vec!["*.gw.internal".parse().unwrap()];
    let alias = [Record::Cname("git.gw.internal".to_owned())];
    demo.dns.set_records("git.demo.overlan.lan", &alias);
    for (text, error, step) in [
        (
            "web",
            DialError::Refused,
            "On web.demo.overlan.lan: `overlan serve list` shows whether port 80",
        ),
        ("100.64.0.2", DialError::Refused, "On web.demo.overlan.lan"),
        (
            "git",
            DialError::Refused,
            "db.demo.overlan.lan, the gateway, reached git.gw.internal",
        ),
        (
            "db",
            DialError::Offline,
            "Start `overlan up` on db.demo.overlan.lan;",
        ),
        (
            "git",
            DialError::Offline,
            "on db.demo.overlan.lan, the gateway to that host",
        ),
        (
            "git",
            DialError::UnknownName,
            "The gateway db.demo.overlan.lan cannot resolve the name",
        ),
        (
            "git",
            DialError::DeniedByPolicy,
            "db.demo.overlan.lan, the gateway, has no route",
        ),
        ("web", DialError::DeniedByPolicy, "A rule of the network"),
        (
            "web",
            DialError::TimedOut,
            "overlan ping web.demo.overlan.lan",
        ),
    ] {
        let told = told(&netmap, text, &error);
        assert!(told.contains(step), "{text} {error:?}: {told}");
    }
    // Whether a door leads outside is its own affair.
    assert_eq!(told(&netmap, "example.org", &DialError::Foreign), "");
}

#[test]
fn a_gateway_is_not_told_to_look_for_a_gateway() {
    let mut netmap = netmap();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    let address = [Record::A([10, 1, 2, 3].into())];
    demo.dns.set_records("pg.demo.overlan.lan", &address);
    let nobody = told(&netmap, "pg", &DialError::NoRoute);
    assert!(nobody.contains("overlan serve route"), "{nobody}");
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.routes = vec!["10.1.0.0/16".parse().unwrap()];
    let itself = told(&netmap, "pg", &DialError::NoRoute);
    assert!(
        itself.starts_with("This device is itself the gateway"),
        "{itself}"
    );
}
