//! Bytes in are bytes out, whatever the wire does short of staying cut.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;

use super::net::*;
use crate::Config;

/// Both sides send their bytes and close; both must read exactly what the other sent.
fn exchange(net: &mut Net, v6: bool, a_sends: usize, b_sends: usize, limit: Duration) -> Duration {
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, v6);
    let (up, down) = (pattern(a_sends, 1), pattern(b_sends, 2));
    let (mut a, mut b) = (Program::new(&client, &up), Program::new(&server, &down));
    let took = net.until(limit, |net| {
        // Until both sides have nothing to do without time passing.
        loop {
            a.work();
            b.work();
            if !net.settle() {
                break;
            }
        }
        a.is_done() && b.is_done()
    });
    assert!(
        a.received == down,
        "A read {} of {} bytes",
        a.received.len(),
        down.len()
    );
    assert!(
        b.received == up,
        "B read {} of {} bytes",
        b.received.len(),
        up.len()
    );
    took
}

#[test]
fn bulk_goes_both_ways_unchanged() {
    for (v6, config) in [
        (false, small()),
        (true, small()),
        (false, Config::default()),
        (true, Config::default()),
    ] {
        let mut net = Net::new(config);
        exchange(&mut net, v6, 5_000_000, 3_000_000, Duration::from_secs(60));
        assert_eq!(net.stack(A).stats().retransmits, 0);
        assert_eq!(net.stack(B).stats().retransmits, 0);
        assert_eq!(
            net.stack(A).stats().drops.total() + net.stack(B).stats().drops.total(),
            0
        );
    }
}

#[test]
fn a_window_of_one_ring_moves_each_round_trip() {
    let mut net = Net::new(Config::default());
    // 16 MB at 1 MiB per 10 ms, after a first flight of 64 KiB.
    let took = exchange(&mut net, false, 16_000_000, 0, Duration::from_secs(60));
    assert!(took < Duration::from_millis(250), "{took:?}");
}

#[test]
fn the_last_byte_of_a_full_window_is_not_lost() {
    let mut net = Net::new(Config::default());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    // Announces the whole ring; what is acknowledged later is announced in units of 16 bytes.
    server.try_write(b"!").unwrap();
    net.pass(Duration::from_millis(10));
    let sent = pattern(65_535 * 16, 1);
    client.try_write(&sent[..65_535]).unwrap();
    net.pass(Duration::from_millis(1));
    // The ring is filled in two pieces, because it wraps.
    let mut offset = 65_535;
    while offset < sent.len() {
        offset += client.try_write(&sent[offset..]).unwrap();
    }
    client.try_shutdown();
    net.pass(Duration::from_millis(100));
    let mut received = Vec::new();
    let mut data = [0; 30_000];
    net.until(Duration::from_secs(100), |net| {
        loop {
            match server.try_read(&mut data) {
                Ok(0) => return true,
                Ok(count) => received.extend_from_slice(&data[..count]),
                Err(_) if net.settle() => {}
                Err(_) => return false,
            }
        }
    });
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
}

#[test]
fn different_mtus_meet_at_the_smaller_one() {
    let mut net = Net::with(Config::default(), small(), 3);
    exchange(&mut net, false, 500_000, 500_000, Duration::from_secs(60));
    let mean = net.links[A].bytes / net.links[A].packets;
    assert!(mean <= 1_500, "{mean}");
}

#[test]
fn half_close_works_in_each_order() {
    for a_first in [true, false] {
        let mut net = Net::new(small());
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let (first, second) = if a_first {
            (&client, &server)
        } else {
            (&server, &client)
        };
        first.try_write(b"question").unwrap();
        first.try_shutdown();
        net.pass(Duration::from_millis(50));
        let mut data = [0; 64];
        assert_eq!(second.try_read(&mut data).unwrap(), 8);
        assert_eq!(second.try_read(&mut data).unwrap(), 0);
        assert_eq!(
            first.try_write(b"more").unwrap_err().kind(),
            std::io::ErrorKind::BrokenPipe
        );
        // Long after our FIN the other half still works: nobody counts time on a flow that is held.
        net.pass(Duration::from_secs(3_600));
        second.try_write(b"answer").unwrap();
        second.try_shutdown();
        net.pass(Duration::from_millis(50));
        assert_eq!(first.try_read(&mut data).unwrap(), 6);
        assert_eq!(first.try_read(&mut data).unwrap(), 0);
        assert_eq!(first.try_read(&mut data).unwrap(), 0);
        net.pass(Duration::from_secs(5));
        for side in [A, B] {
            let stats = net.stack(side).stats();
            assert_eq!((stats.flows, stats.time_wait, stats.timers), (0, 0, 0));
        }
    }
}

