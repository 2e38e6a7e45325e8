//! DNS answers for a name what a connection to it reaches, by its short name as by its whole one,
//! from every door and command; and waiting, status and advice ask the same question as the dial.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use overlan_protocol::dns::{Record as OwnRecord, Zone, is_in};
use overlan_protocol::gateway::Host;
use overlan_protocol::key::{IdentityKey, NetworkId};
use overlan_protocol::netmap::Network;

use super::*;
use crate::names::{
    Destination, DialError, NameError, Resolved, Snapshot, Way, whole_name, zone_of,
};

const NETWORKS: [&str; 3] = ["home", "acme", "dev"];
const LABELS: [&str; 4] = ["web", "db", "app", "site"];
const DOMAIN: &str = "overlan.lan";

/// Names that records have and stand for.
fn all_names() -> Vec<String> {
    let own = NETWORKS.iter().flat_map(|network| {
        let label = move |label: &&str| format!("{label}.{network}.{DOMAIN}");
        LABELS.iter().map(label)
    });
    let others = [
        "x.web.home.overlan.lan",
        "git.corp.internal",
        "db.corp.internal",
        "corp.internal",
        "app.far.example",
        "h.gw.internal",
        "www.example.org",
        "db.home",
        "home.overlan.lan",
    ];
    own.chain(others.map(str::to_owned)).collect()
}

fn record() -> impl Strategy<Value = OwnRecord> {
    prop_oneof![
        3 => (1u32..6).prop_map(|host| OwnRecord::A(HostIndex::new(host).unwrap().v4())),
        1 => (1u32..6).prop_map(|host| OwnRecord::Aaaa(HostIndex::new(host).unwrap().v6())),
        2 => (1u8..4).prop_map(|last| OwnRecord::A([10, 1, 2, last].into())),
        4 => prop::sample::select(all_names()).prop_map(OwnRecord::Cname),
        1 => Just(OwnRecord::Txt("text".to_owned())),
    ]
}

#[derive(Debug, Clone)]
struct Member {
    label: usize,
    key: u8,
    online: bool,
    routes: Vec<&'static str>,
}

fn member() -> impl Strategy<Value = Member> {
    let routes = prop::sample::subsequence(
        vec![
            "10.1.2.1",
            "10.1.2.0/24:22",
            "10.1.2.2:80",
            "*.gw.internal",
            "h.gw.internal:22",
            "db.home",
            "git.corp.internal:80",
        ],
        0..3,
    );
    (0..LABELS.len(), 0u8..3, any::<bool>(), routes).prop_map(|(label, key, online, routes)| {
        Member {
            label,
            key,
            online,
            routes,
        }
    })
}

type Records = Vec<(usize, Vec<OwnRecord>)>;

fn netmaps() -> impl Strategy<Value = Netmap> {
    let records = prop::collection::vec(
        (0..all_names().len(), prop::collection::vec(record(), 1..3)),
        0..6,
    );
    let one = (
        prop::option::weighted(0.8, prop::collection::vec(member(), 0..4)),
        records,
        prop::sample::subsequence(vec!["corp.internal", "far.example"], 0..=2),
        prop::sample::select(vec!["laptop", "web"]),
    );
    prop::collection::vec(one, 3).prop_map(|networks| {
        let networks = networks.into_iter().zip(NETWORKS).enumerate();
        let known = networks.filter_map(|(index, ((members, records, zones, own), name))| {
            let id = NetworkId([index as u8 + 1; 16]);
            Some((id, made(name, members?, records, &zones, own)))
        });
        Netmap {
            networks: known.collect::<BTreeMap<_, _>>(),
            domain: DOMAIN.to_owned(),
            ..netmap()
        }
    })
}

