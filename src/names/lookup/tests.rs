mod agreement;

use super::walk::{Start, Step, Walk};
use super::*;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};
use proptest::prelude::*;

use crate::names::tests::{netmap, network, two_networks};

const ID: u16 = 0x4711;

/// The answer to one message when nobody else can be asked.
pub(crate) fn answer(query: &[u8], netmap: &Netmap, transport: DnsTransport) -> Option<Vec<u8>> {
    let mut walk = match Walk::begin(query, transport) {
        Start::Silence => return None,
        Start::Reply(reply) => return Some(reply),
        Start::Walk(walk) => walk,
    };
    while let Step::Ask(source, _) = walk.step(netmap, false) {
        walk.handle_heard(&source, None, netmap);
    }
    Some(walk.finish())
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(netmap: &Netmap, message: &Message, transport: DnsTransport) -> Message {
    let bytes = answer(&message.to_vec().unwrap(), netmap, transport).expect("an answer");
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.metadata.id, ID);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    reply
}

pub(crate) fn look_up(netmap: &Netmap, name: &str, kind: RecordType) -> Message {
    ask(netmap, &query(name, kind), DnsTransport::Udp)
}

/// The data of the answers, as text.
pub(crate) fn texts(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

const WEB_V6: &str = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.a.1.c.5.e.7.b.3.d.f.ip6.arpa.";
const V6_ZONE: &str = "0.0.0.0.2.4.a.1.c.5.e.7.b.3.d.f.ip6.arpa.";

#[test]
fn names_of_devices_have_addresses() {
    let netmap = netmap();
    for (name, kind, data) in [
        ("web.demo.overlan.lan.", RecordType::A, "100.64.0.2"),
        (
            "web.demo.overlan.lan.",
            RecordType::AAAA,
            "fd3b:7e5c:1a42::2",
        ),
        ("WEB.Demo.Overlan.LAN.", RecordType::A, "100.64.0.2"),
        ("laptop.demo.overlan.lan.", RecordType::A, "100.64.0.1"),
        // An offline device keeps its name.
        ("db.demo.overlan.lan.", RecordType::A, "100.64.0.3"),
        (
            "2.0.64.100.in-addr.arpa.",
            RecordType::PTR,
            "web.demo.overlan.lan.",
        ),
        (
            "1.0.64.100.IN-ADDR.arpa.",
            RecordType::PTR,
            "laptop.demo.overlan.lan.",
        ),
        (WEB_V6, RecordType::PTR, "web.demo.overlan.lan."),
    ] {
        let reply = look_up(&netmap, name, kind);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::NoError,
            "{name}"
        );
        assert!(reply.metadata.authoritative && reply.metadata.recursion_desired);
        assert!(!reply.metadata.recursion_available && !reply.metadata.truncation);
        assert_eq!(texts(&reply.answers), [data], "{name} {kind}");
        let record = &reply.answers[0];
        assert_eq!(record.ttl, 5);
        let asked = Name::from_ascii(name).unwrap();
        assert!(record.name.eq_case(&asked), "{} is not {name}", record.name);
        assert!(reply.queries[0].name().eq_case(&asked));
    }
    let any = look_up(&netmap, "web.demo.overlan.lan.", RecordType::ANY);
    assert_eq!(texts(&any.answers), ["100.64.0.2", "fd3b:7e5c:1a42::2"]);
}

