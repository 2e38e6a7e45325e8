use super::*;
use proptest::prelude::*;

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

fn relay(number: u8) -> RelayId {
    RelayId([number; 16])
}

fn devices(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<DeviceId> {
    numbers.into_iter().map(device).collect()
}

#[test]
fn a_change_has_arrived_when_every_device_and_relay_confirmed_it() {
    let mut awaiting = Awaiting::default();
    let relays = BTreeSet::from([relay(1)]);
    let wait = awaiting.begin(7, devices([1, 2]), 3, relays).unwrap();
    assert!(!awaiting.handle_device(device(1), 6), "an older version");
    assert!(awaiting.handle_device(device(1), 7));
    assert!(!awaiting.handle_device(device(1), 8), "only once");
    assert!(!awaiting.handle_device(device(3), 9), "nobody waits for it");
    assert!(awaiting.handle_device(device(2), 9));
    assert!(!awaiting.progress(wait).is_complete());
    assert!(!awaiting.handle_relay(relay(1), 2));
    assert!(awaiting.handle_relay(relay(1), 3));
    assert!(awaiting.progress(wait).is_complete());
    let progress = awaiting.progress(wait);
    assert_eq!((progress.devices_of, progress.relays_of), (2, 1));
    awaiting.end(wait);
    assert_eq!(awaiting.progress(wait), Progress::default());
}

#[test]
fn a_device_is_asked_only_while_somebody_waits_for_it() {
    let mut awaiting = Awaiting::default();
    let wait = awaiting.begin(7, devices([1]), 0, BTreeSet::new()).unwrap();
    assert!(!awaiting.asks(device(1), 6), "it is not that far");
    assert!(awaiting.asks(device(1), 7));
    assert!(!awaiting.asks(device(2), 7));
    awaiting.end(wait);
    assert!(!awaiting.asks(device(1), 7));
}

#[test]
fn waits_are_bounded() {
    let mut awaiting = Awaiting::default();
    let mut begin = || awaiting.begin(1, devices([1]), 0, BTreeSet::new());
    let first = begin().unwrap();
    assert_eq!(std::iter::from_fn(&mut begin).count(), WAITS_MAX - 1);
    awaiting.end(first);
    assert!(
        awaiting
            .begin(1, devices([1]), 0, BTreeSet::new())
            .is_some()
    );
}

proptest! {
    /// In whatever order confirmations come: those are missing that never confirmed the version.
    #[test]
    fn those_are_missing_that_did_not_confirm(
        version in 0u64..5,
        of in proptest::collection::btree_set(0u8..8, 0..8),
        confirmed in proptest::collection::vec((0u8..8, 0u64..8), 0..20),
    ) {
        let mut awaiting = Awaiting::default();
        let wait = awaiting.begin(version, devices(of.clone()), 0, BTreeSet::new()).unwrap();
        let mut missing = devices(of.clone());
        for (number, at) in confirmed {
            awaiting.handle_device(device(number), at);
            if at >= version {
                missing.remove(&device(number));
            }
        }
        prop_assert_eq!(awaiting.progress(wait).devices, missing);
    }
}
