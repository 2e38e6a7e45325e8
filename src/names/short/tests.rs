use overlan_protocol::dns::{Record, Zone};
use overlan_protocol::key::IdentityKey;

use super::super::tests::{DEMO, LAB, netmap, two_networks};
use super::super::{NoRouteToPort, Way, resolve};
use super::*;

#[test]
fn short_names_stand_for_whole_ones_that_are_there() {
    let mut netmap = two_networks();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.network_with("site", "CNAME", "web.demo.overlan.lan");
    demo.dns.set_zone("corp.lab", Some(&Zone::default()));
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.peers.get_mut(&2).unwrap().label = "only".into();
    lab.peers.get_mut(&3).unwrap().label = "corp".into();
    for (text, whole) in [
        ("only", "only.lab.overlan.lan"),
        ("ONLY.Lab", "only.lab.overlan.lan"),
        ("site", "site.demo.overlan.lan"),
        ("web", "web.demo.overlan.lan"),
        // What nobody here has is for others, and so is what says that it is whole.
        ("web.dev", "web.dev"),
        ("only.demo", "only.demo"),
        ("only.", "only"),
        ("only.lab.", "only.lab"),
        ("localhost", "localhost"),
        ("a.only.lab", "a.only.lab"),
        // A zone has its names as they are, whatever a device is called.
        ("corp.lab", "corp.lab"),
        ("web.demo.overlan.lan.", "web.demo.overlan.lan"),
    ] {
        assert_eq!(whole_name(&netmap, text), Ok(whole.to_owned()), "{text}");
    }
    assert_eq!(whole_name(&netmap, "we b"), Err(NameError::Unknown));
}

trait With {
    fn network_with(&mut self, label: &str, kind: &str, value: &str);
}

impl With for Network {
    fn network_with(&mut self, label: &str, kind: &str, value: &str) {
        let name = format!("{label}.{}.overlan.lan", self.name);
        let record = Record::parse(kind, value).unwrap();
        self.dns.set_records(&name, &[record]);
    }
}

#[test]
fn a_name_of_several_devices_is_refused_with_all_of_them_and_one_of_one_device_is_not() {
    let mut netmap = two_networks();
    // The same key in both.
    assert_eq!(
        whole_name(&netmap, "web"),
        Ok("web.demo.overlan.lan".into())
    );
    assert_eq!(
        whole_name(&netmap, "laptop"),
        Ok("laptop.demo.overlan.lan".into())
    );
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.peers.get_mut(&2).unwrap().identity = IdentityKey([8; 32]);
    let refused = whole_name(&netmap, "web").unwrap_err().to_string();
    assert!(
        refused.contains("web.demo.overlan.lan or web.lab.overlan.lan"),
        "{refused}"
    );
    let ambiguous = Err(NameError::AmbiguousName(Box::new(Several {
        label: "web".into(),
        names: vec!["web.demo.overlan.lan".into(), "web.lab.overlan.lan".into()],
    })));
    assert_eq!(resolve(&netmap, &Destination::from_text("WEB")), ambiguous);
    // This device and a peer that is called like it are two.
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.label = "me".into();
    lab.peers.get_mut(&3).unwrap().label = "laptop".into();
    assert!(matches!(
        whole_name(&netmap, "laptop"),
        Err(NameError::AmbiguousName(_))
    ));
    // A record that stands for the device is the device; one that leads elsewhere is not.
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.peers.remove(&2);
    lab.network_with("web", "CNAME", "web.demo.overlan.lan");
    assert_eq!(
        whole_name(&netmap, "web"),
        Ok("web.demo.overlan.lan".into())
    );
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.network_with("web", "A", "10.1.2.3");
    assert!(matches!(
        whole_name(&netmap, "web"),
        Err(NameError::AmbiguousName(_))
    ));
}

#[test]
fn a_device_does_not_take_the_name_of_what_a_gateway_leads_to() {
    let mut netmap = netmap();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.peers.get_mut(&3).unwrap().routes = vec!["*.demo:443".parse().unwrap()];
    let ask = |port| way(&netmap, &Destination::from_text("web.demo"), Some(port));
    let Ok(Way::Gateway(hosts)) = ask(443) else {
        panic!("{:?}", ask(443))
    };
    let host = hosts.preferred();
    assert_eq!((host.host.get(), &*host.target), (3, "web.demo"));
    assert!(
        matches!(ask(80), Ok(Way::Foreign(NameError::NoRouteToPort(_)))),
        "{:?}",
        ask(80)
    );
    assert_eq!(
        whole_name(&netmap, "web"),
        Ok("web.demo.overlan.lan".into())
    );
}

#[test]
fn a_port_that_no_gateway_offers_is_told_with_those_that_are() {
    let mut netmap = netmap();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.peers.get_mut(&2).unwrap().routes = ["10.1.2.3:5432", "10.1.2.3:22", "db.internal:5432"]
        .map(|text| text.parse().unwrap())
        .into();
    demo.network_with("pg", "CNAME", "db.internal");
    demo.network_with("far", "A", "192.0.2.1");
    demo.network_with("out", "CNAME", "www.example.org");
    demo.network_with("note", "TXT", "text");
    let ask = |text: &str, port| way(&netmap, &Destination::from_text(text), Some(port));
    let no_route_to_port = |text: &str| match ask(text, 80) {
        Ok(Way::Foreign(NameError::NoRouteToPort(it))) | Err(NameError::NoRouteToPort(it)) => it,
        other => panic!("{text}: {other:?}"),
    };
    for (text, ports, is_foreign) in [
        ("10.1.2.3", "ports with a route: 22, 5432", true),
        ("::ffff:10.1.2.3", "ports with a route: 22, 5432", true),
        ("db.internal", "ports with a route: 5432", true),
        ("pg", "ports with a route: 5432", false),
        ("pg.demo.overlan.lan", "ports with a route: 5432", false),
    ] {
        let told = no_route_to_port(text);
        let shown = told.to_string();
        assert!(
            shown.contains("port 80 of") && shown.ends_with(ports),
            "{text}: {shown}"
        );
        assert_eq!(NoRouteToPort::is_foreign(&told), is_foreign, "{text}");
        assert!(
            told.next().contains("overlan admin route approve web "),
            "{}",
            told.next()
        );
        assert!(matches!(ask(text, 5432), Ok(Way::Gateway(_))), "{text}");
    }
    // A name of ours is never for another resolver, whatever it stands for.
    for text in ["far", "out.demo", "out.demo.overlan.lan"] {
        assert_eq!(ask(text, 80), Err(NameError::NoRoute), "{text}");
    }
    assert_eq!(ask("note", 80), Err(NameError::Unknown));
}

#[test]
fn what_an_old_map_does_not_know_may_still_be_a_short_name() {
    let netmap = netmap();
    for (text, expected) in [
        ("printer", true),
        ("printer.DEMO", true),
        ("localhost", false),
        ("printer.", false),
        ("www.example.org", false),
        ("web.dev", false),
        ("100.64.0.2", false),
    ] {
        let destination = Destination::from_text(text);
        assert_eq!(is_short(&netmap, &destination), expected, "{text}");
    }
}
