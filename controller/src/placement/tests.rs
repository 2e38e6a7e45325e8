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

/// Places a device that measured nothing.
fn place(placement: &mut Placement, device: DeviceId, current: &[RelayId]) -> Option<Vec<RelayId>> {
    placement.place(device, current, &BTreeMap::new())
}

#[test]
fn a_new_device_gets_the_relay_with_the_fewest_devices() {
    let mut placement = placement(&[(1, true, 5), (2, true, 3), (3, false, 0)]);
    assert_eq!(
        place(&mut placement, device(9), &[]),
        Some(vec![relay(2), relay(1)])
    );
}

#[test]
fn a_home_is_kept_while_it_is_online() {
    let mut placement = placement(&[(1, true, 90), (2, true, 0)]);
    let current = [relay(1), relay(2)];
    assert_eq!(place(&mut placement, device(9), &current), None);
}

#[test]
fn a_lost_home_is_replaced_and_a_lost_backup_too() {
    let mut placement = placement(&[(1, false, 1), (2, true, 7), (3, true, 0)]);
    let moved = place(&mut placement, device(9), &[relay(1), relay(2)]);
    assert_eq!(moved, Some(vec![relay(3), relay(2)]));
    let backup = place(&mut placement, device(8), &[relay(2), relay(1)]);
    assert_eq!(backup, Some(vec![relay(2), relay(3)]));
}

#[test]
fn nothing_moves_when_no_relay_is_online() {
    let mut placement = placement(&[(1, false, 1), (2, false, 0)]);
    assert_eq!(place(&mut placement, device(9), &[relay(1)]), None);
    assert_eq!(place(&mut placement, device(8), &[]), None);
}

#[test]
fn the_devices_of_a_lost_relay_spread_over_the_others() {
    let mut placement = placement(&[(1, false, 10), (2, true, 0), (3, true, 0)]);
    let mut homes = BTreeMap::new();
    for number in 0..10 {
        let list = place(&mut placement, device(number), &[relay(1)]).unwrap();
        *homes.entry(list[0]).or_insert(0) += 1;
    }
    assert_eq!(homes, BTreeMap::from([(relay(2), 5), (relay(3), 5)]));
}

#[test]
fn a_nearer_relay_wins_and_among_equally_near_ones_the_emptier() {
    let relays = [(1, true, 0), (2, true, 5), (3, true, 4)];
    let round_trips = BTreeMap::from([(relay(1), 80), (relay(2), 12), (relay(3), 19)]);
    let list = placement(&relays).place(device(9), &[], &round_trips);
    assert_eq!(list.unwrap()[0], relay(3));
    let only_one = BTreeMap::from([(relay(2), 300)]);
    let list = placement(&relays).place(device(9), &[], &only_one);
    assert_eq!(list.unwrap()[0], relay(2), "a measured relay is reachable");
}

proptest! {
    #[test]
    fn a_placed_device_needs_no_second_placement(
        relays in proptest::collection::btree_map(0u8..12, (any::<bool>(), 0u32..50), 0..12),
        current in proptest::collection::btree_set(0u8..12, 0..4),
        number in any::<u8>(),
    ) {
        let relays = relays.into_iter();
        let relays: Vec<(u8, bool, u32)> =
            relays.map(|(id, (online, homed))| (id, online, homed)).collect();
        let mut placement = placement(&relays);
        let current: Vec<RelayId> = current.into_iter().map(relay).collect();
        if let Some(list) = place(&mut placement, device(number), &current) {
            prop_assert!(list.len() <= 1 + BACKUPS_MAX);
            for id in &list {
                prop_assert!(placement.is_online(*id));
                prop_assert_eq!(list.iter().filter(|other| *other == id).count(), 1);
            }
            prop_assert_eq!(place(&mut placement, device(number), &list), None);
        }
    }
}