#[test]
fn a_reader_that_waits_gets_everything_later() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let sent = pattern(200_000, 7);
    let mut offset = 0;
    let mut blocked = 0;
    while blocked < 3 {
        match client.try_write(&sent[offset..]) {
            Ok(count) => offset += count,
            Err(_) => blocked += 1,
        }
        net.pass(Duration::from_secs(1));
    }
    // One ring on each side, and no more.
    assert_eq!(offset, 2 * 65_535);
    net.pass(Duration::from_secs(600));
    let mut received = Vec::new();
    let mut data = [0; 10_000];
    net.until(Duration::from_secs(120), |_| {
        while let Ok(count) = client.try_write(&sent[offset..]) {
            offset += count;
            if count == 0 {
                break;
            }
        }
        while let Ok(count) = server.try_read(&mut data) {
            received.extend_from_slice(&data[..count]);
        }
        received.len() == sent.len()
    });
    assert!(received == sent);
}

#[test]
fn fill_and_drain_work_on_the_rings_themselves() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let filled = client.poll_fill(&mut cx, |room| {
        assert_eq!(room.len(), 65_535);
        room[..5].copy_from_slice(b"hello");
        Ok(5)
    });
    assert!(matches!(filled, std::task::Poll::Ready(Ok(5))));
    let blocked = client.poll_fill(&mut cx, |_| Err(std::io::ErrorKind::WouldBlock.into()));
    assert!(matches!(
        blocked,
        Poll::Ready(Err(error)) if error.kind() == ErrorKind::WouldBlock
    ));
    assert!(
        server
            .poll_drain(&mut cx, |_| unreachable!("nothing is there"))
            .is_pending()
    );
    net.pass(Duration::from_millis(20));
    let drained = server.poll_drain(&mut cx, |bytes| {
        assert_eq!(bytes, b"hello");
        Ok(2)
    });
    assert!(matches!(drained, std::task::Poll::Ready(Ok(2))));
    let mut rest = [0; 8];
    assert_eq!(server.try_read(&mut rest).unwrap(), 3);
    assert_eq!(&rest[..3], b"llo");
    client.try_shutdown();
    net.pass(Duration::from_millis(20));
    let end = server.poll_drain(&mut cx, |_| unreachable!("only the end is there"));
    assert!(matches!(end, std::task::Poll::Ready(Ok(0))));
}

