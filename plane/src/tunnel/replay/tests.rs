use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn a_counter_is_new_once() {
    let mut window = ReplayWindow::new();
    assert!(window.is_new(0));
    window.accept(0);
    assert!(!window.is_new(0));
    assert!(window.is_new(1));
}

#[test]
fn the_window_is_exactly_its_size() {
    let mut window = ReplayWindow::new();
    window.accept(WINDOW + 4);
    assert!(window.is_new(5), "the oldest counter inside");
    assert!(!window.is_new(4), "one too old");
}

#[test]
fn a_jump_over_the_whole_window_forgets_all_of_it() {
    for jump in [WINDOW - 1, WINDOW, WINDOW + 1, 1 << 40] {
        let mut window = ReplayWindow::new();
        (0..WINDOW).for_each(|counter| window.accept(counter));
        let newest = WINDOW - 1 + jump;
        window.accept(newest);
        for old in newest + 1 - WINDOW..newest {
            assert_eq!(
                window.is_new(old),
                old >= WINDOW,
                "{old} after a jump of {jump}"
            );
        }
    }
}

#[test]
fn the_largest_counters_work() {
    let mut window = ReplayWindow::new();
    window.accept(u64::MAX - 1);
    assert!(!window.is_new(u64::MAX - 1));
    assert!(window.is_new(u64::MAX - 2));
    assert!(window.is_new(u64::MAX));
}

proptest! {
    /// Steps that stay near, jump forward by about a window, or go back by about a window.
    #[test]
    fn agrees_with_a_set_of_everything_seen(
        start in prop_oneof![Just(0u64), Just(WINDOW * 3 - 5), 0..1u64 << 60],
        steps in prop::collection::vec(
            prop_oneof![
                8 => -70..70i64,
                2 => -(WINDOW as i64) - 70..-(WINDOW as i64) + 70,
                2 => WINDOW as i64 - 70..WINDOW as i64 + 70,
                1 => -9000..9000i64,
                1 => 0..40_000i64,
            ],
            0..400,
        ),
    ) {
        let mut window = ReplayWindow::new();
        let mut seen = BTreeSet::new();
        let mut highest = None;
        for step in steps {
            let counter = highest.unwrap_or(start).saturating_add_signed(step);
            let too_old = highest.is_some_and(|highest| counter + WINDOW <= highest);
            let expected = !too_old && !seen.contains(&counter);
            prop_assert_eq!(window.is_new(counter), expected, "counter {}", counter);
            if expected {
                window.accept(counter);
                seen.insert(counter);
                highest = highest.max(Some(counter));
            }
        }
    }
}
