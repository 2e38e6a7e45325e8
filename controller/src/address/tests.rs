use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

#[test]
fn the_first_device_gets_the_first_index() {
    assert_eq!(lowest_free([]), Some(HOST_MIN));
}

#[test]
fn a_gap_is_filled_first() {
    assert_eq!(lowest_free([1, 2, 2, 4, 5]), Some(3));
    assert_eq!(lowest_free([2, 3]), Some(1));
}

#[test]
fn a_full_network_has_no_index() {
    assert_eq!(lowest_free(HOST_MIN..=HOST_MAX), None);
    assert_eq!(lowest_free(HOST_MIN..HOST_MAX), Some(HOST_MAX));
}

proptest! {
    #[test]
    fn the_index_is_free_and_no_lower_one_is(taken in proptest::collection::btree_set(1u32..200, 0..150)) {
        let taken: BTreeSet<u32> = taken;
        let host = lowest_free(taken.iter().copied()).unwrap();
        prop_assert!(!taken.contains(&host));
        prop_assert!((HOST_MIN..host).all(|lower| taken.contains(&lower)));
    }
}
