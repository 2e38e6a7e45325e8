use super::super::short::find;
use super::super::tests::{netmap, two_networks};
use super::super::way::way;
use super::super::{Destination, NameError, Way};
use super::*;

fn told(netmap: &Netmap, text: &str) -> String {
    match way(netmap, &Destination::from_text(text), Some(80)) {
        Ok(Way::Foreign(NameError::Missing(missing))) | Err(NameError::Missing(missing)) => {
            format!("{missing}. {}", missing.next())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_name_that_is_nearly_one_of_ours_is_named_with_it() {
    let netmap = two_networks();
    for (text, near) in [
        ("wbe", "web.demo.overlan.lan"),
        ("weeb", "web.demo.overlan.lan"),
        ("we.demo", "(none)"),
        ("wef.lab", "web.lab.overlan.lan"),
        ("web.dmeo", "web.demo.overlan.lan"),
        ("web.demo.overlan.local", "web.demo.overlan.lan"),
        ("web.lab.overlan.internal", "web.lab.overlan.lan"),
        ("web.dem.overlan.lan", "web.demo.overlan.lan"),
        ("lapto.demo.overlan.lan", "laptop.demo.overlan.lan"),
        ("printer", "(none)"),
        ("db.other.overlan.lan", "(none)"),
    ] {
        let told = told(&netmap, text);
        match near {
            "(none)" => assert!(!told.contains("Did you mean"), "{text}: {told}"),
            near => assert!(
                told.contains(&format!("Did you mean {near}?")),
                "{text}: {told}"
            ),
        }
    }
    for public in ["www.example.org", "web.dev", "localhost", "web.", "wbe."] {
        let told = told(&netmap, public);
        assert_eq!(told, "Ok(Foreign(Foreign))", "{public}");
    }
}

#[test]
fn each_cause_is_told_as_it_is() {
    let mut netmap = two_networks();
    for (text, cause, is_foreign) in [
        ("printer", "networks demo, lab", true),
        ("printer.lab", "of network lab is called \"printer\"", true),
        ("printer.lab.overlan.lan", "of network lab is", false),
        (
            "web.prod.overlan.lan",
            "not in network prod, only in networks demo, lab",
            false,
        ),
        ("prod.overlan.lan", "not in network prod", false),
        ("a.b.lab.overlan.lan", "a.b.lab.overlan.lan", false),
        ("overlan.lan", "domain overlan.lan", false),
    ] {
        let missing = Missing::of(&netmap, text).unwrap();
        assert!(missing.to_string().contains(cause), "{text}: {missing}");
        assert_eq!(missing.is_foreign(), is_foreign, "{text}");
    }
    netmap.networks.clear();
    for text in ["web", "web.demo.overlan.lan", "100.64.0.2"] {
        let told = told(&netmap, text);
        assert!(told.contains("waits for the approval"), "{text}: {told}");
        assert!(told.contains("overlan admin device approve"), "{told}");
    }
    assert_eq!(told(&netmap, "www.example.org"), "Ok(Foreign(Foreign))");
}

#[test]
fn a_command_hears_at_once_that_a_short_name_means_nothing() {
    let netmap = netmap();
    for text in ["printer", "printer.demo", "web.dmeo"] {
        let found = find(&netmap, text);
        assert!(matches!(found, Err(NameError::Missing(_))), "{found:?}");
    }
    for text in [
        "www.example.org",
        "web.dev",
        "printer.demo.overlan.lan",
        "web.",
    ] {
        let found = find(&netmap, text);
        assert_eq!(found, Ok(Destination::Name(text.to_owned())));
    }
}

#[test]
fn one_edit_is_near_and_two_are_not() {
    for (one, other) in [
        ("web", "wbe"),
        ("web", "we8"),
        ("web", "webb"),
        ("cweb", "web"),
        ("wb1", "wbe1"),
    ] {
        assert!(
            is_nearly(one, other) && is_nearly(other, one),
            "{one} {other}"
        );
    }
    for (one, other) in [
        ("web", "web"),
        ("web", "bwe"),
        ("db", "dc"),
        ("web", "webxx"),
        ("abcd", "badc"),
        ("", ""),
    ] {
        assert!(
            !is_nearly(one, other) && !is_nearly(other, one),
            "{one} {other}"
        );
    }
}
