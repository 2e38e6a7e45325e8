use super::*;

#[test]
fn processor_time_is_read_past_any_name() {
    let stat = "7 (a) b (c)) R 1 7 7 0 -1 4194304 98 0 0 0 250 50 0 0 20 0 1 0 1 2 3";
    assert_eq!(parse_cpu(stat), Some(3_000_000));
    for wrong in [
        "",
        "7 (a",
        "7 (a) R 1 2",
        "7 (a) R 1 7 7 0 -1 4 98 0 0 0 x 50",
    ] {
        assert_eq!(parse_cpu(wrong), None, "{wrong}");
    }
}

#[test]
fn the_machine_is_busy_when_it_is_neither_idle_nor_waits_for_a_disk() {
    let stat = "cpu  10 1 5 80 4 0 1 3 2 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    assert_eq!(parse_machine(stat), Some((200_000, 1_040_000)));
    assert_eq!(parse_machine("intr 1\n"), None);
    assert_eq!(parse_machine("cpu  1 2 3\n"), None);
}

#[test]
fn samples_are_subtracted_number_by_number() {
    let before = Sample::from_fields([10; FIELDS]);
    let after = Sample::from_fields([25; FIELDS]);
    let since = after.since(&before);
    assert_eq!(since.bytes_in, 15);
    assert_eq!(since.machine_total_us, 15);
    assert_eq!(since.processors, 25, "a number of now");
    assert_eq!(since.ring_bytes, 25);
    assert_eq!(before.since(&after).bytes_out, 0);
}

#[test]
fn a_sample_takes_the_clients_counters_and_this_process() {
    let sampler = Sampler::new();
    let counters = Counters::from([
        ("bytes_in".to_owned(), 5),
        ("credit_window".to_owned(), 7),
        ("retransmits".to_owned(), 9),
    ]);
    let sample = sampler.sample(&counters);
    assert_eq!(
        (sample.bytes_in, sample.credit_window, sample.retransmits),
        (5, 7, 9)
    );
    assert!(sample.processors > 0);
    if cfg!(target_os = "linux") {
        assert!(sample.machine_total_us > sample.machine_busy_us);
        assert!(sample.busiest_us <= sample.cpu_us + TICK_US);
    }
}

#[test]
fn a_side_is_told_in_the_units_of_people() {
    let sample = Sample {
        cpu_us: 3_000_000,
        credit_wait_us: 1_500,
        queue_turns: 4,
        queue_delay_us: 8_000,
        machine_busy_us: 1,
        machine_total_us: 4,
        ..Sample::default()
    };
    let side = sample.side(2_000_000);
    assert_eq!(side.processors_used, 1.5);
    assert_eq!(side.credit_wait_ms, 1.5);
    assert_eq!(side.queue_delay_mean_ms, 2.0);
    assert_eq!(side.machine_busy, Some(0.25));
    assert_eq!(Sample::default().side(0).machine_busy, None);
}
