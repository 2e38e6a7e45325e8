use super::*;

fn at(start: Instant, micros: u64) -> Instant {
    start + Duration::from_micros(micros)
}

#[test]
fn bytes_and_buffers_keep_the_order_in_which_they_were_given() {
    let mut batch = Batch::new();
    batch.packed().extend_from_slice(b"one ");
    batch.push(b"two ".to_vec());
    batch.push(b"three ".to_vec());
    batch.packed().extend_from_slice(b"four ");
    batch.packed().extend_from_slice(b"five ");
    batch.push(b"six".to_vec());
    assert_eq!(batch.len(), 27);
    assert_eq!(batch.room(), FILL - 27);
    assert_eq!(batch.take_bytes(), b"one two three four five six");
    assert!(batch.is_empty());
    let spent: Vec<_> = batch.take_spent().collect();
    assert_eq!(
        spent,
        [b"two ".to_vec(), b"three ".to_vec(), b"six".to_vec()]
    );
    assert_eq!(batch.take_spent().count(), 0);
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
