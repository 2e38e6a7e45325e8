use super::*;

fn limits() -> Limits {
    Limits::new(Budget {
        unproven: 4,
        unproven_per_source: 2,
        proven: 1,
    })
}

fn admit(limits: &mut Limits) -> Slot {
    let now = tokio::time::Instant::now().into_std();
    let (slot, evicted) = limits.admit(now, IpAddr::from([192, 0, 2, 1])).unwrap();
    assert_eq!(evicted, None);
    slot
}

#[test]
fn who_has_proved_himself_is_no_stranger_any_more() {
    let mut limits = limits();
    let mut first = admit(&mut limits);
    limits.prove(&mut first).unwrap();
    assert_eq!(limits.unproven(), 0);
    let mut second = admit(&mut limits);
    assert_eq!(limits.prove(&mut second), Err(Refusal::Proven));
    limits.close(first);
    assert_eq!(limits.prove(&mut second), Ok(()));
    limits.close(second);
    assert_eq!((limits.unproven(), limits.proven), (0, 0));
}

#[test]
fn budgets_fit_into_the_descriptors() {
    for files in [64, 256, 1_024, 4_096, 65_536, u64::MAX] {
        let budget = Budget::of_files(files);
        let all = (budget.unproven + budget.proven) as u64;
        assert!(all < files, "{files}: {budget:?}");
        assert!(budget.unproven_per_source > 0 && budget.proven > 0);
    }
    assert_eq!(Budget::of_files(1_024).proven, 704);
    assert_eq!(Budget::default().proven, PROVEN_MAX);
}
