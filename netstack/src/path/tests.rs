use super::*;

fn datagram(size: usize) -> Vec<u8> {
    vec![0; size]
}

#[test]
fn the_clock_stands_still_between_stall_and_resume() {
    let path = Path::new([100, 64, 0, 1].into());
    assert_eq!(
        path.moment(1_000),
        Moment {
            real: 1_000,
            path: 1_000
        }
    );
    path.stall(2_000);
    path.stall(3_000);
    assert_eq!(path.moment(9_000).path, 2_000);
    assert_eq!(path.real(5_000), None);
    assert!(path.resume(10_000));
    assert!(!path.resume(11_000));
    assert_eq!(path.moment(11_000).path, 3_000);
    assert_eq!(path.real(3_000), Some(11_000));
}

#[test]
fn a_shell_is_told_once_until_it_has_found_nothing() {
    let mut queue = Queue::default();
    assert!(queue.push_control(datagram(10)).announce);
    assert!(!queue.push_control(datagram(10)).announce);
    assert!(!queue.push_datagram(datagram(10), 1_500).announce);
    queue.pop_control();
    queue.pop_control();
    let turn = queue.take_turn(1_500).unwrap();
    queue.pop_datagram();
    assert_eq!(queue.finish_turn(turn, 10, Wants::Nothing), (false, false));
    assert!(queue.take_turn(1_500).is_none());
    assert!(queue.push_datagram(datagram(10), 1_500).announce);
}

#[test]
fn a_busy_source_gives_way_after_its_quantum() {
    let mut queue = Queue::default();
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
    let mut queue = Queue::default();
    for _ in 0..MAX_CONTROL_PACKETS {
        assert_eq!(queue.push_control(datagram(1)).dropped, 0);
    }
    assert_eq!(queue.push_control(datagram(1)).dropped, 1);
    let dropped = queue.push_control(datagram(MAX_CONTROL_BYTES)).dropped;
    assert_eq!(dropped, MAX_CONTROL_PACKETS as u64);
}

#[test]
fn a_bucket_grants_a_second_at_once_and_then_its_rate() {
    let mut bucket = Bucket::default();
    let grants = |bucket: &mut Bucket, now| (0..1_000).filter(|_| bucket.take(now, 100)).count();
    assert_eq!(grants(&mut bucket, 0), 100);
    assert_eq!(grants(&mut bucket, 0), 0);
    assert_eq!(grants(&mut bucket, 500_000), 50);
    assert_eq!(grants(&mut bucket, 60_000_000), 100);
}
