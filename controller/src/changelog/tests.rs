use super::*;
use crate::netmaps::{Fact, OrgId};
use overlan_protocol::key::DeviceId;

fn entry(version: u64) -> Entry {
    Entry {
        version,
        org: OrgId(1),
        network: None,
        fact: Fact::Gone {
            device: DeviceId([1; 16]),
            host: 1,
        },
    }
}

fn versions(log: &ChangeLog, from: u64) -> Option<(u64, Vec<u64>)> {
    let (head, entries) = log.since(from)?;
    Some((head, entries.iter().map(|entry| entry.version).collect()))
}

#[test]
fn entries_behind_a_version_come_in_order() {
    let log = ChangeLog::new(10);
    assert_eq!(versions(&log, 10), Some((10, vec![])));
    let watch = log.watch();
    log.extend(vec![entry(11), entry(12)]);
    log.extend(vec![entry(13)]);
    assert!(watch.has_changed().unwrap());
    assert_eq!(log.head(), 13);
    assert_eq!(versions(&log, 10), Some((13, vec![11, 12, 13])));
    assert_eq!(versions(&log, 12), Some((13, vec![13])));
    assert_eq!(versions(&log, 13), Some((13, vec![])));
}

#[test]
fn the_forgotten_past_and_the_future_are_gaps() {
    let log = ChangeLog::new(10);
    assert_eq!(versions(&log, 9), None);
    assert_eq!(versions(&log, 11), None);
    let last = 10 + ENTRIES_MAX as u64 + 5;
    log.extend((11..=last).map(entry).collect());
    assert_eq!(versions(&log, 14), None, "five were forgotten");
    let (head, left) = versions(&log, 15).unwrap();
    assert_eq!((head, left.len()), (last, ENTRIES_MAX));
}
