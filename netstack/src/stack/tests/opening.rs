//! Connections that open, and those that do not.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use super::net::*;
use crate::{ConnectError, ListenError};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_handshake_takes_three_packets_over_both_families() {
    for v6 in [false, true] {
        let mut net = Net::new(small());
        let listener = net.stack(B).listen(80).unwrap();
        let start = net.now;
        let (client, server) = net.pair(&listener, v6);
        // SYN, SYN-ACK, and the ACK with which the other side may send too.
        assert_eq!(net.now - start, Duration::from_millis(15));
        assert_eq!(client.peer_addr(), SocketAddr::new(address(B, v6), 80));
        assert_eq!(client.local_addr(), server.peer_addr());
        assert_eq!(server.local_addr(), client.peer_addr());
    }
}

#[test]
fn the_handshake_waits_for_the_program_to_accept() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let mut connecting = pin!(
        net.stack(A)
            .connect(net.now, SocketAddr::new(address(B, false), 80))
            .unwrap()
    );
    net.pass(5 * SECOND);
    assert!(poll(connecting.as_mut()).is_none());
    assert_eq!(net.stack(B).stats().half_open, 1);
    let stream = poll(pin!(listener.accept())).unwrap().accept();
    net.until(SECOND, |_| {
        poll(connecting.as_mut()).is_some_and(|connected| connected.is_ok())
    });
    net.pass(Duration::from_millis(5));
    assert_eq!(net.stack(B).stats().half_open, 0);
    drop(stream);
}

#[test]
fn a_refused_connection_is_refused_at_once() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    for port in [80, 81] {
        let mut connecting = pin!(
            net.stack(A)
                .connect(net.now, SocketAddr::new(address(B, true), port))
                .unwrap()
        );
        let mut outcome = None;
        let took = net.until(SECOND, |_| {
            if let Some(incoming) = poll(pin!(listener.accept())) {
                incoming.refuse();
            }
            outcome = outcome.take().or_else(|| poll(connecting.as_mut()));
            outcome.is_some()
        });
        assert_eq!(outcome.unwrap().unwrap_err(), ConnectError::Refused);
        assert_eq!(took, Duration::from_millis(10));
    }
    assert_eq!(net.stack(A).stats().flows, 0);
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(net.stack(B).stats().half_open, 0);
}

#[test]
fn what_is_not_admitted_is_refused_and_counted() {
    let mut net = Net::new(small());
    let _listener = net.stack(B).listen(80).unwrap();
    net.nodes[B].admits = false;
    let mut connecting = pin!(
        net.stack(A)
            .connect(net.now, SocketAddr::new(address(B, false), 80))
            .unwrap()
    );
    let mut outcome = None;
    net.until(SECOND, |_| {
        outcome = poll(connecting.as_mut());
        outcome.is_some()
    });
    assert_eq!(outcome.unwrap().unwrap_err(), ConnectError::Refused);
    assert_eq!(net.stack(B).stats().drops.denied, 1);
    assert_eq!(net.stack(B).stats().flows_opened, 0);
}

#[test]
fn a_connect_into_silence_times_out_after_its_time() {
    let mut net = Net::new(small());
    net.links[A].cut = true;
    let mut connecting = pin!(
        net.stack(A)
            .connect(net.now, SocketAddr::new(address(B, false), 80))
            .unwrap()
    );
    let mut outcome = None;
    let took = net.until(60 * SECOND, |_| {
        outcome = poll(connecting.as_mut());
        outcome.is_some()
    });
    assert_eq!(outcome.unwrap().unwrap_err(), ConnectError::TimedOut);
    assert_eq!(took, 30 * SECOND);
    assert_eq!(net.stack(A).stats().flows, 0);
    assert_eq!(net.stack(A).poll_timeout(), None);
}

#[test]
fn a_connect_times_out_on_a_stalled_path_too() {
    let mut net = Net::new(small());
    net.stack(A).path_stalled(net.now, address(B, false));
    net.links[A].blocked = true;
    let mut connecting = pin!(
        net.stack(A)
            .connect(net.now, SocketAddr::new(address(B, false), 80))
            .unwrap()
    );
    let took = net.until(60 * SECOND, |_| poll(connecting.as_mut()).is_some());
    assert_eq!(took, 30 * SECOND);
}

