//! Tests: the lines of `ping`, and the part of an address that counts for `whois`.

use super::*;

#[test]
fn a_pong_names_the_peer_its_address_the_relay_and_the_time() {
    let mut pong = Pong {
        name: "web.home.overlan.internal".to_owned(),
        address: "100.64.0.2".parse().unwrap(),
        relay: Some("r1".to_owned()),
        round_trip_us: 3_250,
    };
    assert_eq!(
        line(&pong),
        "pong from web (100.64.0.2) via relay(r1) in 3.2 ms"
    );
    pong.relay = None;
    pong.round_trip_us = 45_900;
    assert_eq!(line(&pong), "pong from web (100.64.0.2) in 45 ms");
}

#[test]
fn a_port_is_taken_off_and_an_address_stays_whole() {
    for (text, host) in [
        ("100.64.0.2", "100.64.0.2"),
        ("100.64.0.2:50312", "100.64.0.2"),
        ("fd7a::2", "fd7a::2"),
        ("[fd7a::2]:22", "fd7a::2"),
        ("web:22", "web"),
        ("web.home.overlan.internal", "web.home.overlan.internal"),
    ] {
        assert_eq!(without_port(text), host);
    }
}
