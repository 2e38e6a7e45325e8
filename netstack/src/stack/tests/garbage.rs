//! Packets nobody should send: counted, dropped, survived.

use std::time::Duration;

use proptest::prelude::*;

use super::net::*;
use crate::packet;

#[test]
fn data_beyond_the_announced_window_is_dropped_before_the_engine_sees_it() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    net.links[A].blocked = true;
    client.try_write(&pattern(1_000, 1)).unwrap();
    let mut honest = Vec::new();
    net.stack(A)
        .poll_packet(net.now, address(B, false), &mut honest)
        .unwrap();
    let start = packet::emitted_tcp(&honest).unwrap().seq;
    // It would end one byte after the ring, then exactly with it.
    for (offset, dropped) in [
        (65_535 - 999, 1),
        (65_535 - 1_000, 1),
        (u32::MAX / 2, 2),
        (65_535, 3),
    ] {
        let mut beyond = honest.clone();
        packet::set_sequence(&mut beyond, start.wrapping_add(offset));
        net.stack(B)
            .handle_packet(net.now, &beyond, &|_, _, _| true);
        assert_eq!(
            net.stack(B).stats().drops.out_of_window,
            dropped,
            "{offset}"
        );
    }
    net.stack(B)
        .handle_packet(net.now, &honest, &|_, _, _| true);
    let mut data = [0; 2_000];
    assert_eq!(server.try_read(&mut data).unwrap(), 1_000);
    // What was read makes room for as much.
    let mut again = honest.clone();
    packet::set_sequence(&mut again, start.wrapping_add(65_535));
    net.stack(B).handle_packet(net.now, &again, &|_, _, _| true);
    assert_eq!(net.stack(B).stats().drops.out_of_window, 3);
    assert_eq!(net.stack(B).stats().flows_panicked, 0);
}

#[test]
fn packets_for_others_and_from_nobody_are_counted() {
    let net = Net::new(small());
    let admit = |_, _, _| panic!("nothing here opens anything");
    let from = "100.64.0.9:1000".parse().unwrap();
    let to = "100.64.0.8:80".parse().unwrap();
    let stray = packet::udp_datagram(from, to, b"x");
    net.stack(A).handle_packet(net.now, &stray, &admit);
    let multicast = packet::udp_datagram("224.0.0.1:1".parse().unwrap(), to, b"x");
    net.stack(A).handle_packet(net.now, &multicast, &admit);
    assert_eq!(net.stack(A).stats().drops.address, 2);
    net.stack(A)
        .handle_packet(net.now, &stray[..stray.len() - 1], &admit);
    net.stack(A).handle_packet(net.now, &[], &admit);
    assert_eq!(net.stack(A).stats().drops.malformed, 2);
    let mut fragment = stray.clone();
    fragment[6] = 0x20;
    net.stack(A).handle_packet(net.now, &fragment, &admit);
    assert_eq!(net.stack(A).stats().drops.unsupported, 1);
    assert_eq!(net.stack(A).stats().packets_out, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        packets in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..120), 1..20),
    ) {
        let net = Net::new(small());
        for packet in packets {
            net.stack(A).handle_packet(net.now, &packet, &|_, _, _| true);
        }
    }

    /// A remote that knows the connection and sends anything within it.
    #[test]
    fn a_hostile_remote_ends_its_own_flow_at_most(
        changes in proptest::collection::vec(
            (0_usize..60, any::<u8>(), any::<bool>(), -70_000_i64..70_000, 0_usize..1_400,
                any::<bool>()),
            1..60),
        seed in any::<u64>(),
    ) {
        let mut net = Net::with(small(), small(), seed);
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let (other, other_server) = net.pair(&listener, true);
        net.links[A].blocked = true;
        client.try_write(&pattern(1_400, seed)).unwrap();
        let mut honest = Vec::new();
        net.stack(A).poll_packet(net.now, address(B, false), &mut honest).unwrap();
        let start = packet::emitted_tcp(&honest).unwrap().seq;
        for (at, value, flip, offset, cut, read) in changes {
            let mut evil = honest.clone();
            packet::set_sequence(&mut evil, start.wrapping_add(offset as u32));
            evil.truncate(evil.len() - cut);
            let len = (evil.len() as u16).to_be_bytes();
            evil[2..4].copy_from_slice(&len);
            // Flags, acknowledgement, window, header length and options, but not the ports.
            if flip && at >= 28 && at < evil.len() {
                evil[at] = value;
            }
            net.stack(B).handle_packet(net.now, &evil, &|_, _, _| true);
            if read {
                let _ = server.try_read(&mut [0; 700]);
                let _ = server.try_write(b"some bytes");
            }
            net.pass(Duration::from_millis(10));
        }
        net.links[A].blocked = false;
        other.try_write(b"unharmed").unwrap();
        net.pass(Duration::from_millis(100));
        prop_assert_eq!(other_server.try_read(&mut [0; 16]).unwrap(), 8);
        prop_assert_eq!(net.stack(B).stats().flows_panicked, 0);
    }
}