#[test]
fn an_old_name_of_a_network_is_an_alias_of_the_present_one() {
    let mut netmap = netmap();
    let missing = look_up(&netmap, "web.home.overlan.lan.", RecordType::A);
    assert_missing(&missing, "overlan.lan.");
    for network in netmap.networks.values_mut() {
        network.dns.former = vec!["home".to_owned()];
    }
    let reply = look_up(&netmap, "web.home.overlan.lan.", RecordType::A);
    let answers = texts(&reply.answers);
    assert_eq!(answers, ["web.demo.overlan.lan.", "100.64.0.2"]);
    assert!(reply.metadata.authoritative);
    let alias = look_up(&netmap, "a.web.home.overlan.lan.", RecordType::CNAME);
    assert_eq!(texts(&alias.answers), ["a.web.demo.overlan.lan."]);
    let top = look_up(&netmap, "home.overlan.lan.", RecordType::NS);
    assert_eq!(
        texts(&top.answers),
        ["demo.overlan.lan.", "demo.overlan.lan."]
    );
    let ghost = look_up(&netmap, "ghost.home.overlan.lan.", RecordType::A);
    assert_eq!(ghost.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn tops_of_zones_have_soa_and_ns() {
    let netmap = netmap();
    for zone in [
        "overlan.lan.",
        "demo.overlan.lan.",
        "64.100.in-addr.arpa.",
        "127.100.in-addr.arpa.",
        V6_ZONE,
    ] {
        let ns = look_up(&netmap, zone, RecordType::NS);
        assert_eq!(texts(&ns.answers), [zone]);
        let soa = look_up(&netmap, zone, RecordType::SOA);
        let [record] = soa.answers.as_slice() else {
            panic!("{soa}")
        };
        let RData::SOA(soa) = &record.data else {
            panic!("{record}")
        };
        assert_eq!((soa.serial, soa.minimum), (7, 5));
        assert_no_data(&look_up(&netmap, zone, RecordType::A), zone);
    }
}

fn assert_no_data(reply: &Message, zone: &str) {
    assert_eq!(
        reply.metadata.response_code,
        ResponseCode::NoError,
        "{reply}"
    );
    assert_negative(reply, zone);
}

fn assert_missing(reply: &Message, zone: &str) {
    assert_eq!(
        reply.metadata.response_code,
        ResponseCode::NXDomain,
        "{reply}"
    );
    assert_negative(reply, zone);
}

fn assert_negative(reply: &Message, zone: &str) {
    assert!(reply.answers.is_empty() && reply.metadata.authoritative);
    let [soa] = reply.authorities.as_slice() else {
        panic!("{reply}")
    };
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), (zone, 5));
    assert_eq!(soa.record_type(), RecordType::SOA);
}

#[test]
fn what_exists_without_that_type_is_no_data() {
    let netmap = netmap();
    for (name, kind, zone) in [
        ("web.demo.overlan.lan.", RecordType::MX, "demo.overlan.lan."),
        (
            "web.demo.overlan.lan.",
            RecordType::HTTPS,
            "demo.overlan.lan.",
        ),
        (
            "web.demo.overlan.lan.",
            RecordType::Unknown(65_280),
            "demo.overlan.lan.",
        ),
        (
            "2.0.64.100.in-addr.arpa.",
            RecordType::A,
            "64.100.in-addr.arpa.",
        ),
        // There may be names below these.
        (
            "0.64.100.in-addr.arpa.",
            RecordType::PTR,
            "64.100.in-addr.arpa.",
        ),
        (&format!("0.{V6_ZONE}"), RecordType::PTR, V6_ZONE),
    ] {
        assert_no_data(&look_up(&netmap, name, kind), zone);
    }
}

