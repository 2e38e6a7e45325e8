//! Many flows: what they cost each other, and what is left after them.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use super::net::*;
use crate::{Config, TcpStream};

/// Real time for `rounds` small writes, their packets and acknowledgements on one flow.
fn hot(net: &mut Net, pair: &(TcpStream, TcpStream), rounds: usize) -> Duration {
    let mut data = [0; 64];
    let start = tokio::time::Instant::now();
    for _ in 0..rounds {
        pair.0.try_write(b"one small write").unwrap();
        net.pass(Duration::from_millis(12));
        pair.1.try_read(&mut data).unwrap();
    }
    start.elapsed()
}

fn open(
    net: &mut Net,
    listener: &crate::TcpListener,
    count: usize,
    pairs: &mut Vec<(TcpStream, TcpStream)>,
) {
    let remote = SocketAddr::new(address(B, false), listener.port());
    for _ in 0..count.div_ceil(500) {
        let mut connecting: Vec<_> = (0..count.min(500))
            .map(|_| net.stack(A).connect(net.now, remote).unwrap())
            .collect();
        let mut servers = Vec::new();
        net.pass(Duration::from_millis(6));
        while let Some(incoming) = poll(pin!(listener.accept())) {
            servers.push(incoming.accept());
        }
        net.pass(Duration::from_millis(20));
        let clients = connecting
            .iter_mut()
            .map(|connecting| poll(Pin::new(connecting)).unwrap().unwrap());
        pairs.extend(clients.zip(servers));
    }
}

#[test]
fn ten_thousand_idle_flows_do_not_slow_down_a_busy_one() {
    // One remote has half of all flows.
    let mut net = Net::new(Config {
        max_flows: 21_000,
        ..Config::default()
    });
    let listener = net.stack(B).listen(80).unwrap();
    let mut pairs = Vec::new();
    open(&mut net, &listener, 10, &mut pairs);
    hot(&mut net, &pairs[0], 500);
    let few = (0..5).map(|_| hot(&mut net, &pairs[0], 500)).min().unwrap();
    open(&mut net, &listener, 10_000, &mut pairs);
    net.pass(Duration::from_secs(5));
    for side in [A, B] {
        assert_eq!(net.stack(side).stats().flows, 10_010);
        assert_eq!(net.stack(side).stats().timers, 0);
        assert_eq!(net.stack(side).poll_timeout(), None);
    }
    let many = (0..5).map(|_| hot(&mut net, &pairs[0], 500)).min().unwrap();
    assert!(
        many < few * 4,
        "{few:?} with 10 flows, {many:?} with 10,010"
    );
}

#[test]
fn twenty_thousand_short_connections_leave_nothing() {
    let mut net = Net::new(Config {
        time_wait: Duration::from_millis(200),
        ..small()
    });
    let listener = net.stack(B).listen(80).unwrap();
    for round in 0..200 {
        let mut pairs = Vec::new();
        open(&mut net, &listener, 100, &mut pairs);
        for (number, (client, server)) in pairs.into_iter().enumerate() {
            client.try_write(b"request").unwrap();
            match (round + number) % 4 {
                0 => drop((client, server)),
                1 => drop((server, client)),
                2 => client.abort(),
                _ => server.try_shutdown(),
            }
        }
        net.pass(Duration::from_millis(50));
    }
    net.pass(Duration::from_secs(400));
    for side in [A, B] {
        let stats = net.stack(side).stats();
        assert_eq!(stats.flows_opened, 20_000);
        assert_eq!(
            (stats.flows, stats.half_open, stats.time_wait, stats.timers),
            (0, 0, 0, 0)
        );
        assert_eq!(stats.flows_panicked, 0);
        assert_eq!(net.stack(side).poll_timeout(), None);
    }
}
