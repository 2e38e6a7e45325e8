//! The cost of rings: by path, by budget, and over the life of a connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use super::net::*;
use crate::arena::RING_UNIT;
use crate::{Config, ConnectError, RingArena, TcpStream};

/// A configuration with an arena of its own; clones share it.
fn config() -> Config {
    Config {
        rings: RingArena::new(1 << 30),
        ..Config::default()
    }
}

fn net() -> Net {
    Net::with(config(), config(), 1)
}

fn say(net: &mut Net, from: &TcpStream, to: &TcpStream, words: &[u8]) {
    let mut left = words;
    let mut heard = Vec::new();
    let mut buffer = [0; 16_384];
    net.until(Duration::from_secs(10), |_| {
        if let Ok(count) = from.try_write(left) {
            left = &left[count..];
        }
        while let Ok(count) = to.try_read(&mut buffer) {
            heard.extend_from_slice(&buffer[..count]);
        }
        heard.len() == words.len()
    });
    assert!(heard == words);
}

#[test]
fn rings_are_as_big_as_the_round_trip_wants() {
    for (round_trip, units) in [
        (None, 16),
        (Some(Duration::ZERO), 16),
        (Some(Duration::from_micros(2_000)), 16),
        (Some(Duration::from_micros(2_001)), 16),
        (Some(Duration::from_millis(8)), 16),
        (Some(Duration::from_millis(9)), 64),
        (Some(Duration::from_millis(33)), 64),
        (Some(Duration::from_millis(34)), 256),
        (Some(Duration::from_secs(100_000)), 256),
    ] {
        let mut net = net();
        let listener = net.stack(B).listen(80).unwrap();
        if let Some(time) = round_trip {
            net.stack(A).set_round_trip(address(B, false), time);
        }
        let _pair = net.pair(&listener, false);
        let bytes = net.stack(A).stats().ring_bytes;
        assert_eq!(bytes, 2 * units * RING_UNIT as u64, "{round_trip:?}");
    }
}

#[test]
fn many_connections_over_a_short_path_get_small_rings() {
    let mut net = net();
    let listener = net.stack(B).listen(80).unwrap();
    let remote = address(B, false);
    net.stack(A)
        .set_round_trip(remote, Duration::from_millis(1));
    let mut pairs = Vec::new();
    let mut bytes = 0;
    for units in [16, 16, 16, 16, 4, 4] {
        pairs.push(net.pair(&listener, false));
        let before = std::mem::replace(&mut bytes, net.stack(A).stats().ring_bytes);
        assert_eq!(bytes - before, 2 * units * RING_UNIT as u64);
    }
    // Those that fell silent do not count.
    for (client, server) in &pairs {
        say(&mut net, client, server, b"overlay");
    }
    net.pass(Duration::from_secs(6));
    let _pair = net.pair(&listener, false);
    let before = std::mem::replace(&mut bytes, net.stack(A).stats().ring_bytes);
    assert_eq!(bytes - before, 2 * 16 * RING_UNIT as u64);
    // Until they speak again.
    for (client, server) in &pairs {
        say(&mut net, client, server, b"overlay");
        say(&mut net, server, client, b"overlay");
    }
    let _another = net.pair(&listener, false);
    let before = std::mem::replace(&mut bytes, net.stack(A).stats().ring_bytes);
    assert_eq!(bytes - before, 2 * 4 * RING_UNIT as u64);
}

#[test]
fn busy_connections_share_what_is_under_way_over_a_short_path() {
    let all = 16 * RING_UNIT;
    for (round_trip, shares) in [
        (1, [all, all / 2, all / 3, all / 4]),
        (5, [all, all, all, all]),
    ] {
        let mut net = net();
        let listener = net.stack(B).listen(80).unwrap();
        let time = Duration::from_millis(round_trip);
        net.stack(A).set_round_trip(address(B, false), time);
        let pairs: Vec<_> = (0..4).map(|_| net.pair(&listener, false)).collect();
        let piece = pattern(65_536, 1);
        let fill = |stream: &TcpStream| {
            let mut sum = 0;
            while let Ok(count) = stream.try_write(&piece) {
                sum += count;
            }
            sum
        };
        for _ in 0..2 {
            let filled: Vec<_> = pairs.iter().map(|(client, _)| fill(client)).collect();
            assert_eq!(filled, shares);
            let mut left: usize = filled.iter().sum();
            let mut buffer = vec![0; 65_536];
            net.until(Duration::from_secs(1), |_| {
                for (_, server) in &pairs {
                    while let Ok(count) = server.try_read(&mut buffer) {
                        left -= count;
                    }
                }
                left == 0
            });
            net.pass(Duration::from_millis(100));
        }
        // Those that break off while they are busy count no longer.
        for (client, _) in &pairs[1..] {
            fill(client);
            client.abort();
        }
        assert_eq!(fill(&pairs[0].0), all);
    }
}

