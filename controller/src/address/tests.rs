use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

const FIRST: HostIndex = HostIndex::MIN;
const LAST: HostIndex = HostIndex::MAX;

fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

fn hosts(numbers: impl IntoIterator<Item = u32>) -> Vec<HostIndex> {
    numbers.into_iter().map(host).collect()
}

#[test]
fn the_first_device_gets_the_first_index() {
    assert_eq!(next_free(FIRST, &[]), Some(FIRST));
}

#[test]
fn a_gap_is_filled_first() {
    assert_eq!(next_free(FIRST, &hosts([1, 2, 2, 4, 5])), Some(host(3)));
    assert_eq!(next_free(FIRST, &hosts([2, 3])), Some(host(1)));
}

#[test]
fn after_the_last_index_comes_the_first() {
    assert_eq!(next_free(LAST, &hosts([1, HOST_MAX])), Some(host(2)));
    assert_eq!(
        next_free(host(HOST_MAX - 1), &hosts([HOST_MAX - 1])),
        Some(LAST)
    );
}

#[test]
fn runs_begin_anywhere_in_the_range() {
    assert_eq!(place_of_run(Lineage([0; 16])), FIRST);
    let last = u128::from(HOST_MAX - HOST_MIN);
    assert_eq!(place_of_run(Lineage(last.to_le_bytes())), LAST);
    assert_eq!(place_of_run(Lineage((last + 1).to_le_bytes())), FIRST);
}

#[test]
fn a_full_network_has_no_index() {
    let all = hosts(HOST_MIN..=HOST_MAX);
    for from in [FIRST, host(77), LAST] {
        assert_eq!(next_free(from, &all), None);
        assert_eq!(next_free(from, &all[..all.len() - 1]), Some(LAST));
        assert_eq!(next_free(from, &all[1..]), Some(FIRST));
    }
}

proptest! {
    #[test]
    fn the_index_is_free_and_none_before_it_is(
        from in 1u32..200,
        taken in proptest::collection::btree_set(1u32..200, 0..150),
    ) {
        let listed = hosts(taken.iter().copied());
        let host = next_free(host(from), &listed).unwrap().get();
        prop_assert!(!taken.contains(&host));
        prop_assert!(host >= from && (from..host).all(|before| taken.contains(&before)));
    }

    /// A run whose database was brought back from a copy, beside the one that went on from the
    /// copy: each knows what the copy knew and what it gave out itself.
    #[test]
    fn runs_that_know_nothing_of_each_other_give_none_twice(
        lost in any::<[u8; 16]>(),
        found in any::<[u8; 16]>(),
    ) {
        let give_out = |run: [u8; 16]| {
            let mut taken = hosts([1, 2, 3]);
            let mut given = BTreeSet::new();
            for _ in 0..10 {
                let host = next_free(place_of_run(Lineage(run)), &taken).unwrap();
                given.insert(host);
                taken.push(host);
                taken.sort_unstable();
            }
            given
        };
        prop_assert!(give_out(lost).is_disjoint(&give_out(found)));
    }
}
