//! Feeds any bytes to the parsers of DNS messages: as a program's query, and as a resolver's answer
//! to a valid query.

use std::collections::BTreeMap;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use overlan_protocol::HostIndex;
use overlan_protocol::dns::{Dns, Record, Via, ViaHost, Zone};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, NetworkId};
use overlan_protocol::netmap::{Netmap, Network};
use overlan_protocol::policy::Filter;

use super::heard::{Judged, Question};
use super::walk::{Start, Step, Walk};
use super::{DnsTransport, Resolvers};

/// Feeds `data` as the query of a local program, and as the answer of a resolver.
pub fn messages(data: &[u8]) {
    let netmap = netmap();
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        query(data, &netmap, transport);
    }
    let name = Name::from_ascii("db.corp.test.").expect("a sound name");
    answer(data, &Question::new(&name, RecordType::A), &netmap);
    answer(data, &Question::new(&name, RecordType::ANY), &netmap);
}

fn query(data: &[u8], netmap: &Netmap, transport: DnsTransport) {
    let reply = match Walk::begin(data, transport) {
        Start::Silence => return,
        Start::Reply(reply) => reply,
        Start::Walk(mut walk) => {
            while let Step::Ask(source, question) = walk.step(netmap, true) {
                // A resolver that says what was asked; the id is its first two bytes.
                let heard = match question.judge(id(data), data) {
                    Judged::Heard(heard) => Some(*heard),
                    Judged::Truncated | Judged::Failed(_) | Judged::Other => None,
                };
                walk.handle_heard(&source, heard.as_ref().map(|heard| (heard, 1)), netmap);
            }
            walk.finish()
        }
    };
    assert!(reply[..2] == data[..2], "an answer has its query's id");
    assert!(transport == DnsTransport::Tcp || reply.len() <= usize::from(super::walk::UDP_MAX));
    // Twelve bytes are a header alone, for what could not be read.
    assert!(
        reply.len() == 12 || Message::from_vec(&reply).is_ok(),
        "{reply:?}"
    );
}

fn answer(data: &[u8], question: &Question, netmap: &Netmap) {
    let Judged::Heard(heard) = question.judge(id(data), data) else {
        return;
    };
    assert!(
        question.recall(&heard.wire).is_some(),
        "what was believed is believed again"
    );
    let asked = question
        .encode(id(data), DnsTransport::Tcp)
        .expect("DNS carries it");
    let Start::Walk(mut walk) = Walk::begin(&asked, DnsTransport::Udp) else {
        panic!("our own question is none");
    };
    if let Step::Ask(source, _) = walk.step(netmap, true) {
        assert!(matches!(source, Resolvers::Zone(_)));
        walk.handle_heard(&source, Some((&heard, 1)), netmap);
    }
    assert!(Message::from_vec(&walk.finish()).is_ok());
}

fn id(data: &[u8]) -> u16 {
    data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

/// One network with a zone of its own, a zone that a resolver answers for, and records.
fn netmap() -> Netmap {
    let via = Via {
        host: ViaHost::Peer("dns".to_owned()),
        port: 53,
    };
    let zones = [("corp.test", vec![via]), ("own.test", Vec::new())];
    let records = [
        (
            "www.own.test",
            vec![Record::Cname("laptop.demo.overlan.lan".to_owned())],
        ),
        (
            "to.own.test",
            vec![Record::Cname("db.corp.test".to_owned())],
        ),
        (
            "round.own.test",
            vec![Record::Cname("round.own.test".to_owned())],
        ),
        ("text.own.test", vec![Record::Txt("a text".repeat(30)); 8]),
    ];
    let dns = Dns {
        former: Vec::new(),
        zones: zones
            .map(|(name, via)| (name.to_owned(), Zone { via }))
            .into(),
        records: records
            .map(|(name, records)| (name.to_owned(), records))
            .into(),
    };
    let network = Network {
        routes: Vec::new(),
        name: "demo".into(),
        vni: Vni::new(0x1000).expect("a sound number"),
        host: HostIndex::MIN,
        label: "laptop".into(),
        relays: Vec::new(),
        filter: Filter::starter(),
        peers: BTreeMap::new(),
        dns,
    };
    Netmap {
        version: 7,
        lineage: None,
        domain: "overlan.lan".into(),
        device: DeviceId([9; 16]),
        networks: BTreeMap::from([(NetworkId([1; 16]), network)]),
        relays: BTreeMap::new(),
    }
}
