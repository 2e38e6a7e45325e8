use hickory_proto::op::ResponseCode;
use overlan_transport::pump::now;

use super::*;

fn heard(life: u32, size: usize) -> Arc<Heard> {
    Arc::new(Heard {
        code: ResponseCode::NXDomain,
        records: Vec::new(),
        alias: None,
        soa: None,
        life,
        size,
    })
}

fn key(number: usize) -> Key {
    (Source::Forward, format!("h{number}.example"), 1)
}

#[test]
fn an_answer_is_kept_for_its_life_and_grows_old() {
    let (mut cache, begin) = (Cache::default(), now());
    cache.put(begin, key(1), heard(10, 100), "dns:53".to_owned());
    let at = |seconds| begin + Duration::from_secs(seconds);
    let kept = cache.get(at(9), &key(1)).unwrap();
    assert_eq!((kept.age, kept.by.as_str()), (9, "dns:53"));
    assert!(cache.get(at(9), &key(2)).is_none());
    let (_, name, kind) = key(1);
    let zone = Source::Zone {
        network: overlan_protocol::key::NetworkId([1; 16]),
        zone: "example".to_owned(),
        via: Vec::new(),
    };
    assert!(
        cache.get(at(9), &(zone, name, kind)).is_none(),
        "of another"
    );
    assert!(cache.get(at(10), &key(1)).is_none());
}

#[test]
fn what_must_not_be_kept_is_not() {
    let (mut cache, now) = (Cache::default(), now());
    cache.put(now, key(1), heard(0, 100), String::new());
    cache.put(now, key(2), heard(10, ENTRY_MAX + 1), String::new());
    assert!(cache.get(now, &key(1)).is_none() && cache.get(now, &key(2)).is_none());
}

#[test]
fn a_full_cache_forgets_what_ends_first() {
    let (mut cache, now) = (Cache::default(), now());
    cache.put(now, key(0), heard(5, 100), String::new());
    for number in 1..ENTRIES_MAX {
        cache.put(now, key(number), heard(100, 100), String::new());
    }
    cache.put(now, key(ENTRIES_MAX), heard(50, 100), String::new());
    assert_eq!(cache.entries.len(), ENTRIES_MAX);
    assert!(cache.get(now, &key(0)).is_none());
    assert!(cache.get(now, &key(ENTRIES_MAX)).is_some());
    // All that is over leaves at once.
    let later = now + Duration::from_secs(100);
    cache.put(later, key(0), heard(5, 100), String::new());
    assert_eq!(cache.entries.len(), 1);
}
