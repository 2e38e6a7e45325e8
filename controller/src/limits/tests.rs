use overlan_transport::strangers::PROVE_WITHIN;

use super::*;

fn budget() -> ConnectionBudget {
    ConnectionBudget {
        strangers: 12,
        strangers_per_source: 4,
        devices: 3,
        relays: 1,
        people: 2,
    }
}

fn start() -> (Limits, Instant) {
    let now = tokio::time::Instant::now().into_std();
    (Limits::new(budget()), now)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn admit(limits: &mut Limits, now: Instant, from: &str) -> SeatId {
    let admitted = limits.admit(now, ip(from)).unwrap();
    assert_eq!(admitted.evicted, None);
    admitted.seat
}

#[test]
fn a_source_has_its_share_and_gets_its_places_back() {
    let (mut limits, now) = start();
    let held: Vec<_> = (0..4)
        .map(|_| admit(&mut limits, now, "192.0.2.1"))
        .collect();
    for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
        assert_eq!(limits.admit(now, ip(same)), Err(NoRoom::Source));
    }
    admit(&mut limits, now, "192.0.2.2");
    for seat in held {
        limits.close(seat);
    }
    admit(&mut limits, now, "192.0.2.1");
    assert_eq!(limits.open().strangers, 2);
}

#[test]
fn a_proven_caller_leaves_its_source() {
    let (mut limits, now) = start();
    for number in 0..3 {
        let seat = admit(&mut limits, now, "192.0.2.1");
        limits
            .prove(seat, Caller::Device(DeviceId([number; 16])))
            .unwrap();
        assert!(!limits.is_stranger(seat));
    }
    for _ in 0..4 {
        admit(&mut limits, now, "192.0.2.1");
    }
    assert_eq!((limits.open().devices, limits.open().strangers), (3, 4));
}

#[test]
fn each_kind_has_places_of_its_own() {
    let (mut limits, now) = start();
    let seats: Vec<_> = (1..=7)
        .map(|host| admit(&mut limits, now, &format!("192.0.2.{host}")))
        .collect();
    for (seat, number) in seats.iter().zip(1..=3) {
        limits
            .prove(*seat, Caller::Device(DeviceId([number; 16])))
            .unwrap();
    }
    let fourth = limits.prove(seats[3], Caller::Device(DeviceId([4; 16])));
    assert_eq!(fourth, Err(NoRoom::Callers));
    assert!(limits.is_stranger(seats[3]));
    limits
        .prove(seats[4], Caller::Relay(RelayId([1; 16])))
        .unwrap();
    limits.prove(seats[5], Caller::Person(1)).unwrap();
    // It proves to be somebody else, and is counted once.
    limits.prove(seats[5], Caller::Person(2)).unwrap();
    limits.prove(seats[6], Caller::Person(3)).unwrap();
    assert_eq!(limits.open().people, 2);
    for seat in seats {
        limits.close(seat);
        limits.close(seat);
    }
    assert_eq!(limits.open(), OpenConnections::default());
}

#[test]
fn one_caller_does_not_take_the_places_of_its_kind() {
    let mut limits = Limits::new(ConnectionBudget::of_files(65_536));
    let now = tokio::time::Instant::now().into_std();
    let device = Caller::Device(DeviceId([1; 16]));
    for _ in 0..EACH_CALLER_MAX {
        let seat = admit(&mut limits, now, "192.0.2.1");
        limits.prove(seat, device).unwrap();
    }
    let seat = admit(&mut limits, now, "192.0.2.1");
    assert_eq!(limits.prove(seat, device), Err(NoRoom::Caller));
    limits
        .prove(seat, Caller::Device(DeviceId([2; 16])))
        .unwrap();
}

#[test]
fn the_largest_holder_makes_room_for_a_newcomer() {
    let (mut limits, now) = start();
    let mut first = Vec::new();
    for host in 1..=3 {
        for _ in 0..4 {
            first.push(admit(&mut limits, now, &format!("192.0.2.{host}")));
        }
    }
    let newcomer = limits.admit(now, ip("198.51.100.1")).unwrap();
    let evicted = newcomer.evicted.unwrap();
    assert!(first.contains(&evicted) && !limits.is_stranger(evicted));
    assert_eq!(limits.open().strangers, 12);
    // Its connection ends later; the place is not given back twice.
    limits.close(evicted);
    assert_eq!(limits.open().strangers, 12);
}

#[test]
fn a_crowd_of_single_strangers_is_not_cut_off_at_once() {
    let (mut limits, now) = start();
    for host in 1..=12 {
        admit(&mut limits, now, &format!("192.0.2.{host}"));
    }
    assert_eq!(limits.admit(now, ip("192.0.2.99")), Err(NoRoom::Strangers));
    let later = now + PROVE_WITHIN;
    assert!(limits.admit(later, ip("192.0.2.99")).is_ok());
}

#[test]
fn budgets_fit_into_the_descriptors() {
    for files in [64, 256, 1_024, 4_096, 65_536, u64::MAX] {
        let budget = ConnectionBudget::of_files(files);
        let all = budget.strangers + budget.devices + budget.relays + budget.people;
        assert!(
            u64::try_from(all).unwrap() < files,
            "{files} files, {all} connections"
        );
        let least = [
            budget.devices,
            budget.relays,
            budget.people,
            budget.strangers_per_source,
        ];
        assert!(
            least.iter().all(|part| *part >= 4),
            "{files} files: {budget:?}"
        );
    }
    assert_eq!(ConnectionBudget::of_files(65_536).devices, DEVICES_MAX);
    assert_eq!(ConnectionBudget::of_files(1_024).devices, 512);
}