#[test]
fn a_short_exchange_stays_quick_beside_bulk() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (bulk, sink) = net.pair(&listener, false);
    let (client, server) = net.pair(&listener, false);
    net.links[A].blocked = true;
    bulk.try_write(&pattern(60_000, 1)).unwrap();
    let mut out = Vec::new();
    // The bulk flow has had its first turn.
    for _ in 0..3 {
        net.stack(A)
            .poll_packet(net.now, address(B, false), &mut out)
            .unwrap();
    }
    client.try_write(b"key stroke").unwrap();
    let mut packets = 0;
    loop {
        out.clear();
        net.stack(A)
            .poll_packet(net.now, address(B, false), &mut out)
            .unwrap();
        packets += 1;
        if out.ends_with(b"key stroke") {
            break;
        }
    }
    assert!(packets <= 2, "{packets}");
    drop((sink, server));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn bytes_in_are_bytes_out(
        seed in any::<u64>(),
        v6 in any::<bool>(),
        loss in 0_u64..30,
        reorder in 0_u64..50,
        duplicate in 0_u64..50,
        a_sends in 0_usize..300_000,
        b_sends in 0_usize..300_000,
        big in any::<bool>(),
    ) {
        let large = Config { rx_ring: 65_535 * 4, tx_ring: 65_535 * 2, ..Config::default() };
        let config = if big { large } else { small() };
        // Under loss the engine's pauses grow to a minute each, and this is about bytes, not about
        // patience.
        let patience = Duration::from_secs(36_000);
        let config = Config { last_ack_timeout: patience, linger_timeout: patience, ..config };
        let mut net = Net::with(config.clone(), config, seed);
        for link in &mut net.links {
            (link.loss, link.reorder, link.duplicate) = (loss, reorder, duplicate);
        }
        exchange(&mut net, v6, a_sends, b_sends, Duration::from_secs(36_000));
    }

    #[test]
    fn cuts_of_the_path_lose_nothing(
        seed in any::<u64>(),
        cuts in proptest::collection::vec((0_u64..200, 1_u64..5_000, any::<bool>()), 1..4),
        size in 1_usize..2_000_000,
    ) {
        let mut net = Net::with(small(), small(), seed);
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let sent = pattern(size, seed);
        let (mut a, mut b) = (Program::new(&client, &sent), Program::new(&server, &[]));
        let mut run = |net: &mut Net, time: Duration| {
            let end = net.now + time;
            loop {
                a.work();
                b.work();
                if !net.settle() && !net.advance(end) {
                    break a.is_done() && b.is_done();
                }
            }
        };
        for (before, length, lost) in cuts {
            run(&mut net, Duration::from_millis(before));
            for side in [A, B] {
                net.stack(side).path_stalled(net.now, address(1 - side, false));
                net.links[side].blocked = true;
            }
            if lost {
                net.lose_in_flight();
            }
            run(&mut net, Duration::from_millis(length));
            for side in [A, B] {
                net.links[side].blocked = false;
                let remote = address(1 - side, false);
                if lost {
                    net.stack(side).path_restored(net.now, remote);
                } else {
                    net.stack(side).path_resumed(net.now, remote);
                }
            }
        }
        prop_assert!(run(&mut net, Duration::from_secs(120)));
        prop_assert!(b.received == sent, "{} of {}", b.received.len(), sent.len());
    }
}

#[test]
fn an_accepted_stream_can_be_shut_before_it_is_established() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let remote = std::net::SocketAddr::new(address(B, false), 80);
    let mut connecting = pin!(net.stack(A).connect(net.now, remote).unwrap());
    net.pass(Duration::from_millis(20));
    let server = poll(pin!(listener.accept())).unwrap().accept();
    server.try_shutdown();
    net.pass(Duration::from_millis(50));
    let client = poll(connecting.as_mut()).unwrap().unwrap();
    assert_eq!(client.try_read(&mut [0; 8]).unwrap(), 0);
    client.try_write(b"still open").unwrap();
    net.pass(Duration::from_millis(50));
    assert_eq!(server.try_read(&mut [0; 64]).unwrap(), 10);
}

#[test]
fn a_packet_is_the_same_whatever_lay_in_its_buffer() {
    for v6 in [false, true] {
        let packets = [0x00, 0xff].map(|junk| {
            let net = Net::new(small());
            let remote = address(B, v6);
            let _connecting = net.stack(A).connect(net.now, SocketAddr::new(remote, 80));
            let socket = net.stack(A).bind_udp(9).unwrap();
            socket
                .send_to(b"datagram", SocketAddr::new(remote, 9))
                .unwrap();
            let mut packets = Vec::new();
            let mut buffer = vec![junk; 3_000];
            while let Some(emitted) = net
                .stack(A)
                .poll_packet_at(net.now, remote, &mut buffer, 100)
            {
                assert!(buffer[..100].iter().all(|byte| *byte == junk));
                assert!(buffer[100 + emitted.len..].iter().all(|byte| *byte == junk));
                packets.push(buffer[100..100 + emitted.len].to_vec());
                buffer.fill(junk);
            }
            assert_eq!((packets.len(), buffer.len()), (2, 3_000));
            packets
        });
        assert_eq!(packets[0], packets[1]);
    }
}
