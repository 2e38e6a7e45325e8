//! Datagrams and pings of which the owner takes the right away, from either end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use super::net::*;
use crate::{FlowInfo, PingError, Protocol};

const MOMENT: Duration = Duration::from_millis(50);

/// Takes away everything that a remote began.
fn no_inbound(flow: FlowInfo) -> bool {
    !flow.inbound
}

#[test]
fn who_loses_the_right_to_ask_is_not_heard_by_the_port_that_answered() {
    let mut net = Net::new(small());
    let server = net.stack(B).bind_udp(53).unwrap();
    let client = net.stack(A).bind_udp(5_000).unwrap();
    let (to, from) = (
        SocketAddr::new(address(B, false), 53),
        SocketAddr::new(address(A, false), 5_000),
    );
    client.send_to(b"question", to).unwrap();
    net.pass(MOMENT);
    let mut data = [0; 16];
    assert_eq!(server.try_recv_from(&mut data).unwrap(), (8, from));
    server.send_to(b"answer", from).unwrap();
    net.pass(MOMENT);
    assert_eq!(client.try_recv_from(&mut data).unwrap(), (6, to));

    // One datagram has arrived and was not read, and another one is under way.
    client.send_to(b"waits", to).unwrap();
    net.pass(MOMENT);
    client.send_to(b"flies", to).unwrap();
    net.stack(B).retain_flows(net.now, &no_inbound);
    net.nodes[B].admits = false;
    net.pass(MOMENT);
    let nothing = server.try_recv_from(&mut data).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    let forbidden = server.send_to(b"answer", from).unwrap_err();
    assert_eq!(forbidden.kind(), ErrorKind::PermissionDenied);

    // The right comes back, and the remote begins anew.
    net.nodes[B].admits = true;
    client.send_to(b"again", to).unwrap();
    net.pass(MOMENT);
    assert_eq!(server.try_recv_from(&mut data).unwrap(), (5, from));
    server.send_to(b"answer", from).unwrap();
}

#[test]
fn an_answer_is_no_right_to_begin() {
    // B may ask A, A may not ask B: what B began goes on, and does not let A in anew.
    let mut net = Net::new(small());
    let [asker, other] = [5_000, 5_001].map(|port| net.stack(B).bind_udp(port).unwrap());
    let service = net.stack(A).bind_udp(53).unwrap();
    net.nodes[B].admits = false;
    net.silence(A);
    let to = SocketAddr::new(address(A, false), 53);
    asker.send_to(b"question", to).unwrap();
    net.pass(MOMENT);
    let mut data = [0; 16];
    let (_, from) = service.try_recv_from(&mut data).unwrap();
    service.send_to(b"answer", from).unwrap();
    let elsewhere = SocketAddr::new(address(B, false), 5_001);
    let forbidden = service.send_to(b"question", elsewhere).unwrap_err();
    assert_eq!(forbidden.kind(), ErrorKind::PermissionDenied);
    net.pass(MOMENT);
    assert_eq!(asker.try_recv_from(&mut data).unwrap(), (6, to));
    assert!(other.try_recv_from(&mut data).is_err());
}

#[test]
fn who_may_not_ask_any_more_cannot_send_and_hears_no_late_answer() {
    let mut net = Net::new(small());
    let server = net.stack(B).bind_udp(53).unwrap();
    let client = net.stack(A).bind_udp(0).unwrap();
    net.nodes[A].admits = false;
    let to = SocketAddr::new(address(B, false), 53);
    client.send_to(b"question", to).unwrap();
    net.pass(MOMENT);
    let mut data = [0; 16];
    let (_, from) = server.try_recv_from(&mut data).unwrap();
    let only_tcp = |flow: FlowInfo| flow.protocol == Protocol::Tcp;
    net.stack(A).retain_flows(net.now, &only_tcp);
    server.send_to(b"late", from).unwrap();
    net.pass(MOMENT);
    assert!(client.try_recv_from(&mut data).is_err());
    let forbidden = client.send_to(b"question", to).unwrap_err();
    assert_eq!(forbidden.kind(), ErrorKind::PermissionDenied);
    // A later decision gives the right back.
    net.stack(A).retain_flows(net.now, &|_| true);
    client.send_to(b"question", to).unwrap();
}

#[test]
fn a_ping_that_waits_ends_with_its_right() {
    let net = Net::new(small());
    let mut ping = pin!(net.stack(A).ping(net.now, address(B, false), b"x").unwrap());
    net.stack(A).retain_flows(net.now, &|flow| {
        assert_eq!((flow.protocol, flow.inbound), (Protocol::Icmp, false));
        false
    });
    assert_eq!(poll(ping.as_mut()), Some(Err(PingError::Forbidden)));
}