fn made(name: &str, members: Vec<Member>, records: Records, zones: &[&str], own: &str) -> Network {
    let mut network = network(name, 0x1000);
    let peer = network.peers.remove(&2).unwrap();
    network.peers.clear();
    network.label = own.to_owned();
    for (index, member) in members.into_iter().enumerate() {
        let label = LABELS[member.label];
        if label == own || network.peers.values().any(|it| it.label == label) {
            continue;
        }
        let mut peer = peer.clone();
        peer.label = label.to_owned();
        peer.identity = IdentityKey([member.key; 32]);
        peer.online = member.online;
        peer.routes = member.routes.iter().map(|it| it.parse().unwrap()).collect();
        network
            .peers
            .insert(HostIndex::new(index as u32 + 2).unwrap(), peer);
    }
    for zone in zones {
        let via = match *zone {
            "far.example" => vec!["db".parse().unwrap()],
            _ => Vec::new(),
        };
        network.dns.set_zone(zone, Some(&Zone { via }));
    }
    // Only what a controller takes: names of the network or of its zones, and an alias alone.
    for (index, mut records) in records {
        let named = &all_names()[index];
        let zone = format!("{name}.{DOMAIN}");
        let in_zone = zones.contains(&"corp.internal") && is_in(named, "corp.internal");
        if !in_zone && !is_in(named, &zone) {
            continue;
        }
        let alias = records
            .iter()
            .find(|record| matches!(record, OwnRecord::Cname(_)))
            .cloned();
        if let Some(alias) = alias {
            records = vec![alias];
        }
        network.dns.set_records(named, &records);
    }
    network
}

/// The answer of DNS about a whole name.
#[derive(Debug)]
struct Said {
    code: ResponseCode,
    /// The end of the aliases.
    last: String,
    /// Addresses there.
    addresses: BTreeSet<IpAddr>,
}

fn said(netmap: &Netmap, name: &str) -> Said {
    let mut last = name.to_owned();
    let mut addresses = BTreeSet::new();
    let mut code = ResponseCode::NoError;
    for kind in [RecordType::A, RecordType::AAAA] {
        let reply = ask(netmap, &query(&format!("{name}."), kind), DnsTransport::Tcp);
        code = reply.metadata.response_code;
        for record in &reply.answers {
            if let RData::A(v4) = &record.data {
                addresses.insert(v4.0.into());
            } else if let RData::AAAA(v6) = &record.data {
                addresses.insert(v6.0.into());
            } else if let RData::CNAME(alias) = &record.data {
                last = text_of(&alias.0);
            } else {
                panic!("{record}");
            }
        }
    }
    Said {
        code,
        last,
        addresses,
    }
}

/// The network that a whole name belongs to, by its text and the zones.
fn network_of<'a>(netmap: &'a Netmap, name: &str) -> Option<(NetworkId, &'a Network)> {
    match name.strip_suffix(DOMAIN) {
        Some(below) => netmap.network_named(below.trim_end_matches('.').rsplit('.').next()?),
        None => zone_of(netmap, name).map(|(id, network, ..)| (id, network)),
    }
}

/// The devices that DNS means.
fn devices(netmap: &Netmap, said: &Said) -> Vec<(NetworkId, HostIndex)> {
    let Some((id, network)) = network_of(netmap, &said.last) else {
        return Vec::new();
    };
    let hosts = said
        .addresses
        .iter()
        .copied()
        .filter_map(HostIndex::of_address);
    let there = hosts.filter(|host| *host == network.host || network.peers.contains_key(host));
    there.map(|host| (id, host)).collect()
}

fn texts_to_ask() -> Vec<String> {
    let short = LABELS.iter().flat_map(|label| {
        let with = NETWORKS.map(|network| format!("{label}.{network}"));
        with.into_iter().chain([(*label).to_owned()])
    });
    let short: Vec<String> = short
        .chain(["laptop".to_owned(), "laptop.dev".to_owned()])
        .collect();
    all_names().into_iter().chain(short).collect()
}

fn key(netmap: &Netmap, device: Resolved) -> (bool, Option<IdentityKey>) {
    let peer = netmap.networks[&device.network].peers.get(&device.host);
    (device.own, peer.map(|peer| peer.identity))
}

/// The number of times that each way was seen: a test that never met one proves nothing about it.
#[derive(Default)]
struct WaysSeen {
    device: AtomicUsize,
    gateway: AtomicUsize,
    zone: AtomicUsize,
    foreign: AtomicUsize,
}