#[test]
fn giving_up_a_connect_leaves_nothing_behind() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let connecting = net
        .stack(A)
        .connect(net.now, SocketAddr::new(address(B, false), 80))
        .unwrap();
    net.settle();
    drop(connecting);
    assert_eq!(net.stack(A).stats().flows, 0);
    net.pass(SECOND);
    // B does not know yet; its SYN-ACK is answered with a reset.
    let stream = poll(pin!(listener.accept())).unwrap().accept();
    net.pass(SECOND);
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(
        stream.try_read(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn a_burst_of_500_connections_is_accepted_whole() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let remote = SocketAddr::new(address(B, false), 80);
    let mut connecting: Vec<_> = (0..500)
        .map(|_| net.stack(A).connect(net.now, remote).unwrap())
        .collect();
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    let took = net.until(SECOND, |_| {
        while let Some(incoming) = poll(pin!(listener.accept())) {
            servers.push(incoming.accept());
        }
        connecting.retain_mut(|connecting| match poll(std::pin::Pin::new(connecting)) {
            Some(connected) => {
                clients.push(connected.unwrap());
                false
            }
            None => true,
        });
        clients.len() == 500 && servers.len() == 500
    });
    assert_eq!(took, Duration::from_millis(10));
    assert_eq!(net.stack(B).stats().flows, 500);
}

#[test]
fn beyond_the_backlog_connections_wait_for_their_next_try() {
    let mut config = small();
    // One remote has as many places as it leaves.
    config.accept_backlog = 6;
    let mut net = Net::new(config);
    let listener = net.stack(B).listen(80).unwrap();
    let remote = SocketAddr::new(address(B, false), 80);
    let mut connecting: Vec<_> = (0..5)
        .map(|_| net.stack(A).connect(net.now, remote).unwrap())
        .collect();
    net.pass(Duration::from_millis(100));
    assert_eq!(net.stack(B).stats().half_open, 3);
    assert_eq!(net.stack(B).stats().drops.backlog, 2);
    let mut servers = Vec::new();
    let took = net.until(5 * SECOND, |_| {
        while let Some(incoming) = poll(pin!(listener.accept())) {
            servers.push(incoming.accept());
        }
        connecting.retain_mut(|connecting| poll(std::pin::Pin::new(connecting)).is_none());
        connecting.is_empty()
    });
    assert!(took < 2 * SECOND, "{took:?}");
    assert_eq!(servers.len(), 5);
}

#[test]
fn half_open_connections_are_limited_and_end() {
    let mut config = small();
    // One remote has as many as it leaves.
    config.max_flows = 8;
    let mut net = Net::with(small(), config, 1);
    let listener = net.stack(B).listen(80).unwrap();
    let remote = SocketAddr::new(address(B, false), 80);
    let connecting: Vec<_> = (0..6)
        .map(|_| net.stack(A).connect(net.now, remote).unwrap())
        .collect();
    net.pass(Duration::from_millis(100));
    assert_eq!(net.stack(B).stats().half_open, 4);
    assert_eq!(net.stack(B).stats().drops.flow_limit, 2);
    drop(connecting);
    net.links[A].cut = true;
    net.pass(40 * SECOND);
    assert_eq!(net.stack(B).stats().half_open, 0);
    assert_eq!(net.stack(B).stats().flows, 0);
    // What timed out in the backlog is not handed out.
    assert!(poll(pin!(listener.accept())).is_none());
}

#[test]
fn a_reset_while_half_open_removes_the_flow() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let remote = SocketAddr::new(address(B, false), 80);
    let connecting = net.stack(A).connect(net.now, remote).unwrap();
    net.pass(Duration::from_millis(20));
    assert_eq!(net.stack(B).stats().flows, 1);
    let stream = poll(pin!(listener.accept())).unwrap().accept();
    drop(connecting);
    net.pass(Duration::from_millis(20));
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(
        stream.try_write(b"x").unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn dropping_a_listener_refuses_what_it_holds_and_what_comes() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    assert_eq!(net.stack(B).listen(80).unwrap_err(), ListenError::InUse);
    let remote = SocketAddr::new(address(B, false), 80);
    let mut first = pin!(net.stack(A).connect(net.now, remote).unwrap());
    net.pass(SECOND / 10);
    drop(listener);
    let mut second = pin!(net.stack(A).connect(net.now, remote).unwrap());
    net.pass(SECOND / 10);
    assert_eq!(
        poll(first.as_mut()).unwrap().unwrap_err(),
        ConnectError::Refused
    );
    assert_eq!(
        poll(second.as_mut()).unwrap().unwrap_err(),
        ConnectError::Refused
    );
    assert!(net.stack(B).listen(80).is_ok());
}

#[test]
fn what_cannot_be_connected_to_says_so_at_once() {
    let mut config = small();
    config.max_flows = 1;
    let net = Net::new(config);
    let remote = SocketAddr::new(address(B, false), 80);
    let none: SocketAddr = "0.0.0.0:80".parse().unwrap();
    assert_eq!(
        net.stack(A).connect(net.now, none).unwrap_err(),
        ConnectError::NoAddress
    );
    let kept = net.stack(A).connect(net.now, remote).unwrap();
    assert_eq!(
        net.stack(A).connect(net.now, remote).unwrap_err(),
        ConnectError::TooManyFlows
    );
    drop(kept);
    assert!(net.stack(A).connect(net.now, remote).is_ok());
}

#[test]
fn a_lost_handshake_packet_costs_one_retransmission() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    net.links[A].cut = true;
    let remote = SocketAddr::new(address(B, false), 80);
    let mut connecting = pin!(net.stack(A).connect(net.now, remote).unwrap());
    net.settle();
    net.links[A].cut = false;
    let mut server = None;
    let mut client = None;
    let took = net.until(5 * SECOND, |_| {
        if server.is_none() {
            server = poll(pin!(listener.accept())).map(|incoming| incoming.accept());
        }
        client = client.take().or_else(|| poll(connecting.as_mut()));
        client.is_some()
    });
    assert!(client.unwrap().is_ok());
    assert_eq!(took, SECOND + Duration::from_millis(10));
    assert_eq!(net.stack(A).stats().retransmits, 1);
}

