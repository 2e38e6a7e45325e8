//! UDP, ICMP, and what is answered without a flow.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use super::net::*;
use crate::{BindError, ConnectError, PingError};

const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn datagrams_go_both_ways_over_both_families() {
    for v6 in [false, true] {
        let mut net = Net::new(small());
        let server = net.stack(B).bind_udp(53).unwrap();
        let client = net.stack(A).bind_udp(0).unwrap();
        let remote = SocketAddr::new(address(B, v6), 53);
        let largest = client.max_payload(remote);
        let sent = pattern(largest, 1);
        client.send_to(&sent, remote).unwrap();
        assert_eq!(
            client
                .send_to(&pattern(largest + 1, 1), remote)
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
        net.pass(MOMENT);
        let mut data = vec![0; 2_000];
        let (len, from) = server.try_recv_from(&mut data).unwrap();
        assert!(data[..len] == sent);
        assert_eq!(from, SocketAddr::new(address(A, v6), client.port()));
        server.send_to(b"", from).unwrap();
        net.pass(MOMENT);
        assert_eq!(client.try_recv_from(&mut data).unwrap(), (0, remote));
        assert_eq!(
            client.try_recv_from(&mut data).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }
}

#[test]
fn a_datagram_nobody_asked_for_needs_admission_and_an_answer_does_not() {
    let mut net = Net::new(small());
    let server = net.stack(B).bind_udp(53).unwrap();
    let client = net.stack(A).bind_udp(1_000).unwrap();
    net.nodes[B].admits = false;
    net.nodes[A].admits = false;
    let remote = SocketAddr::new(address(B, false), 53);
    client.send_to(b"denied", remote).unwrap();
    net.pass(MOMENT);
    assert_eq!(net.stack(B).stats().drops.denied, 1);
    net.nodes[B].admits = true;
    client.send_to(b"question", remote).unwrap();
    net.pass(MOMENT);
    let mut data = [0; 32];
    let (_, from) = server.try_recv_from(&mut data).unwrap();
    server.send_to(b"answer", from).unwrap();
    net.pass(MOMENT);
    assert_eq!(client.try_recv_from(&mut data).unwrap().0, 6);
}

#[test]
fn a_closed_port_is_reported_to_the_socket() {
    let mut net = Net::new(small());
    let client = net.stack(A).bind_udp(0).unwrap();
    for v6 in [false, true] {
        client
            .send_to(b"anybody?", SocketAddr::new(address(B, v6), 9))
            .unwrap();
        net.pass(MOMENT);
        let refused = client.try_recv_from(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            client.try_recv_from(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }
    assert_eq!(net.stack(B).stats().drops.no_socket, 2);
}

#[test]
fn answers_have_a_rate() {
    let mut net = Net::new(small());
    let client = net.stack(A).bind_udp(0).unwrap();
    let remote = SocketAddr::new(address(B, false), 9);
    for _ in 0..20 {
        for _ in 0..100 {
            client.send_to(b"x", remote).unwrap();
        }
        net.settle();
        net.pass(Duration::from_millis(1));
    }
    net.pass(MOMENT);
    let stats = net.stack(B).stats();
    assert_eq!(stats.drops.no_socket, 2_000);
    assert!(
        (500..520).contains(&stats.packets_out),
        "{}",
        stats.packets_out
    );
}

#[test]
fn full_queues_lose_the_oldest_datagrams() {
    let mut net = Net::new(small());
    let server = net.stack(B).bind_udp(53).unwrap();
    let client = net.stack(A).bind_udp(0).unwrap();
    let remote = SocketAddr::new(address(B, false), 53);
    net.links[A].blocked = true;
    for number in 0..600_u32 {
        client.send_to(&number.to_be_bytes(), remote).unwrap();
    }
    assert_eq!(net.stack(A).stats().drops.datagram_queue, 88);
    net.links[A].blocked = false;
    net.pass(MOMENT);
    let mut data = [0; 4];
    server.try_recv_from(&mut data).unwrap();
    assert_eq!(u32::from_be_bytes(data), 88);
}

#[test]
fn ports_are_bound_once() {
    let net = Net::new(small());
    let socket = net.stack(A).bind_udp(53).unwrap();
    assert_eq!(net.stack(A).bind_udp(53).unwrap_err(), BindError::InUse);
    drop(socket);
    assert_eq!(net.stack(A).bind_udp(53).unwrap().port(), 53);
}

#[test]
fn a_ping_comes_back_over_both_families() {
    for v6 in [false, true] {
        let mut net = Net::new(small());
        let mut ping = pin!(
            net.stack(A)
                .ping(net.now, address(B, v6), b"payload")
                .unwrap()
        );
        let sent = net.now;
        assert!(poll(ping.as_mut()).is_none());
        net.pass(MOMENT);
        let pong = poll(ping.as_mut()).unwrap().unwrap();
        assert_eq!(pong.at - sent, Duration::from_millis(10));
        assert_eq!(pong.payload, b"payload");
    }
}

#[test]
fn pings_that_are_dropped_make_room() {
    let net = Net::new(small());
    let remote = address(B, false);
    let mut pings: Vec<_> = (0..1_024)
        .map(|_| net.stack(A).ping(net.now, remote, b"").unwrap())
        .collect();
    assert_eq!(
        net.stack(A).ping(net.now, remote, b"").unwrap_err(),
        PingError::TooMany
    );
    pings.pop();
    assert!(net.stack(A).ping(net.now, remote, b"").is_ok());
    assert_eq!(
        net.stack(A)
            .ping(net.now, remote, &pattern(1_473, 1))
            .unwrap_err(),
        PingError::TooLarge
    );
}

#[test]
fn an_echo_request_that_is_not_admitted_is_not_answered() {
    let mut net = Net::new(small());
    net.nodes[B].admits = false;
    let mut ping = pin!(net.stack(A).ping(net.now, address(B, false), b"").unwrap());
    net.pass(MOMENT);
    assert!(poll(ping.as_mut()).is_none());
    assert_eq!(net.stack(B).stats().drops.denied, 1);
}

#[test]
fn an_unreachable_ends_a_connect_but_only_from_the_remote_itself() {
    let net = Net::new(small());
    let remote = SocketAddr::new(address(B, false), 80);
    let mut connecting = pin!(net.stack(A).connect(net.now, remote).unwrap());
    let mut syn = Vec::new();
    net.stack(A)
        .poll_packet(net.now, remote.ip(), &mut syn)
        .unwrap();
    let liar = crate::packet::port_unreachable([100, 64, 0, 9].into(), address(A, false), &syn);
    net.stack(A).handle_packet(net.now, &liar, &|_, _, _| true);
    assert!(poll(connecting.as_mut()).is_none());
    let honest = crate::packet::port_unreachable(remote.ip(), address(A, false), &syn);
    net.stack(A)
        .handle_packet(net.now, &honest, &|_, _, _| true);
    assert_eq!(
        poll(connecting.as_mut()).unwrap().unwrap_err(),
        ConnectError::Refused
    );
}
