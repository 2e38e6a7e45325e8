use std::collections::BTreeMap;

use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, IdentityKey, TunnelKey};
use overlan_protocol::netmap::Peer;
use overlan_protocol::policy::Filter;
use proptest::prelude::*;

use super::*;
use overlan_protocol::dns::{Record, Zone};

pub(crate) const DEMO: NetworkId = NetworkId([1; 16]);
pub(crate) const LAB: NetworkId = NetworkId([2; 16]);

/// `laptop` is this device; `web` is online, `db` is not.
pub(crate) fn netmap() -> Netmap {
    Netmap {
        version: 7,
        lineage: None,
        domain: "overlan.lan".into(),
        device: DeviceId([9; 16]),
        networks: BTreeMap::from([(DEMO, network("demo", 0x1000))]),
        relays: BTreeMap::new(),
    }
}

/// A second network with the same labels and addresses.
pub(crate) fn two_networks() -> Netmap {
    let mut netmap = netmap();
    netmap.networks.insert(LAB, network("lab", 0x1001));
    netmap
}

pub(crate) fn network(name: &str, vni: u32) -> Network {
    Network {
        routes: Vec::new(),
        name: name.into(),
        vni: Vni::new(vni).unwrap(),
        host: host(1),
        label: "laptop".into(),
        relays: vec![],
        filter: Filter::starter(),
        peers: BTreeMap::from([(host(2), peer("web", true)), (host(3), peer("db", false))]),
        dns: Default::default(),
    }
}

const fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

fn peer(label: &str, online: bool) -> Peer {
    Peer {
        owner: Default::default(),
        routes: Vec::new(),
        device: DeviceId([4; 16]),
        label: label.into(),
        identity: IdentityKey([5; 32]),
        tunnel: TunnelKey([6; 32]),
        tunnel_signature: String::new(),
        relays: vec![],
        online,
    }
}

fn ask(netmap: &Netmap, text: &str) -> Result<Resolved, NameError> {
    resolve(netmap, &Destination::from_text(text))
}

const WEB: Resolved = Resolved {
    network: DEMO,
    host: host(2),
    own: false,
    online: true,
};

#[test]
fn names_and_addresses_mean_devices() {
    let netmap = netmap();
    for text in [
        "web.demo.overlan.lan",
        "web.demo.overlan.lan.",
        "WEB.Demo.OVERLAN.lan",
        "100.64.0.2",
        "::ffff:100.64.0.2",
        "fd3b:7e5c:1a42::2",
    ] {
        assert_eq!(ask(&netmap, text), Ok(WEB), "{text}");
    }
    let own = Resolved {
        network: DEMO,
        host: host(1),
        own: true,
        online: true,
    };
    assert_eq!(ask(&netmap, "laptop.demo.overlan.lan"), Ok(own));
    assert_eq!(ask(&netmap, "100.64.0.1"), Ok(own));
    let db = ask(&netmap, "db.demo.overlan.lan").unwrap();
    assert!(!db.online, "a name says who is meant even while it is away");
}

#[test]
fn a_networks_old_name_means_the_same_until_it_ends() {
    let mut netmap = netmap();
    let old = ["web.home.overlan.lan", "WEB.Home.overlan.lan.", "web.home"];
    for text in old {
        assert_ne!(ask(&netmap, text), Ok(WEB), "{text}");
    }
    netmap.networks.get_mut(&DEMO).unwrap().dns.former = vec!["home".to_owned()];
    for text in old {
        assert_eq!(ask(&netmap, text), Ok(WEB), "{text}");
    }
    let ghost = ask(&netmap, "ghost.home.overlan.lan");
    assert_eq!(ghost, Err(NameError::Unknown));
    // The name that a network has now counts before one that another had.
    netmap.networks.insert(LAB, network("home", 0x1001));
    let web = ask(&netmap, "web.home.overlan.lan").unwrap();
    assert_eq!(web.network, LAB);
}

#[test]
fn what_means_no_device_says_why() {
    let netmap = netmap();
    for (text, error) in [
        ("example.org", NameError::Foreign),
        ("localhost", NameError::Foreign),
        ("notoverlan.lan", NameError::Foreign),
        ("my_host.example.org", NameError::Foreign),
        ("127.0.0.1", NameError::Foreign),
        ("::1", NameError::Foreign),
        ("100.128.0.1", NameError::Foreign),
        ("mail.demo.overlan.lan", NameError::Unknown),
        ("web.other.overlan.lan", NameError::Unknown),
        ("demo.overlan.lan", NameError::Unknown),
        ("overlan.lan", NameError::Unknown),
        ("a.web.demo.overlan.lan", NameError::Unknown),
        ("100.64.0.9", NameError::Unknown),
        // Nobody's addresses, but ours: they never leave through another door.
        ("100.64.0.0", NameError::Unknown),
        ("100.127.255.255", NameError::Unknown),
        ("fd3b:7e5c:1a42:0:1::", NameError::Unknown),
    ] {
        assert_eq!(ask(&netmap, text), Err(error), "{text}");
    }
}