fn way(netmap: &Snapshot, text: &str, port: u16) -> Result<Way, DialError> {
    netmap.way(&Destination::from_text(text), Some(port))
}

fn is_dns_of_dial(
    netmap: &Snapshot,
    text: &str,
    port: u16,
    seen: &WaysSeen,
) -> Result<(), TestCaseError> {
    let Ok(whole) = whole_name(netmap, text) else {
        return Ok(());
    };
    let said = said(netmap, &whole);
    let meant = devices(netmap, &said);
    let dialled = way(netmap, text, port);
    let count = match &dialled {
        Ok(Way::Device(device)) => {
            prop_assert!(
                meant.contains(&(device.network, device.host)),
                "{text}: {device:?} {said:?}"
            );
            Some(&seen.device)
        }
        Ok(Way::Gateway(hosts)) => {
            for host in hosts.clone().into_vec() {
                prop_assert!(meant.is_empty(), "{text}: {host:?} {said:?}");
                match host.target.parse::<IpAddr>() {
                    Ok(address) => {
                        prop_assert!(said.addresses.contains(&address), "{text}: {said:?}");
                    }
                    Err(_) => prop_assert_eq!(&host.target, &said.last, "{}", text),
                }
                let gateway = &netmap.networks[&host.network].peers[&host.host];
                let wanted = match host.target.parse() {
                    Ok(address) => Host::Address(address),
                    Err(_) => Host::Name(&host.target),
                };
                let mut routes = gateway.routes.iter();
                let is_covered = routes.any(|route| route.covers(wanted, port).is_some());
                prop_assert!(is_covered, "{text}: {host:?}");
            }
            Some(&seen.gateway)
        }
        Ok(Way::Zone { name, zone }) => {
            prop_assert_eq!(said.code, ResponseCode::ServFail, "{}", text);
            prop_assert!(is_in(name, "far.example"));
            let members = &netmap.networks[&zone.network];
            prop_assert_eq!(&members.dns.zones["far.example"].via, &zone.via);
            Some(&seen.zone)
        }
        Ok(Way::Foreign(error)) => {
            prop_assert!(error.is_foreign(), "{text}: {error:?}");
            prop_assert_eq!(said.code, ResponseCode::Refused, "{}", text);
            Some(&seen.foreign)
        }
        Err(error) => {
            prop_assert!(meant.is_empty(), "{text}: {error:?} {said:?}");
            prop_assert!(!error.is_foreign(), "{text}: {error:?} {said:?}");
            None
        }
    };
    if let Some(count) = count {
        count.fetch_add(1, Ordering::Relaxed);
    }
    is_waited_for_as_dialled(netmap, text, &dialled)
}

/// A door waits for the way that it then dials, and a status shows the device that a dial reaches.
fn is_waited_for_as_dialled(
    netmap: &Snapshot,
    text: &str,
    dialled: &Result<Way, DialError>,
) -> Result<(), TestCaseError> {
    let destination = Destination::from_text(text);
    let waited = netmap.way(&destination, None);
    match (dialled, &waited) {
        (Ok(Way::Device(_) | Way::Zone { .. }), _) => {
            let other_port = matches!(
                (dialled, &waited),
                (Ok(Way::Zone { .. }), Ok(Way::Gateway(_)))
            );
            prop_assert!(
                other_port || *dialled == waited,
                "{text}: {dialled:?} {waited:?}"
            );
        }
        (Ok(Way::Gateway(hosts)), Ok(Way::Gateway(any))) => {
            let any = any.clone().into_vec();
            let mut hosts = hosts.clone().into_vec().into_iter();
            prop_assert!(hosts.all(|host| any.contains(&host)), "{text}");
        }
        // A gateway reaches the host, but not that port of it.
        (
            Ok(Way::Foreign(NameError::NoRouteToPort(_))) | Err(DialError::NoRouteToPort(_)),
            Ok(Way::Gateway(_)),
        ) => {}
        (Ok(Way::Foreign(_)), Ok(Way::Foreign(_))) | (Err(_), Err(_)) => {}
        unlike => prop_assert!(false, "{text}: {unlike:?}"),
    }
    match (netmap.device(&destination), waited) {
        (Ok(device), waited) => prop_assert_eq!(Ok(Way::Device(device)), waited, "{}", text),
        (Err(error), Ok(Way::Foreign(why))) => prop_assert_eq!(error, why.into(), "{}", text),
        (Err(error), Err(other)) => prop_assert_eq!(error, other, "{}", text),
        (Err(DialError::NotADevice(_)), Ok(Way::Gateway(_) | Way::Zone { .. })) => {}
        unlike => prop_assert!(false, "{text}: {unlike:?}"),
    }
    Ok(())
}

