use super::*;

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn batch(delays: &[u64]) -> Delays {
    let mut batch = Delays::default();
    for delay in delays {
        batch.note(Duration::from_micros(*delay));
    }
    batch
}

#[test]
fn queue_delays_speak_of_the_last_interval_and_of_all_time() {
    let delays = QueueDelays::default();
    let begin = start();
    let mut first = batch(&[100, 500]);
    delays.take(begin, &mut first);
    assert_eq!(first, Delays::default(), "a batch is taken once");
    let (total, newest) = delays.at(begin);
    assert_eq!(total, newest);
    assert_eq!(
        (newest.turns, newest.mean_us(), newest.max_us),
        (2, 300, 500)
    );

    // One interval later it still counts, two later no more.
    delays.take(begin + INTERVAL, &mut batch(&[20]));
    let (_, newest) = delays.at(begin + INTERVAL);
    assert_eq!((newest.turns, newest.max_us), (3, 500));
    let (_, newest) = delays.at(begin + 2 * INTERVAL);
    assert_eq!((newest.turns, newest.max_us), (1, 20));
    let (total, newest) = delays.at(begin + 9 * INTERVAL);
    assert_eq!(newest, Delays::default());
    assert_eq!(newest.mean_us(), 0);
    assert_eq!((total.turns, total.sum_us), (3, 620));
}

#[test]
fn a_socket_that_takes_everything_at_once_is_no_stall() {
    let mut stall = WriteStall::default();
    let now = start();
    for _ in 0..3 {
        stall.handle_turn();
        assert_eq!(stall.handle_fill(now), None);
        stall.handle_given(now);
    }
}

#[test]
fn a_stall_lasts_from_the_fill_to_the_next() {
    let mut stall = WriteStall::default();
    let now = start();
    stall.handle_turn();
    assert_eq!(stall.handle_fill(now), None);
    stall.handle_given(now);
    // Turns that only read, then one that writes the rest, then the one that asks for more.
    for _ in 0..4 {
        stall.handle_turn();
    }
    let later = now + Duration::from_millis(30);
    assert_eq!(stall.handle_fill(later), Some(Duration::from_millis(30)));
    // It gave nothing, and a link that is idle for long has not stalled.
    for _ in 0..4 {
        stall.handle_turn();
    }
    assert_eq!(stall.handle_fill(later + Duration::from_secs(60)), None);
}

#[test]
fn counters_of_all_stacks_add_up() {
    let mut stats = Stats {
        flows: 3,
        retransmits: 2,
        ring_bytes: 4_096,
        ..Stats::default()
    };
    stats.drops.denied = 7;
    let mut all = Counters::default().snapshot(start());
    add_stack(&mut all, &stats);
    add_stack(&mut all, &stats);
    assert_eq!(all["flows"], 6);
    assert_eq!(all["retransmits"], 4);
    // One arena serves all stacks, and each tells all of it.
    assert_eq!(all["ring_bytes"], 4_096);
    assert_eq!(all["drop_stack_denied"], 14);
    assert!(!all.contains_key("drop_stack_backlog"), "{all:?}");
    let stack: u64 = all
        .iter()
        .filter(|(name, _)| name.starts_with("drop_stack_"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(stack, 2 * stats.drops.total());
}
