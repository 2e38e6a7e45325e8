use super::*;

#[test]
fn the_median_is_the_middle() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
}

#[test]
fn percentiles_are_measured_values() {
    let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
    assert_eq!(percentile(&sorted, 0.5), Some(500.0));
    assert_eq!(percentile(&sorted, 0.99), Some(990.0));
    assert_eq!(percentile(&sorted, 0.999), Some(999.0));
    assert_eq!(percentile(&sorted, 0.0), Some(1.0));
    assert_eq!(percentile(&sorted, 1.0), Some(1000.0));
    assert_eq!(percentile(&[], 0.5), None);
    assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
}

#[test]
fn fairness_goes_from_one_over_n_to_one() {
    assert_eq!(jain(&[2.0, 2.0, 2.0, 2.0]), Some(1.0));
    assert_eq!(jain(&[8.0, 0.0, 0.0, 0.0]), Some(0.25));
    assert_eq!(jain(&[0.0, 0.0]), None);
    let uneven = jain(&[1.0, 3.0]).unwrap();
    assert!((uneven - 0.8).abs() < 1e-9, "{uneven}");
}

#[test]
fn ratios_pair_runs_of_the_same_number() {
    let ours = [(1, 8.0), (2, 9.0), (3, 5.0)];
    let theirs = [(2, 10.0), (1, 4.0), (4, 1.0), (3, 0.0)];
    assert_eq!(ratios(&ours, &theirs), [2.0, 0.9]);
}

#[test]
fn a_ramp_ends_where_the_rate_is_near_its_end() {
    // 10 slow samples, then 100 a sample.
    let mut totals = vec![0];
    for step in 0..40_u64 {
        let last = totals[totals.len() - 1];
        totals.push(last + if step < 10 { 10 } else { 100 });
    }
    assert_eq!(ramp(&totals, 0.9), Some(14));
    assert_eq!(ramp(&[5; 20], 0.9), None);
    assert_eq!(ramp(&[], 0.9), None);
}
