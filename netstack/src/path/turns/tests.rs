use super::*;

fn datagram(size: usize) -> Vec<u8> {
    vec![0; size]
}

#[test]
fn a_shell_is_told_once_until_it_has_found_nothing() {
    let mut queue = TurnQueue::<()>::new();
    assert!(queue.push_control(datagram(10)).announce);
    assert!(!queue.push_control(datagram(10)).announce);
    assert!(!queue.push_datagram(datagram(10), 1_500).announce);
    queue.pop_control();
    queue.pop_control();
    let turn = queue.take_turn(1_500).unwrap();
    assert_eq!(
        queue.finish_datagram_turn(turn),
        (Some(datagram(10)), false)
    );
    assert!(queue.take_turn(1_500).is_none());
    assert!(queue.push_datagram(datagram(10), 1_500).announce);
}

#[test]
fn a_busy_source_gives_way_after_its_quantum() {
    let mut queue = TurnQueue::<()>::new();
    let _ = queue.push_datagram(datagram(10), 1_500);
    for emitted in [700, 700] {
        let turn = queue.take_turn(1_500).unwrap();
        assert!(turn.was_sparse);
        assert!(queue.finish_turn(turn, emitted, Wants::More).0);
    }
    let turn = queue.take_turn(1_500).unwrap();
    assert!(queue.finish_turn(turn, 700, Wants::More).0);
    assert!(queue.sparse.is_empty());
    assert_eq!(queue.bulk.len(), 1);
    // In debt by 600, so the next quantum leaves 900.
    assert_eq!(queue.take_turn(1_500).unwrap().deficit, 900);
}

#[test]
fn queues_are_bounded_in_packets_and_in_bytes() {
    let mut queue = TurnQueue::<()>::new();
    for _ in 0..MAX_CONTROL_PACKETS {
        assert_eq!(queue.push_control(datagram(1)).dropped, 0);
    }
    assert_eq!(queue.push_control(datagram(1)).dropped, 1);
    let dropped = queue.push_control(datagram(MAX_CONTROL_BYTES)).dropped;
    assert_eq!(dropped, MAX_CONTROL_PACKETS as u64);
}

#[test]
fn a_bucket_grants_a_second_at_once_and_then_its_rate() {
    let mut bucket = TokenBucket::default();
    let grants =
        |bucket: &mut TokenBucket, now| (0..1_000).filter(|_| bucket.take(now, 100)).count();
    assert_eq!(grants(&mut bucket, 0), 100);
    assert_eq!(grants(&mut bucket, 0), 0);
    assert_eq!(grants(&mut bucket, 500_000), 50);
    assert_eq!(grants(&mut bucket, 60_000_000), 100);
}
