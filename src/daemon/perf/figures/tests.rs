use super::*;

#[test]
fn a_rate_is_bits_over_time() {
    assert_eq!(rate(125_000_000, 1_000_000), 1_000_000_000);
    assert_eq!(rate(1, 2_000_000), 4);
    assert_eq!(rate(5, 0), 0);
    assert_eq!(rate(u64::MAX, 1), u64::MAX);
}

#[test]
fn fairness_is_one_for_equals_and_one_nth_for_a_hog() {
    assert_eq!(fairness(&[7, 7, 7]), 1.0);
    assert_eq!(fairness(&[9, 0, 0]), 1.0 / 3.0);
    assert_eq!(fairness(&[0, 0]), 1.0);
    assert_eq!(fairness(&[]), 1.0);
    let uneven = fairness(&[4, 2]);
    assert!((uneven - 0.9).abs() < 1e-9, "{uneven}");
}

#[test]
fn every_time_lies_in_its_bucket_within_three_percent() {
    let mut last = 0;
    for us in (0..5_000).chain([65_535, 65_536, 1 << 20, u32::MAX - 1, u32::MAX]) {
        let index = bucket(us);
        assert!(index < BUCKETS && index >= last, "{us}");
        last = index;
        let highest = highest(index);
        assert!(highest >= u64::from(us), "{us} {highest}");
        assert!(
            highest - u64::from(us) <= u64::from(us) / 32,
            "{us} {highest}"
        );
    }
}

#[test]
fn percentiles_are_those_of_the_times() {
    let mut times = RoundTrips::new();
    assert_eq!(times.latency(), None);
    for ms in 1..=100 {
        times.note(Duration::from_millis(ms));
    }
    let latency = times.latency().unwrap();
    assert_eq!(latency.round_trips, 100);
    assert_eq!(latency.max_us, 100_000);
    assert!(
        (50_000..=51_600).contains(&latency.p50_us),
        "{}",
        latency.p50_us
    );
    assert!(
        (99_000..=100_000).contains(&latency.p99_us),
        "{}",
        latency.p99_us
    );

    let mut one = RoundTrips::new();
    one.note(Duration::from_micros(33));
    let latency = one.latency().unwrap();
    assert_eq!((latency.p50_us, latency.p99_us), (33, 33));
}