#[test]
fn what_is_no_name_is_unknown_before_anybody_uses_it() {
    let netmap = netmap();
    let label64 = format!("{}.example.org", "a".repeat(64));
    let long = format!("{}example.org", "a.".repeat(122));
    for text in [
        "",
        ".",
        "..",
        ".web.demo.overlan.lan",
        "web..demo.overlan.lan",
        "web.demo.overlan.lan..",
        "web\0.demo.overlan.lan",
        "we b.example.org",
        "büro.example.org",
        "example.org/x",
        "user@example.org",
        &label64,
        &long,
    ] {
        assert_eq!(ask(&netmap, text), Err(NameError::Unknown), "{text:?}");
    }
    let longest = format!("{}{}", "a.".repeat(121), "example.org");
    assert_eq!(longest.len(), NAME_MAX);
    assert_eq!(ask(&netmap, &longest), Err(NameError::Foreign));
    assert_eq!(
        ask(&netmap, &format!("{longest}.")),
        Err(NameError::Foreign)
    );
}

#[test]
fn in_several_networks_only_a_name_says_which() {
    let netmap = two_networks();
    assert_eq!(ask(&netmap, "100.64.0.2"), Err(NameError::AmbiguousAddress));
    let second = netmap.networks.values().nth(1).unwrap().name.clone();
    let (id, _) = netmap.network_named(&second).unwrap();
    let one = ask(&netmap, &format!("100.64.0.2%{second}"));
    assert_eq!(one.map(|device| device.network), Ok(id));
    assert_eq!(ask(&netmap, "100.64.0.2%nowhere"), Err(NameError::Unknown));
    // A zone of the host's own is no network.
    assert_eq!(ask(&netmap, "fe80::1%eth0"), Err(NameError::Unknown));
    assert_eq!(ask(&netmap, "web.demo.overlan.lan"), Ok(WEB));
    let lab = ask(&netmap, "web.lab.overlan.lan").unwrap();
    assert_eq!((lab.network, lab.host.get()), (LAB, 2));
    let mut none = netmap;
    none.networks.clear();
    assert_eq!(ask(&none, "100.64.0.2"), Err(NameError::Unknown));
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,300}") {
        let _ = ask(&two_networks(), &text);
    }
}

#[test]
fn records_mean_the_devices_of_their_network() {
    use overlan_protocol::dns::Zone;
    let mut netmap = two_networks();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    demo.dns.set_zone("corp.internal", Some(&Zone::default()));
    for (name, kind, value) in [
        ("wiki.demo.overlan.lan", "CNAME", "git.corp.internal"),
        ("git.corp.internal", "A", "100.64.0.2"),
        ("far.corp.internal", "A", "192.0.2.1"),
        ("one.corp.internal", "CNAME", "one.corp.internal"),
    ] {
        let record = Record::parse(kind, value).unwrap();
        demo.dns.set_records(name, &[record]);
    }
    assert_eq!(ask(&netmap, "Wiki.demo.overlan.lan."), Ok(WEB));
    assert_eq!(ask(&netmap, "git.corp.internal"), Ok(WEB));
    for name in [
        "far.corp.internal",
        "one.corp.internal",
        "no.corp.internal",
        "wiki.lab.overlan.lan",
    ] {
        assert_eq!(ask(&netmap, name), Err(NameError::Unknown), "{name}");
    }
    assert_eq!(ask(&netmap, "corp.example"), Err(NameError::Foreign));
}

