//! The order of flows on a path with less room than its flows want; packets are pulled one at a
//! time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::net::*;
use crate::{Config, TcpStream, packet};

/// `count` connections from A to B, and nothing on the wire.
fn pairs(net: &mut Net, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let listener = net.stack(B).listen(80).unwrap();
    let pairs = (0..count).map(|_| net.pair(&listener, false)).collect();
    net.pass(Duration::from_millis(50));
    pairs
}

/// Fills the transmit ring as far as it goes.
fn fill(stream: &TcpStream) {
    let data = [0; 65_536];
    while stream.try_write(&data).is_ok() {}
}

fn drain(stream: &TcpStream) {
    let mut data = [0; 65_536];
    while stream.try_read(&mut data).is_ok_and(|count| count > 0) {}
}

/// Pulls one packet out of A and hands it to B. Says whose it is by A's port, and how long it is.
fn pull_one(net: &Net) -> Option<(u16, usize)> {
    let mut out = Vec::new();
    let emitted = net
        .stack(A)
        .poll_packet(net.now, address(B, false), &mut out)?;
    let port = packet::emitted_tcp(&out).unwrap().source;
    net.stack(B).handle_packet(net.now, &out, &|_, _, _| true);
    Some((port, emitted.len))
}

/// Lets B's answers reach A at once, so that windows stay open.
fn answer(net: &Net) {
    let mut out = Vec::new();
    let remote = address(A, false);
    while net
        .stack(B)
        .poll_packet(net.now, remote, &mut out)
        .is_some()
    {
        net.stack(A).handle_packet(net.now, &out, &|_, _, _| true);
        out.clear();
    }
}

#[test]
fn a_sparse_flow_waits_for_one_packet_of_each_bulk_flow_at_most() {
    let mut net = Net::new(Config::default());
    let pairs = pairs(&mut net, 5);
    let (sparse, bulk) = pairs.split_last().unwrap();
    let port = sparse.0.local_addr().port();
    net.links[A].blocked = true;
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..300 {
        // Some rounds come right after the one before, when the flow has just had its turn.
        for _ in 0..random.u64(..12) {
            for (client, server) in bulk {
                fill(client);
                drain(server);
            }
            assert!(pull_one(&net).is_some_and(|(other, _)| other != port));
            answer(&net);
        }
        bulk.iter().for_each(|(client, _)| fill(client));
        sparse.0.try_write(b"key").unwrap();
        let mut before = BTreeMap::new();
        loop {
            let (other, _) = pull_one(&net).unwrap();
            if other == port {
                break;
            }
            *before.entry(other).or_insert(0) += 1;
        }
        assert!(
            before.values().all(|packets| *packets == 1),
            "round {round}: {before:?}"
        );
        drain(&sparse.1);
        answer(&net);
    }
}

#[test]
fn a_flow_that_starts_goes_before_those_that_are_busy() {
    let mut net = Net::new(Config::default());
    let pairs = pairs(&mut net, 5);
    let (late, bulk) = pairs.split_last().unwrap();
    bulk.iter().for_each(|(client, _)| fill(client));
    for _ in 0..8 {
        assert!(pull_one(&net).is_some());
    }
    late.0.try_write(b"hello").unwrap();
    assert_eq!(pull_one(&net).unwrap().0, late.0.local_addr().port());
}

#[test]
fn acknowledgements_and_opening_words_go_before_data() {
    let mut net = Net::new(Config::default());
    let pairs = pairs(&mut net, 6);
    let (downloads, bulk) = pairs.split_at(2);
    bulk.iter().for_each(|(client, _)| fill(client));
    for _ in 0..8 {
        assert!(pull_one(&net).is_some());
    }
    for (client, server) in downloads {
        for _ in 0..3 {
            // More than one segment, which is acknowledged at once.
            server.try_write(&[0; 20_000]).unwrap();
            answer(&net);
            let (port, len) = pull_one(&net).unwrap();
            assert_eq!(port, client.local_addr().port());
            assert!(len < 100);
            drain(client);
        }
    }
    let remote = std::net::SocketAddr::new(address(B, false), 81);
    let _connecting = net.stack(A).connect(net.now, remote).unwrap();
    let (_, len) = pull_one(&net).unwrap();
    assert!(len < 100);
}

#[test]
fn a_hundred_flows_get_equal_shares() {
    let mut net = Net::new(Config::default());
    let pairs = pairs(&mut net, 100);
    let mut bytes = BTreeMap::new();
    for turn in 0..6_000 {
        // A third of them offers small pieces, so its packets are small while those of the others
        // are full.
        for (number, (client, server)) in pairs.iter().enumerate() {
            if turn % 50 == number % 50 {
                drain(server);
                if number % 3 == 0 {
                    let piece = [0; 3_000];
                    for _ in 0..60 {
                        let _ = client.try_write(&piece);
                    }
                } else {
                    fill(client);
                }
            }
        }
        let (port, len) = pull_one(&net).unwrap();
        *bytes.entry(port).or_insert(0) += len;
        if turn % 10 == 0 {
            answer(&net);
        }
    }
    assert_eq!(bytes.len(), 100);
    let sum: f64 = bytes.values().map(|bytes| *bytes as f64).sum();
    let squares: f64 = bytes.values().map(|bytes| (*bytes as f64).powi(2)).sum();
    let jain = sum * sum / (100.0 * squares);
    assert!(jain >= 0.97, "{jain}: {bytes:?}");
}