#[test]
fn what_does_not_exist_in_our_zones_is_missing() {
    let netmap = netmap();
    for (name, zone) in [
        ("mail.demo.overlan.lan.", "demo.overlan.lan."),
        ("other.overlan.lan.", "overlan.lan."),
        ("web.other.overlan.lan.", "overlan.lan."),
        ("a.web.demo.overlan.lan.", "demo.overlan.lan."),
        ("web\\.demo.overlan.lan.", "overlan.lan."),
        ("9.0.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("0.0.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("02.0.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("300.0.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("x.2.0.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        (&WEB_V6.replacen('2', "9", 1), V6_ZONE),
        (&WEB_V6.replacen('2', "g", 1), V6_ZONE),
    ] {
        assert_missing(&look_up(&netmap, name, RecordType::PTR), zone);
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let netmap = netmap();
    for name in [
        "example.org.",
        "notoverlan.lan.",
        "net.",
        ".",
        "localhost.",
        "web\\.overlan.lan.",
        "in-addr.arpa.",
        "100.in-addr.arpa.",
        "1.63.100.in-addr.arpa.",
        "1.0.128.100.in-addr.arpa.",
        "1.0.0.127.in-addr.arpa.",
        "x.100.in-addr.arpa.",
        "ip6.arpa.",
        "d.f.ip6.arpa.",
        &WEB_V6.replacen("d.f", "e.f", 1),
    ] {
        let reply = look_up(&netmap, name, RecordType::A);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::Refused,
            "{name}"
        );
        assert!(reply.answers.is_empty() && reply.authorities.is_empty());
        assert!(!reply.metadata.authoritative, "{name}");
    }
    let mut chaos = query("web.demo.overlan.lan.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let refused = ask(&netmap, &chaos, DnsTransport::Tcp);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    let transfer = look_up(&netmap, "overlan.lan.", RecordType::AXFR);
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn an_address_in_several_networks_has_all_its_names() {
    let reply = look_up(&two_networks(), "2.0.64.100.in-addr.arpa.", RecordType::PTR);
    assert_eq!(
        texts(&reply.answers),
        ["web.demo.overlan.lan.", "web.lab.overlan.lan."]
    );
}

#[test]
fn what_is_no_query_gets_a_short_answer_or_none() {
    let netmap = netmap();
    let good = query("web.demo.overlan.lan.", RecordType::A)
        .to_vec()
        .unwrap();
    let code = |bytes: &[u8]| {
        let reply = answer(bytes, &netmap, DnsTransport::Udp)?;
        assert_eq!(&reply[..2], &ID.to_be_bytes());
        assert_eq!(reply[2] & 0x80, 0x80);
        Some(reply[3] & 0x0f)
    };
    assert_eq!(code(&good), Some(0));
    for len in 0..12 {
        assert_eq!(code(&good[..len]), None, "{len} bytes");
    }
    for len in 12..good.len() {
        assert_eq!(code(&good[..len]), Some(1), "{len} bytes");
    }
    let with = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        code(&bytes)
    };
    assert_eq!(with(2, 0x80), None, "an answer is not answered");
    assert_eq!(with(2, 0x28), Some(4), "UPDATE");
    assert_eq!(with(2, 0x78), Some(4), "an operation that does not exist");
    assert_eq!(with(5, 0), Some(1), "no question");
    assert_eq!(with(5, 2), Some(1), "two questions");
    assert_eq!(with(4, 0xff), Some(1), "many questions");
    assert_eq!(with(7, 1), Some(1), "a record that is not there");
    assert_eq!(with(12, 0xc0), Some(1), "a name that points nowhere");
    let mut two = query("web.demo.overlan.lan.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two.to_vec().unwrap()), Some(1));
}

/// A device in so many networks that its names fit no datagram.
pub(crate) fn many_networks() -> Netmap {
    let mut netmap = netmap();
    for number in 0..100u8 {
        let id = overlan_protocol::key::NetworkId([number; 16]);
        let name = format!("a-network-with-a-long-name-{number}");
        netmap.networks.insert(id, network(&name, 0x2000));
    }
    netmap
}

fn with_edns(mut message: Message, size: u16, version: u8) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_version(version);
    message.set_edns(edns);
    message
}

#[test]
fn a_datagram_is_never_larger_than_the_client_takes() {
    let netmap = many_networks();
    let plain = query("1.0.64.100.in-addr.arpa.", RecordType::PTR);
    let reply = ask(&netmap, &plain, DnsTransport::Udp);
    assert!(reply.metadata.truncation && reply.edns.is_none());
    assert!(
        (5..20).contains(&reply.answers.len()),
        "as many as fit: {}",
        reply.answers.len()
    );
    assert_eq!(reply.queries.len(), 1);
    let reply = ask(&netmap, &plain, DnsTransport::Tcp);
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), netmap.networks.len());

    let mut few = netmap.clone();
    while few.networks.len() > 15 {
        few.networks.pop_first();
    }
    let len = answer(&plain.to_vec().unwrap(), &few, DnsTransport::Tcp)
        .unwrap()
        .len();
    assert!((513..1200).contains(&len), "{len}");
    for (size, fits) in [
        (0, false),
        (512, false),
        (len as u16, false),
        (1232, true),
        (65_535, true),
    ] {
        let reply = ask(&few, &with_edns(plain.clone(), size, 0), DnsTransport::Udp);
        assert_eq!(!reply.metadata.truncation, fits, "{size}");
        assert_eq!(reply.edns.unwrap().max_payload(), 1232);
    }
    let large = ask(&netmap, &with_edns(plain, 65_535, 0), DnsTransport::Udp);
    assert!(
        large.metadata.truncation,
        "no path takes 6 KiB in one piece"
    );
}

#[test]
fn an_edns_version_of_the_future_is_refused() {
    let message = with_edns(query("web.demo.overlan.lan.", RecordType::A), 1232, 1);
    let reply = ask(&netmap(), &message, DnsTransport::Udp);
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    assert_eq!(reply.edns.unwrap().version(), 0);
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer(&bytes, &two_networks(), DnsTransport::Udp);
    }

    #[test]
    fn a_damaged_query_has_an_answer_or_none(
        index in 0usize..60, byte in any::<u8>(), len in 0usize..70, name in "[a-z.\\\\0-9]{1,40}"
    ) {
        let name = Name::from_ascii(format!("{name}.overlan.lan.")).unwrap_or_default();
        let mut message = query("web.demo.overlan.lan.", RecordType::A);
        message.queries[0].set_name(name);
        let mut bytes = with_edns(message, 4096, 0).to_vec().unwrap();
        if let Some(place) = bytes.get_mut(index) {
            *place = byte;
        }
        bytes.truncate(len);
        if let Some(reply) = answer(&bytes, &two_networks(), DnsTransport::Udp) {
            prop_assert_eq!(&reply[..2], &bytes[..2]);
            prop_assert!(reply.len() <= 1232);
        }
    }
}
