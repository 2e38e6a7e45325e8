use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn account(memory: &Arc<Memory>, vni: u32, device: u8) -> Account {
    memory.account(vni, DeviceId([device; 16]))
}

fn now() -> Instant {
    overlan_transport::clock::now()
}

#[test]
fn windows_shrink_when_half_is_used_and_growth_is_never_granted_beyond_its_limit() {
    let memory = Memory::new(QUEUED_MAX);
    let one = account(&memory, 1, 1);
    assert_eq!(one.ceiling(), WINDOW_MAX);
    assert!(one.charge(QUEUED_MAX / 2));
    assert_eq!(one.ceiling(), WINDOW_MAX);
    assert!(one.charge(32));
    assert!(one.ceiling() <= WINDOW_MAX / 2);
    assert!(one.charge(QUEUED_MAX / 2 - 32));
    assert!(!one.charge(1));
    assert_eq!(one.ceiling(), 0);
    assert_eq!(
        account(&memory, 2, 1).ceiling(),
        WINDOW_MAX,
        "who holds nothing is not asked to make room"
    );
    let granted = one.reserve(QUEUED_MAX / 2);
    assert!((QUEUED_MAX / 4..QUEUED_MAX / 2).contains(&granted));
    let other = account(&memory, 2, 2);
    assert!(
        other.reserve(QUEUED_MAX / 2) > 0,
        "one network takes not all"
    );
    assert!(memory.grown() <= (QUEUED_MAX / 2));
}

#[test]
fn nobody_is_asked_to_make_room_for_somebody_who_holds_as_much() {
    let memory = Memory::new(QUEUED_MAX);
    let [one, two] = [1, 2].map(|vni| account(&memory, vni, 1));
    assert!(one.charge(QUEUED_MAX / 2));
    assert!(two.charge(QUEUED_MAX / 2));
    assert_eq!(one.victims(now(), 1), None);
    assert_eq!(two.victims(now(), 1), None);
    let third = account(&memory, 3, 1);
    assert!(third.victims(now(), 1).is_some());
    assert_eq!(third.victims(now(), QUEUED_MAX / 4 + 1), None);
}

#[test]
fn in_its_own_network_a_sender_takes_the_place_of_the_largest() {
    let memory = Memory::new(QUEUED_MAX);
    let [one, two, three] = [1, 2, 3].map(|device| account(&memory, 7, device));
    assert!(one.charge(QUEUED_MAX / 4));
    assert!(two.charge(QUEUED_MAX * 3 / 4));
    let victim = three.victims(now(), 1).unwrap();
    assert_eq!(victim.devices, [DeviceId([2; 16])].into());
}

#[test]
fn what_a_device_sent_over_an_older_connection_counts_as_its_own() {
    let memory = Memory::new(QUEUED_MAX);
    let older = account(&memory, 7, 1);
    assert!(older.charge(1_000));
    let newer = account(&memory, 7, 1);
    assert_eq!(newer.own.queued(), 1_000);
    drop(newer);
    older.discharge(1_000);
    drop(older);
    assert!(
        memory.networks.lock().is_empty(),
        "nothing stays of who left"
    );
    assert_eq!(memory.queued(), 0);
}

/// Shares as they come: (network, device, KiB).
fn charges() -> impl Strategy<Value = Vec<(u32, u8, usize)>> {
    vec((0..24_u32, 0..8_u8, 1..64_usize * 1024), 1..200)
}

proptest! {
    /// Whatever a few networks hold, another one gets a frame in at once, and so does a device of
    /// theirs that holds nothing.
    #[test]
    fn who_holds_nothing_always_finds_room(charges in charges()) {
        let memory = Memory::new(QUEUED_MAX);
        let mut accounts = BTreeMap::new();
        for (vni, device, kib) in charges {
            let account = accounts
                .entry((vni, device))
                .or_insert_with(|| account(&memory, vni, device));
            // As much as there is, as an attacker would.
            let mut size = kib * 1024;
            while size >= 1024 && !account.charge(size) {
                size /= 2;
            }
        }
        prop_assert!(memory.queued() <= QUEUED_MAX);
        let newcomers = [(99, 1), (0, 99)].map(|(vni, device)| account(&memory, vni, device));
        for newcomer in &newcomers {
            let frame = 66_000;
            if newcomer.charge(frame) {
                continue;
            }
            let victim = newcomer.victims(now(), frame);
            let victim = victim.expect("somebody holds more");
            for device in victim.devices {
                let account = &accounts[&(victim.vni, device.0[0])];
                account.discharge(account.own.queued());
            }
            prop_assert!(newcomer.charge(frame));
        }
        let by_network: usize = memory.networks.lock().values().map(|it| it.sums.queued()).sum();
        prop_assert_eq!(by_network, memory.queued());
    }
}