#[test]
fn a_long_path_carries_what_its_rings_allow() {
    for (milliseconds, at_least) in [(50, 500.0), (100, 300.0)] {
        let mut net = net();
        for side in [A, B] {
            net.links[side].delay = Duration::from_micros(milliseconds * 500);
            let time = Duration::from_millis(milliseconds);
            net.stack(side)
                .set_round_trip(address(1 - side, false), time);
        }
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let piece = pattern(65_536, 1);
        let mut buffer = vec![0; 65_536];
        let mut received = 0;
        let mut move_all = |_: &mut Net| {
            while client.try_write(&piece).is_ok() {}
            while let Ok(count) = server.try_read(&mut buffer) {
                received += count;
            }
            received >= 64 << 20
        };
        let time = net.until(Duration::from_secs(60), &mut move_all);
        let megabits = received as f64 * 8.0 / 1e6 / time.as_secs_f64();
        assert!(megabits >= at_least, "{milliseconds} ms: {megabits} Mbit/s");
        assert_eq!(net.stack(A).stats().retransmits, 0);
    }
}

#[test]
fn an_idle_connection_gives_its_pages_back_once_and_goes_on() {
    let mut net = net();
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    // Nothing was said, so there is nothing to give back and nobody to wake.
    net.pass(Duration::from_millis(100));
    assert_eq!(net.stack(A).stats().ring_committed, 0);
    for round in 0..3 {
        let words = pattern(3_000_000, round);
        say(&mut net, &client, &server, &words);
        say(&mut net, &server, &client, b"heard");
        net.pass(Duration::from_millis(4_900));
        for side in [A, B] {
            assert!(net.stack(side).stats().ring_committed > 1_000_000);
            assert!(net.stack(side).poll_timeout().is_some());
        }
        net.pass(Duration::from_millis(200));
        for side in [A, B] {
            assert_eq!(net.stack(side).stats().ring_committed, 0);
            assert_eq!(net.stack(side).stats().timers, 0);
            assert_eq!(net.stack(side).poll_timeout(), None);
        }
    }
}

#[test]
fn bytes_nobody_has_read_are_not_given_back() {
    let mut net = net();
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let words = pattern(100_000, 1);
    client.try_write(&words).unwrap();
    net.pass(Duration::from_secs(60));
    assert_eq!(net.stack(A).stats().ring_committed, 0);
    assert!(net.stack(B).stats().ring_committed >= 100_000);
    assert_eq!(net.stack(B).poll_timeout(), None);
    let mut buffer = vec![0; 200_000];
    assert_eq!(server.try_read(&mut buffer).unwrap(), words.len());
    assert!(buffer[..words.len()] == words);
    net.pass(Duration::from_secs(6));
    assert_eq!(net.stack(B).stats().ring_committed, 0);
}

#[test]
fn bytes_that_wait_for_earlier_ones_are_not_given_back() {
    let mut net = net();
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let first = pattern(1_000, 1);
    let second = pattern(2_000, 2);
    client.try_write(&first).unwrap();
    net.settle();
    net.lose_in_flight();
    client.try_write(&second).unwrap();
    net.settle();
    // Nothing comes back, so the gap stays while the receiver's patience runs out.
    net.links[A].cut = true;
    net.pass(Duration::from_secs(60));
    assert!(net.stack(B).stats().ring_committed > 0);
    net.links[A].cut = false;
    net.pass(Duration::from_secs(60));
    let mut buffer = vec![0; 4_000];
    let count = server.try_read(&mut buffer).unwrap();
    assert!(buffer[..count] == [first, second].concat());
}

#[test]
fn connections_that_end_give_their_rings_back_at_once() {
    let shared = config();
    let mut net = Net::with(shared.clone(), shared.clone(), 1);
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    say(&mut net, &client, &server, &pattern(500_000, 1));
    assert_eq!(shared.rings.usage().lent, 4 * 16 * RING_UNIT);
    client.try_shutdown();
    server.try_shutdown();
    net.pass(Duration::from_millis(100));
    // Both handles are still held, and one side remembers the connection.
    assert_eq!(net.stack(A).stats().time_wait, 1);
    assert_eq!(shared.rings.usage().lent, 0);
    assert_eq!(shared.rings.usage().committed, shared.rings.usage().hot);
}

