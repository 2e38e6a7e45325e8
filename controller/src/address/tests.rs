use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

#[test]
fn the_first_device_gets_the_first_index() {
    assert_eq!(lowest_free(HOST_MIN, []), Some(HOST_MIN));
}

#[test]
fn a_gap_is_filled_first() {
    assert_eq!(lowest_free(HOST_MIN, [1, 2, 2, 4, 5]), Some(3));
    assert_eq!(lowest_free(HOST_MIN, [2, 3]), Some(1));
}

#[test]
fn a_gap_is_left_where_indices_may_be_given_out_twice() {
    assert_eq!(after_gap(0), GAP + 1);
    assert_eq!(lowest_free(after_gap(3), [1, 2, 3]), Some(GAP + 4));
    assert_eq!(lowest_free(after_gap(3), [1, 3, GAP + 4]), Some(GAP + 5));
    // There is no room for a gap.
    assert_eq!(after_gap(HOST_MAX), HOST_MIN);
}

#[test]
fn a_full_network_has_no_index() {
    assert_eq!(lowest_free(HOST_MIN, HOST_MIN..=HOST_MAX), None);
    assert_eq!(lowest_free(HOST_MIN, HOST_MIN..HOST_MAX), Some(HOST_MAX));
}

proptest! {
    #[test]
    fn the_index_is_free_and_no_lower_one_is(taken in proptest::collection::btree_set(1u32..200, 0..150)) {
        let taken: BTreeSet<u32> = taken;
        let host = lowest_free(HOST_MIN, taken.iter().copied()).unwrap();
        prop_assert!(!taken.contains(&host));
        prop_assert!((HOST_MIN..host).all(|lower| taken.contains(&lower)));
    }
}
