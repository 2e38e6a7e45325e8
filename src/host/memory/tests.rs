use super::*;

const MIB: u64 = 1 << 20;

fn budget(limit: u64) -> Budget {
    Budget::new(limit, Origin::Given).unwrap()
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("67108864", 64 * MIB),
        ("64M", 64 * MIB),
        ("64m", 64 * MIB),
        ("64Mi", 64 * MIB),
        ("65536KiB", 64 * MIB),
        ("1G", 1_024 * MIB),
        ("0", 0),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
    for text in ["", "M", "64MB", "64 M", "-1", "1.5G", "99999999999G", "6x"] {
        assert_eq!(text.parse::<Size>(), Err(NoSize), "{text}");
    }
    assert_eq!(Size(64 * MIB).to_string(), "64M");
    assert_eq!(Size(1_000).to_string(), "1000");
    assert_eq!(Size(2_048 * MIB).to_string(), "2G");
}

#[test]
fn too_little_is_refused_in_words() {
    let error = Budget::new(16 * MIB, Origin::Given).unwrap_err();
    assert_eq!(
        error.to_string(),
        "16M is too little: a client needs at least 32M"
    );
    assert!(Budget::new(LIMIT_MIN, Origin::Cgroup).is_ok());
}

#[test]
fn what_is_handed_out_stays_below_the_limit() {
    for limit in [32, 64, 128, 256, 1_024, 4_096, 1 << 20] {
        let budget = budget(limit * MIB);
        // Rings go beyond their share by a quarter for what is empty.
        let rings = budget.rings() as u64 * 5 / 4;
        let flows = budget.flows() as u64 * FLOW;
        assert!(PROGRAM + rings + flows <= budget.limit(), "{limit} MiB");
        assert!(budget.connections() < budget.flows());
    }
}

#[test]
fn much_memory_changes_nothing_but_that_there_is_an_end() {
    let large = budget(4_096 * MIB);
    assert_eq!(large.rings(), RINGS_MAX);
    assert_eq!(large.flows(), FLOWS_MAX);
    assert_eq!(large.socket_buffer(), None);
    assert_eq!(budget(64 * MIB).socket_buffer(), Some(SOCKET_BUFFER));
}

#[test]
fn more_memory_never_means_less_of_anything() {
    let mut before = budget(32 * MIB);
    for limit in (33..2_000).step_by(7) {
        let now = budget(limit * MIB);
        assert!(now.rings() >= before.rings() && now.flows() >= before.flows());
        before = now;
    }
}
