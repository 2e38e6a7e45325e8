use super::*;

fn at(start: Instant, micros: u64) -> Instant {
    start + Duration::from_micros(micros)
}

#[test]
fn a_slow_socket_gets_less_at_once_and_a_quick_one_more_again() {
    let start = crate::clock::now();
    let mut pace = Pace::default();
    let mut room = FILL;
    // 10 Mbit/s: every batch takes longer than it should, down to one frame.
    let mut now = 0;
    for _ in 0..10 {
        pace.start(at(start, now), room);
        now += room as u64 * 8 / 10;
        room = pace.next(at(start, now));
    }
    assert_eq!(room, ROOM_MIN);
    // Little that went quickly says nothing about much.
    pace.start(at(start, now), 100);
    assert_eq!(pace.next(at(start, now)), ROOM_MIN);
    for _ in 0..10 {
        pace.start(at(start, now), room);
        room = pace.next(at(start, now));
    }
    assert_eq!(room, FILL);
}
