use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use overlan_transport::clock::now;

use super::*;

/// An answer of so many addresses.
fn heard(number: usize, life: u32, addresses: usize) -> Heard {
    let question = question(number);
    let bytes = question
        .encode(7, crate::names::lookup::DnsTransport::Tcp)
        .unwrap();
    let mut message = Message::from_vec(&bytes).unwrap();
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    for last in 0..addresses {
        let data = RData::A(A::new(192, 0, 2, last as u8));
        message.add_answer(Record::from_rdata(name.clone(), life, data));
    }
    question.recall(&message.to_vec().unwrap()).unwrap()
}

fn question(number: usize) -> Question {
    Question::of_text(&format!("h{number}.example"), RecordType::A).unwrap()
}

fn key(number: usize) -> Key {
    (Resolvers::Forward, format!("h{number}.example"), 1)
}

fn get(cache: &mut Cache, now: Instant, number: usize) -> Option<Kept> {
    cache.get(now, &key(number), &question(number))
}

#[test]
fn an_answer_is_kept_for_its_life_and_grows_old() {
    let (mut cache, begin) = (Cache::default(), now());
    cache.put(begin, key(1), &heard(1, 10, 3), "dns:53".to_owned());
    let at = |seconds| begin + Duration::from_secs(seconds);
    let kept = get(&mut cache, at(9), 1).unwrap();
    assert_eq!((kept.age, kept.by.as_str()), (9, "dns:53"));
    assert_eq!(kept.heard.records, heard(1, 10, 3).records);
    assert!(get(&mut cache, at(9), 2).is_none());
    let (_, name, kind) = key(1);
    let zone = Resolvers::Zone(crate::names::Delegation {
        network: overlan_protocol::key::NetworkId([1; 16]),
        zone: "example".to_owned(),
        via: Vec::new(),
    });
    let of_another = cache.get(at(9), &(zone, name, kind), &question(1));
    assert!(of_another.is_none());
    assert!(get(&mut cache, at(10), 1).is_none());
    assert_eq!(cache.size, 0);
}

#[test]
fn what_must_not_be_kept_is_not() {
    let (mut cache, now) = (Cache::default(), now());
    cache.put(now, key(1), &heard(1, 0, 1), String::new());
    let large = heard(2, 10, 300);
    assert!(large.wire.len() > ENTRY_MAX);
    cache.put(now, key(2), &large, String::new());
    assert!(get(&mut cache, now, 1).is_none() && get(&mut cache, now, 2).is_none());
}

#[test]
fn a_full_cache_forgets_what_ends_first() {
    let (mut cache, now) = (Cache::default(), now());
    cache.put(now, key(0), &heard(0, 5, 1), String::new());
    for number in 1..ENTRIES_MAX {
        cache.put(now, key(number), &heard(number, 100, 1), String::new());
    }
    let last = heard(ENTRIES_MAX, 50, 1);
    cache.put(now, key(ENTRIES_MAX), &last, String::new());
    assert_eq!(cache.entries.len(), ENTRIES_MAX);
    assert!(get(&mut cache, now, 0).is_none());
    assert!(get(&mut cache, now, ENTRIES_MAX).is_some());
    // All that is over leaves at once.
    let later = now + Duration::from_secs(100);
    cache.put(later, key(0), &heard(0, 5, 1), String::new());
    assert_eq!(cache.entries.len(), 1);
}

#[test]
fn large_answers_stay_below_the_bytes_of_all() {
    let (mut cache, now) = (Cache::default(), now());
    for number in 0..ENTRIES_MAX {
        let large = heard(number, 100, 190);
        let len = large.wire.len();
        assert!((3_700..=ENTRY_MAX).contains(&len), "{len}");
        // The same one again counts once.
        cache.put(now, key(number), &large, String::new());
        cache.put(now, key(number), &large, String::new());
    }
    let held: usize = cache.entries.values().map(Entry::size).sum();
    assert_eq!(cache.size, held);
    assert!((SIZE_MAX - 2 * ENTRY_MAX..=SIZE_MAX).contains(&held));
    let kept = get(&mut cache, now, ENTRIES_MAX - 1).unwrap();
    assert_eq!(kept.heard.records.len(), 190);
}