#[test]
fn a_gateway_host_is_found_by_the_closest_route_of_a_gateway_that_is_online() {
    let mut netmap = netmap();
    let id = *netmap.networks.keys().next().unwrap();
    let network = netmap.networks.get_mut(&id).unwrap();
    let peer = network.peers.values().next().unwrap().clone();
    let mut put = |host: u32, online: bool, routes: &[&str]| {
        let mut gateway = peer.clone();
        gateway.online = online;
        gateway.routes = routes.iter().map(|text| text.parse().unwrap()).collect();
        network.peers.insert(HostIndex::new(host).unwrap(), gateway);
    };
    put(11, true, &["10.0.0.0/8", "*.corp.internal"]);
    put(12, true, &["10.1.0.0/16:5432", "db.corp.internal"]);
    put(13, false, &["10.1.2.3", "only.example"]);
    let ask = |text: &str, port: u16| {
        let hosts = gateways(&netmap, &Destination::from_text(text), Some(port), None)?;
        let host = hosts.preferred();
        Some((host.host.get(), host.online, host.target.clone()))
    };
    let found = |host, online, target: &str| Some((host, online, target.to_owned()));
    assert_eq!(ask("10.1.2.3", 5432), found(12, true, "10.1.2.3"));
    assert_eq!(ask("::ffff:10.1.2.3", 22), found(11, true, "10.1.2.3"));
    assert_eq!(
        ask("DB.corp.internal.", 22),
        found(12, true, "db.corp.internal")
    );
    assert_eq!(
        ask("x.corp.internal", 22),
        found(11, true, "x.corp.internal")
    );
    assert_eq!(ask("only.example", 22), found(13, false, "only.example"));
    assert_eq!(ask("example.org", 22), None);
    assert_eq!(ask("11.0.0.1", 22), None);
    let network = netmap.networks.get_mut(&id).unwrap();
    let own = |label: &str, domain: &str| format!("{label}.{}.{domain}", network.name);
    let (alias, address, loops) = (
        own("alias", &netmap.domain),
        own("address", &netmap.domain),
        own("loop", &netmap.domain),
    );
    let cname = |target: &str| vec![Record::Cname(target.to_owned())];
    network.dns.set_records(&alias, &cname("x.corp.internal"));
    network
        .dns
        .set_records(&address, &[Record::A([10, 1, 2, 3].into())]);
    network.dns.set_records(&loops, &cname(&loops));
    let ask = |text: &str| {
        let found = gateways(&netmap, &Destination::from_text(text), Some(22), None);
        found.map(|it| it.preferred().target.clone())
    };
    assert_eq!(ask(&alias).as_deref(), Some("x.corp.internal"));
    assert_eq!(ask(&address).as_deref(), Some("10.1.2.3"));
    assert_eq!(ask(&loops), None);
    let any_port = gateways(&netmap, &Destination::from_text("10.1.2.3"), None, None);
    assert!(any_port.is_some());
}

#[test]
fn the_network_of_bare_addresses_leaves_the_hosts_of_gateways_alone() {
    let mut netmap = two_networks();
    let lab = netmap.networks.get_mut(&LAB).unwrap();
    lab.peers.get_mut(&3).unwrap().routes = vec!["10.0.0.0/8".parse().unwrap()];
    let snapshot = Snapshot::new(netmap.into(), Some("demo".to_owned()));
    let ask = |text: &str, port| snapshot.way(&Destination::from_text(text), port);
    for port in [Some(22), None] {
        let Ok(Way::Gateway(hosts)) = ask("10.1.2.3", port) else {
            panic!("{:?}", ask("10.1.2.3", port));
        };
        let host = hosts.preferred();
        assert_eq!((host.network, &*host.target), (LAB, "10.1.2.3"));
    }
    // An overlay address is in every network, so the setting decides.
    assert_eq!(ask("100.64.0.2", None), Ok(Way::Device(WEB)));
    // A foreign address stays foreign, so that a door may look for it in other networks.
    let foreign = ask("192.0.2.1", Some(22));
    assert_eq!(foreign, Ok(Way::Foreign(NameError::Foreign)));
}

#[test]
fn names_of_zones_with_resolvers_are_theirs_by_records_of_ours_too() {
    let mut netmap = two_networks();
    let demo = netmap.networks.get_mut(&DEMO).unwrap();
    let via = vec!["db".parse().unwrap()];
    demo.dns.set_zone("corp.example", Some(&Zone { via }));
    demo.dns
        .set_zone("own.corp.example", Some(&Zone::default()));
    let alias = [Record::Cname("git.corp.example".to_owned())];
    demo.dns.set_records("git.demo.overlan.lan", &alias);
    let ask = |text: &str| match way::way(&netmap, &Destination::from_text(text), None) {
        Ok(Way::Zone { name, zone }) => Some((name, zone.network, zone.zone)),
        _ => None,
    };
    let found = |name: &str| Some((name.to_owned(), DEMO, "corp.example".to_owned()));
    assert_eq!(ask("DB.corp.example."), found("db.corp.example"));
    assert_eq!(ask("corp.example"), found("corp.example"));
    assert_eq!(ask("git.demo.overlan.lan"), found("git.corp.example"));
    for other in [
        "x.own.corp.example",
        "mycorp.example",
        "web.demo.overlan.lan",
        "10.1.2.3",
    ] {
        assert_eq!(ask(other), None, "{other}");
    }
}

#[test]
fn an_address_of_ipv4_is_one_destination_however_it_is_written() {
    let plain = Destination::from_text("100.64.0.1");
    assert_eq!(
        plain,
        Destination::Address("100.64.0.1".parse::<IpAddr>().unwrap().into())
    );
    for written in [
        "::ffff:100.64.0.1",
        "::FFFF:6440:1",
        "0:0:0:0:0:ffff:6440:0001",
    ] {
        assert_eq!(Destination::from_text(written), plain, "{written}");
        let address: IpAddr = written.parse().unwrap();
        assert_eq!(Destination::from(address), plain);
    }
    assert_eq!(
        Destination::from_text("::ffff:100.64.0.1%Home"),
        Destination::from_text("100.64.0.1%home")
    );
    // Another kind of address that only holds one.
    assert_ne!(Destination::from_text("::6440:1"), plain);
}