#[test]
fn nothing_is_opened_when_the_budget_is_used_up() {
    let tight = Config {
        rings: RingArena::new(1 << 20),
        ..Config::default()
    };
    let mut net = Net::with(config(), tight, 1);
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let words = pattern(1_040_000, 1);
    let mut left = &words[..];
    net.until(Duration::from_secs(10), |_| {
        if let Ok(count) = client.try_write(left) {
            left = &left[count..];
        }
        left.is_empty()
    });
    net.pass(Duration::from_secs(1));
    let remote = SocketAddr::new(address(B, false), 80);
    let mut refused = pin!(net.stack(A).connect(net.now, remote).unwrap());
    net.pass(Duration::from_millis(100));
    assert_eq!(
        poll(refused.as_mut()).unwrap().unwrap_err(),
        ConnectError::Refused
    );
    assert_eq!(net.stack(B).stats().drops.ring_budget, 1);
    let back = SocketAddr::new(address(A, false), 80);
    let error = net.stack(B).connect(net.now, back).unwrap_err();
    assert_eq!(error, ConnectError::TooManyFlows);
    assert_eq!(net.stack(B).stats().flows, 1);
    // What was read makes room.
    let mut buffer = vec![0; 2_000_000];
    let mut heard = 0;
    while heard < words.len() {
        match server.try_read(&mut buffer) {
            Ok(count) => heard += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        net.pass(Duration::from_millis(20));
    }
    net.pass(Duration::from_secs(6));
    assert_eq!(net.stack(B).stats().ring_committed, 0);
    let _again = net.pair(&listener, false);
}

#[test]
fn a_bound_holds_whatever_comes_and_every_byte_arrives_in_the_end() {
    const BUDGET: usize = 256 << 10;
    let tight = Config {
        rings: RingArena::bounded(BUDGET, 64),
        ..Config::default()
    };
    // Data towards the tight side, then away from it.
    for from_tight in [false, true] {
        let mut net = Net::with(config(), tight.clone(), 1);
        let listener = net.stack(B).listen(80).unwrap();
        let pairs: Vec<_> = (0..16).map(|_| net.pair(&listener, false)).collect();
        let words: Vec<_> = (0..16).map(|seed| pattern(150_000, seed)).collect();
        let (mut sent, mut heard) = (vec![0; 16], vec![Vec::new(); 16]);
        let mut most = 0;
        let mut turn = |net: &mut Net, reads: bool| {
            for (index, (client, server)) in pairs.iter().enumerate() {
                let (from, to) = match from_tight {
                    false => (client, server),
                    true => (server, client),
                };
                while let Ok(count) = from.try_write(&words[index][sent[index]..])
                    && count > 0
                {
                    sent[index] += count;
                }
                let mut buffer = vec![0; 4_096];
                while reads && let Ok(count) = to.try_read(&mut buffer) {
                    heard[index].extend_from_slice(&buffer[..count]);
                }
            }
            most = most.max(net.stack(B).stats().ring_committed);
            heard.iter().map(Vec::len).sum::<usize>() == 16 * 150_000
        };
        // Nobody reads at first, so that all that can be kept is.
        for _ in 0..50 {
            turn(&mut net, false);
            net.pass(Duration::from_millis(20));
        }
        net.until(Duration::from_secs(600), |net| turn(net, true));
        assert!(heard == words);
        let bound = BUDGET * 5 / 4 + 16 * 2 * 4_096;
        assert!(most <= bound as u64, "{most} > {bound}");
        assert!(most > BUDGET as u64 / 2, "it was put to the test: {most}");
        if !from_tight {
            assert!(net.stack(B).stats().drops.ring_budget > 0);
        }
    }
}

#[test]
fn one_peer_may_open_ten_thousand_connections_at_once() {
    let mut net = net();
    let listener = net.stack(B).listen(80).unwrap();
    let remote = SocketAddr::new(address(B, false), 80);
    let mut connecting: Vec<_> = (0..9_900)
        .map(|_| Box::pin(net.stack(A).connect(net.now, remote).unwrap()))
        .collect();
    net.pass(Duration::from_millis(10));
    let mut servers = Vec::new();
    while let Some(incoming) = poll(pin!(listener.accept())) {
        servers.push(incoming.accept());
    }
    net.pass(Duration::from_millis(20));
    let clients = connecting
        .iter_mut()
        .filter_map(|connecting| poll(connecting.as_mut()))
        .filter_map(Result::ok);
    assert_eq!((clients.count(), servers.len()), (9_900, 9_900));
    let drops = net.stack(B).stats().drops;
    assert_eq!(drops.total(), 0, "{drops:?}");
}