/// By DNS alone: in which networks something has that name, and whether it is one device.
fn is_short_as_dns_says(netmap: &Snapshot, text: &str) -> Result<(), TestCaseError> {
    let (label, within) = text.split_once('.').unwrap_or((text, ""));
    let routes = netmap.networks.values().flat_map(|it| it.peers.values());
    let mut routes = routes.flat_map(|peer| &peer.routes);
    let is_route =
        routes.any(|route| route.covers_host(overlan_protocol::gateway::Host::Name(text)));
    let mut names: Vec<String> = netmap
        .networks
        .values()
        .filter(|network| within.is_empty() || network.name == within)
        .map(|network| format!("{label}.{}.{DOMAIN}", network.name))
        .filter(|name| {
            let reply = ask(
                netmap,
                &query(&format!("{name}."), RecordType::ANY),
                DnsTransport::Tcp,
            );
            !reply.answers.is_empty()
        })
        .collect();
    names.sort();
    let keys: BTreeSet<_> = names
        .iter()
        .map(|name| match way(netmap, name, 80) {
            Ok(Way::Device(device)) => Ok(key(netmap, device)),
            _ => Err(name.clone()),
        })
        .map(|key| format!("{key:?}"))
        .collect();
    let expected = match (names.len(), is_route) {
        (0, _) | (_, true) => Some(text.to_owned()),
        (_, false) if keys.len() == 1 => names.first().cloned(),
        (_, false) => None,
    };
    let whole = whole_name(netmap, text);
    match expected {
        Some(expected) => prop_assert_eq!(whole.as_ref(), Ok(&expected), "{}", text),
        None => {
            prop_assert!(
                matches!(whole, Err(NameError::AmbiguousName(_))),
                "{text}: {whole:?}"
            );
            return Ok(());
        }
    }
    // Every door takes the short name for the whole one, and a command what a door does.
    let short = way(netmap, text, 80);
    if names.contains(&whole.clone().unwrap()) {
        let full = way(netmap, &whole.unwrap(), 80);
        prop_assert_eq!(short.as_ref().ok(), full.as_ref().ok(), "{}", text);
        prop_assert_eq!(short.is_ok(), full.is_ok());
    }
    match netmap.find(text) {
        Ok(found) => prop_assert_eq!(netmap.way(&found, Some(80)).ok(), short.ok(), "{}", text),
        Err(error) => prop_assert!(
            matches!(short, Ok(Way::Foreign(_)) | Err(_)),
            "{text}: {error:?} {short:?}"
        ),
    }
    Ok(())
}

#[test]
fn a_name_leads_where_dns_says() {
    let seen = WaysSeen::default();
    let cases = (netmaps(), prop::sample::select(vec![22u16, 80]));
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(400)
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&cases, |(netmap, port)| {
        let netmap = Snapshot::new(Arc::new(netmap), None);
        for text in texts_to_ask() {
            is_dns_of_dial(&netmap, &text, port, &seen)?;
            if text.split('.').count() <= 2 && text != "corp.internal" {
                is_short_as_dns_says(&netmap, &text)?;
            }
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    let seen = [seen.device, seen.gateway, seen.zone, seen.foreign].map(AtomicUsize::into_inner);
    assert!(seen.iter().all(|seen| *seen >= 100), "{seen:?}");
}
