use super::*;
use proptest::prelude::*;

fn relay(number: u8) -> RelayId {
    RelayId([number; 16])
}

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

fn placement(relays: &[(u8, bool, u32)]) -> Placement {
    let relays = relays.iter().map(|(number, online, homed)| {
        let candidate = Candidate {
            online: *online,
            homed: *homed,
        };
        (relay(*number), candidate)
    });
    Placement::new(relays.collect())
}

#[test]
fn a_new_device_gets_the_relay_with_the_fewest_devices() {
    let mut placement = placement(&[(1, true, 5), (2, true, 3), (3, false, 0)]);
    assert_eq!(
        placement.place(device(9), &[]),
        Some(vec![relay(2), relay(1)])
    );
}

#[test]
fn a_home_is_kept_while_it_is_online() {
    let mut placement = placement(&[(1, true, 90), (2, true, 0)]);
    let current = [relay(1), relay(2)];
    assert_eq!(placement.place(device(9), &current), None);
}

#[test]
fn a_lost_home_is_replaced_and_a_lost_backup_too() {
    let mut placement = placement(&[(1, false, 1), (2, true, 7), (3, true, 0)]);
    let moved = placement.place(device(9), &[relay(1), relay(2)]);
    assert_eq!(moved, Some(vec![relay(3), relay(2)]));
    let backup = placement.place(device(8), &[relay(2), relay(1)]);
    assert_eq!(backup, Some(vec![relay(2), relay(3)]));
}

#[test]
fn nothing_moves_when_no_relay_is_online() {
    let mut placement = placement(&[(1, false, 1), (2, false, 0)]);
    assert_eq!(placement.place(device(9), &[relay(1)]), None);
    assert_eq!(placement.place(device(8), &[]), None);
}

#[test]
fn the_devices_of_a_lost_relay_spread_over_the_others() {
    let mut placement = placement(&[(1, false, 10), (2, true, 0), (3, true, 0)]);
    let mut homes = BTreeMap::new();
    for number in 0..10 {
        let list = placement.place(device(number), &[relay(1)]).unwrap();
        *homes.entry(list[0]).or_insert(0) += 1;
    }
    assert_eq!(homes, BTreeMap::from([(relay(2), 5), (relay(3), 5)]));
}

proptest! {
    #[test]
    fn a_placed_device_needs_no_second_placement(
        relays in proptest::collection::btree_map(0u8..12, (any::<bool>(), 0u32..50), 0..12),
        current in proptest::collection::btree_set(0u8..12, 0..4),
        number in any::<u8>(),
    ) {
        let relays: Vec<(u8, bool, u32)> = relays.into_iter().map(|(id, (online, homed))| (id, online, homed)).collect();
        let mut placement = placement(&relays);
        let current: Vec<RelayId> = current.into_iter().map(relay).collect();
        if let Some(list) = placement.place(device(number), &current) {
            prop_assert!(list.len() <= 1 + BACKUPS_MAX);
            for id in &list {
                prop_assert!(placement.is_online(*id));
                prop_assert_eq!(list.iter().filter(|other| *other == id).count(), 1);
            }
            prop_assert_eq!(placement.place(device(number), &list), None);
        }
    }
}
