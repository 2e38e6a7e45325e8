use super::*;
use crate::tunnel::packet::{IcmpKind, Transport};

fn packet(source: &str, destination: &str) -> Packet {
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        transport: Transport::Icmp(IcmpKind::EchoRequest),
    }
}

fn check(source: &str, destination: &str) -> Result<(), Drop> {
    let peer = ["100.64.0.2", "fd00::2"].map(|addr| addr.parse().unwrap());
    let local = ["100.64.0.1", "fd00::1"].map(|addr| addr.parse().unwrap());
    check_source(&packet(source, destination), &peer, &local)
}

#[test]
fn the_peer_may_speak_to_us_from_each_of_its_addresses() {
    assert_eq!(check("100.64.0.2", "100.64.0.1"), Ok(()));
    assert_eq!(check("fd00::2", "fd00::1"), Ok(()));
}

#[test]
fn the_peer_may_not_speak_for_anybody_else() {
    for foreign in [
        "100.64.0.3",
        "100.64.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        assert_eq!(
            check(foreign, "100.64.0.1"),
            Err(Drop::ForeignSource),
            "{foreign}"
        );
    }
    for foreign in [
        "fd00::3",
        "fd00::1",
        "::1",
        "::",
        "ff02::1",
        "::ffff:100.64.0.2",
    ] {
        assert_eq!(
            check(foreign, "fd00::1"),
            Err(Drop::ForeignSource),
            "{foreign}"
        );
    }
}

#[test]
fn the_peer_reaches_nothing_behind_us() {
    for foreign in [
        "100.64.0.2",
        "100.64.0.3",
        "127.0.0.1",
        "8.8.8.8",
        "224.0.0.1",
    ] {
        assert_eq!(
            check("100.64.0.2", foreign),
            Err(Drop::ForeignDestination),
            "{foreign}"
        );
    }
    for foreign in ["fd00::2", "::1", "ff02::1", "::ffff:100.64.0.1"] {
        assert_eq!(
            check("fd00::2", foreign),
            Err(Drop::ForeignDestination),
            "{foreign}"
        );
    }
}

#[test]
fn without_addresses_nothing_passes() {
    let packet = packet("100.64.0.2", "100.64.0.1");
    assert_eq!(
        check_source(&packet, &[], &[packet.destination]),
        Err(Drop::ForeignSource)
    );
    assert_eq!(
        check_source(&packet, &[packet.source], &[]),
        Err(Drop::ForeignDestination)
    );
}

#[test]
fn reasons_have_stable_names() {
    assert_eq!(
        Drop::ALL.map(Drop::name),
        ["foreign_source", "foreign_destination"]
    );
}
