use super::*;

#[test]
fn pauses_double_up_to_the_limit_and_are_spread() {
    let mut backoff = Backoff::new();
    let pauses: Vec<u64> = (0..6).map(|_| backoff.next(0).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    let spread = backoff.next(255);
    assert!(spread >= BACKOFF_MAX / 2 && spread < BACKOFF_MAX * 51 / 100);
}
