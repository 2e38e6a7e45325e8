use super::*;

fn limits() -> Limits {
    Limits::new(Budget {
        unproven: 4,
        unproven_per_source: 2,
        proven: 1,
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn one_source_takes_only_its_share() {
    let mut limits = limits();
    let _one = limits.admit(address("192.0.2.1")).unwrap();
    let two = limits.admit(address("192.0.2.1")).unwrap();
    assert_eq!(limits.admit(address("192.0.2.1")), Err(Refusal::Source));
    assert!(limits.admit(address("192.0.2.2")).is_ok());
    limits.close(two);
    assert!(limits.admit(address("192.0.2.1")).is_ok());
}

#[test]
fn an_ipv6_subscriber_is_one_source_and_a_mapped_address_is_ipv4() {
    let mut limits = limits();
    let _one = limits.admit(address("2001:db8:0:aa01::1")).unwrap();
    let _two = limits.admit(address("2001:db8:0:aaff::2")).unwrap();
    let third = limits.admit(address("2001:db8:0:aa02:ffff::3"));
    assert_eq!(third, Err(Refusal::Source));
    assert!(limits.admit(address("2001:db8:0:ab01::1")).is_ok());
    assert_eq!(
        Source::of(address("::ffff:192.0.2.1")),
        Source::of(address("192.0.2.1"))
    );
}

#[test]
fn strangers_in_total_are_limited() {
    let mut limits = limits();
    let _slots: Vec<Slot> = (1..=4)
        .map(|n| limits.admit(address(&format!("192.0.2.{n}"))).unwrap())
        .collect();
    assert_eq!(limits.admit(address("192.0.2.9")), Err(Refusal::Unproven));
    assert_eq!(limits.unproven(), 4);
}

#[test]
fn who_has_proved_himself_is_no_stranger_any_more() {
    let mut limits = limits();
    let mut first = limits.admit(address("192.0.2.1")).unwrap();
    limits.prove(&mut first).unwrap();
    assert_eq!(limits.unproven(), 0);
    let mut second = limits.admit(address("192.0.2.1")).unwrap();
    assert_eq!(limits.prove(&mut second), Err(Refusal::Proven));
    limits.close(first);
    assert_eq!(limits.prove(&mut second), Ok(()));
    limits.close(second);
    assert_eq!(limits.unproven(), 0);
    assert!(limits.unproven_by_source.is_empty());
}
