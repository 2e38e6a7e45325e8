use hickory_proto::rr::rdata::{A, CNAME, SOA};
use proptest::prelude::*;

use super::*;

const ID: u16 = 7;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question() -> Question {
    Question::of_text("DB.corp.example", RecordType::A).unwrap()
}

fn answer(records: Vec<Record>) -> Message {
    let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name("db.corp.example."), RecordType::A));
    message.add_answers(records);
    message
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::new(10, 1, 0, last)))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let zone = name("corp.example.");
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, minimum);
    Record::from_rdata(zone, ttl, RData::SOA(soa))
}

#[track_caller]
fn heard(message: &Message) -> Heard {
    let judged = question().judge(ID, &message.to_vec().unwrap());
    let Judged::Heard(heard) = judged else {
        panic!("{judged:?}");
    };
    *heard
}

#[test]
fn only_what_belongs_to_the_question_is_believed() {
    let said = heard(&answer(vec![
        a("other.corp.example.", 60, 9),
        alias("db.corp.example.", 50, "Node.corp.example."),
        a("node.corp.example.", 100_000, 1),
        a("node.corp.example.", 70, 2),
        a("unasked.corp.example.", 1, 8),
    ]));
    let told: Vec<String> = said
        .records
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    assert_eq!(told, ["Node.corp.example.", "10.1.0.1", "10.1.0.2"]);
    assert_eq!((said.life, said.alias), (50, None));
    assert_eq!(said.records[1].ttl, TTL_MAX, "nothing is kept for a day");
}

#[test]
fn an_alias_without_an_end_is_told() {
    let said = heard(&answer(vec![alias("db.corp.example.", 50, "x.example.")]));
    assert_eq!(said.alias, Some(name("x.example.")));
    assert_eq!(said.life, 5, "that it has no address may change soon");
    // In a circle: there is an end to it.
    let said = heard(&answer(vec![alias(
        "db.corp.example.",
        50,
        "db.corp.example.",
    )]));
    assert_eq!(said.alias, None);
}

#[test]
fn that_there_is_nothing_is_kept_as_long_as_the_zone_says() {
    for (ttl, minimum, life) in [(60, 20, 20), (10, 3600, 10), (86_400, 86_400, TTL_MAX)] {
        let mut message = answer(Vec::new());
        message.metadata.response_code = ResponseCode::NXDomain;
        message.add_authority(soa(ttl, minimum));
        let said = heard(&message);
        assert_eq!((said.code, said.life), (ResponseCode::NXDomain, life));
        assert_eq!(said.soa.unwrap().ttl, life);
    }
    assert_eq!(heard(&answer(Vec::new())).life, 5, "nobody said how long");
}

#[test]
fn what_is_no_answer_to_this_is_told_apart() {
    let good = answer(vec![a("db.corp.example.", 60, 1)]);
    let judge = |message: &Message, id| question().judge(id, &message.to_vec().unwrap());
    assert!(matches!(judge(&good, ID + 1), Judged::Other));
    let mut query = good.clone();
    query.metadata.message_type = MessageType::Query;
    assert!(matches!(judge(&query, ID), Judged::Other));
    let mut another = good.clone();
    another.queries[0].set_name(name("www.corp.example."));
    assert!(matches!(judge(&another, ID), Judged::Other));
    let mut cut = good.clone();
    cut.metadata.truncation = true;
    assert!(matches!(judge(&cut, ID), Judged::Truncated));
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let mut failed = good.clone();
        failed.metadata.response_code = code;
        assert!(matches!(judge(&failed, ID), Judged::Failed(_)));
    }
    let mut bytes = good.to_vec().unwrap();
    bytes.truncate(40);
    assert!(matches!(question().judge(ID, &bytes), Judged::Failed(_)));
    assert!(matches!(question().judge(ID, &bytes[..3]), Judged::Other));
}

#[test]
fn a_question_asks_for_recursion_and_says_over_udp_what_fits() {
    let message = |transport| {
        let bytes = question().encode(ID, transport).unwrap();
        Message::from_vec(&bytes).unwrap()
    };
    let udp = message(DnsTransport::Udp);
    assert!(udp.metadata.recursion_desired);
    assert_eq!(udp.edns.unwrap().max_payload(), UDP_MAX);
    assert!(message(DnsTransport::Tcp).edns.is_none());
    assert_eq!(
        question().key(),
        Some(("db.corp.example".to_owned(), RecordType::A.into()))
    );
    let odd = Question::new(&name("a\\.b.corp.example."), RecordType::A);
    assert_eq!(odd.key(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = question().judge(ID, &bytes);
    }

    #[test]
    fn a_damaged_answer_is_judged(index in 0usize..120, byte in any::<u8>(), len in 0usize..140) {
        let records = vec![
            alias("db.corp.example.", 50, "node.corp.example."),
            a("node.corp.example.", 9, 1),
        ];
        let mut bytes = answer(records).to_vec().unwrap();
        if let Some(place) = bytes.get_mut(index) {
            *place = byte;
        }
        bytes.truncate(len);
        if let Judged::Heard(heard) = question().judge(ID, &bytes) {
            prop_assert!(heard.life <= TTL_MAX && heard.records.len() <= 2);
        }
    }
}