/// Connections from two remotes to one port, at once: many of the first, then one of the second.
fn crowd(net: &mut Net, listener: &crate::TcpListener, many: usize) -> Vec<crate::Connecting> {
    let to = |v6| SocketAddr::new(address(B, v6), listener.port());
    let mut connecting: Vec<_> = (0..many)
        .map(|_| net.stack(A).connect(net.now, to(false)).unwrap())
        .collect();
    net.pass(Duration::from_millis(100));
    connecting.push(net.stack(A).connect(net.now, to(true)).unwrap());
    net.pass(Duration::from_millis(100));
    connecting
}

#[test]
fn one_remote_does_not_close_a_port_for_others() {
    let mut config = small();
    config.accept_backlog = 100;
    let mut net = Net::with(small(), config, 1);
    let listener = net.stack(B).listen(80).unwrap();
    let _connecting = crowd(&mut net, &listener, 300);
    assert_eq!(net.stack(B).stats().half_open, 51);
    // And it is not at the end of the line: remotes take turns.
    let remotes: Vec<_> = (0..2)
        .map(|_| poll(pin!(listener.accept())).unwrap().accept().peer_addr())
        .collect();
    assert!(remotes[0].is_ipv4() && remotes[1].is_ipv6(), "{remotes:?}");
}

#[test]
fn one_remote_does_not_use_up_the_flows_of_others() {
    let mut config = small();
    config.max_flows = 100;
    let mut net = Net::with(small(), config, 1);
    let listener = net.stack(B).listen(80).unwrap();
    let other_port = net.stack(B).listen(81).unwrap();
    let connecting = crowd(&mut net, &listener, 300);
    let mut accepted = Vec::new();
    while let Some(incoming) = poll(pin!(listener.accept())) {
        accepted.push(incoming.accept());
    }
    assert_eq!(accepted.len(), 51);
    net.pass(SECOND / 10);
    net.pair(&other_port, true);
    // What ends makes room again.
    drop((accepted, connecting));
    net.pass(5 * SECOND);
    assert_eq!(net.stack(B).stats().flows, 0);
    let _connecting = crowd(&mut net, &listener, 300);
    assert_eq!(net.stack(B).stats().half_open, 51);
}
