use super::*;

#[test]
fn a_tenth_more_is_a_regression_and_a_tenth_less_is_news() {
    assert!(matches!(Change::of(1_100, Some(1_000)), Change::Above(_)));
    assert!(matches!(Change::of(1_079, Some(1_000)), Change::Kept(_)));
    assert!(matches!(Change::of(921, Some(1_000)), Change::Kept(_)));
    assert!(matches!(Change::of(900, Some(1_000)), Change::Below(_)));
    assert_eq!(Change::of(900, None), Change::Unknown);
}

#[test]
fn limits_are_names_and_numbers() {
    let limits = parse("# comment\n\nbulk 12 # why\n").ok();
    assert_eq!(limits, Some(BTreeMap::from([("bulk", 12)])));
    assert!(parse("bulk").is_err());
    assert!(parse("bulk 0").is_err());
}

#[test]
fn every_path_is_recorded_and_runs() {
    let text = std::fs::read_to_string(default_limits()).unwrap();
    let limits = parse(&text).unwrap();
    for path in PATHS {
        assert!(limits.contains_key(path.name), "{}", path.name);
        (path.run)(64).unwrap();
    }
    assert_eq!(limits.len(), PATHS.len());
}
