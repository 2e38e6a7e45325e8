use super::*;

#[test]
fn counters_become_lines() {
    let counters: BTreeMap<String, u64> = [
        ("bytes_in", 3 << 30),
        ("packets_in", 200_000),
        ("bytes_out", 1_536),
        ("packets_out", 20),
        ("flows", 2),
        ("ring_bytes", 4 << 20),
        ("queue_delay_mean_us", 150),
        ("queue_delay_max_us", 2_500),
        ("credit_waits", 7),
        ("credit_wait_us", 1_250_000),
        ("link_stalls", 1),
        ("link_stall_us", 180_000),
        ("retransmits", 4),
        ("drop_unknown_peer", 3),
        ("drop_stack_denied", 2),
        ("drop_replay", 0),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(
        lines(&counters),
        [
            (
                "traffic",
                "in 3.0 GiB in 200000 packets, out 1.5 KiB in 20 packets; 2 flows with rings of \
                 4.0 MiB"
                    .to_owned()
            ),
            (
                "waits",
                "for a turn 0.15 ms on average and 2.50 ms at most lately; for credit 7 times, \
                 1.2 s; for a link's socket 1 times, 180 ms; 4 retransmits"
                    .to_owned()
            ),
            ("drops", "stack_denied 2, unknown_peer 3".to_owned()),
        ]
    );
    assert_eq!(lines(&BTreeMap::new()), []);
}

#[test]
fn amounts_have_the_unit_that_fits() {
    assert_eq!(bytes(0), "0 B");
    assert_eq!(bytes(1_023), "1023 B");
    assert_eq!(bytes(1 << 20), "1.0 MiB");
    assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    assert_eq!(time(0), "0 ms");
    assert_eq!(time(30), "0.03 ms");
    assert_eq!(time(4_000_000), "4.0 s");
}
