//! Connections that end, in order or not.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use super::net::*;
use crate::{Config, ConnectError, FlowInfo, Protocol};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

fn read_all(stream: &crate::TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut data = [0; 4_096];
    loop {
        match stream.try_read(&mut data)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&data[..count]),
        }
    }
}

#[test]
fn dropping_a_stream_after_its_end_delivers_what_is_queued() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let sent = pattern(60_000, 1);
    assert_eq!(client.try_write(&sent).unwrap(), sent.len());
    client.try_shutdown();
    drop(client);
    net.pass(MOMENT);
    assert!(read_all(&server).unwrap() == sent);
    server.try_shutdown();
    drop(server);
    net.pass(5 * SECOND);
    for side in [A, B] {
        let stats = net.stack(side).stats();
        assert_eq!((stats.flows, stats.time_wait, stats.timers), (0, 0, 0));
    }
}

#[test]
fn dropping_a_stream_with_unread_bytes_resets() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"never read").unwrap();
    net.pass(MOMENT);
    drop(server);
    net.pass(MOMENT);
    assert_eq!(
        client.try_read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(net.stack(A).stats().flows, 0);
}

#[test]
fn bytes_for_a_dropped_stream_reset_it() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    server.try_shutdown();
    drop(server);
    net.pass(MOMENT);
    assert_eq!(client.try_read(&mut [0; 8]).unwrap(), 0);
    client.try_write(b"late").unwrap();
    net.pass(MOMENT);
    assert_eq!(
        client.try_write(b"later").unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn an_abort_reaches_the_other_side_after_what_it_has_received() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"early").unwrap();
    net.pass(MOMENT);
    client.abort();
    assert_eq!(
        client.try_read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
    net.pass(MOMENT);
    let mut data = [0; 8];
    assert_eq!(server.try_read(&mut data).unwrap(), 5);
    assert_eq!(
        server.try_read(&mut data).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(net.stack(A).stats().flows, 0);
    assert_eq!(net.stack(B).stats().flows, 0);
}

#[test]
fn what_arrived_stays_readable_after_both_sides_closed() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"last words").unwrap();
    client.try_shutdown();
    net.pass(MOMENT);
    server.try_shutdown();
    net.pass(5 * SECOND);
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(read_all(&server).unwrap(), b"last words");
}

#[test]
fn a_dropped_stream_does_not_wait_for_a_silent_remote_for_ever() {
    // The remote goes silent before the FIN, and after acknowledging it.
    for acknowledges in [false, true] {
        let mut net = Net::new(Config {
            linger_timeout: 60 * SECOND,
            ..small()
        });
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        net.links[A].cut = !acknowledges;
        client.try_shutdown();
        drop(client);
        net.pass(Duration::from_millis(11));
        net.links[B].cut = true;
        net.links[A].cut = true;
        assert_eq!(net.stack(A).stats().flows, 1);
        net.pass(58 * SECOND);
        assert_eq!(net.stack(A).stats().flows, 1);
        net.pass(3 * SECOND);
        assert_eq!(net.stack(A).stats().flows, 0);
        assert_eq!(net.stack(A).poll_timeout(), None);
        drop(server);
    }
}

#[test]
fn a_held_stream_gives_up_on_a_remote_that_never_takes_the_end() {
    let mut net = Net::new(Config {
        last_ack_timeout: 30 * SECOND,
        ..small()
    });
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_shutdown();
    net.pass(MOMENT);
    net.links[B].cut = true;
    server.try_write(b"bytes nobody acknowledges").unwrap();
    server.try_shutdown();
    net.pass(29 * SECOND);
    assert_eq!(net.stack(B).stats().flows, 1);
    net.pass(2 * SECOND);
    assert_eq!(net.stack(B).stats().flows, 0);
}

#[test]
fn lingering_lasts_while_bytes_are_taken() {
    let mut net = Net::new(Config {
        linger_timeout: 60 * SECOND,
        ..small()
    });
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let mut offset = 0;
    let sent = pattern(131_070, 1);
    while offset < sent.len() {
        offset += client.try_write(&sent[offset..]).unwrap();
        net.pass(MOMENT);
    }
    client.try_shutdown();
    drop(client);
    // A slow reader: some bytes every 40 s, three minutes in all.
    let mut received = Vec::new();
    let mut data = [0; 33_000];
    for _ in 0..4 {
        net.pass(40 * SECOND);
        if let Ok(count) = server.try_read(&mut data) {
            received.extend_from_slice(&data[..count]);
        }
    }
    net.pass(5 * SECOND);
    received.extend(read_all(&server).unwrap());
    assert!(received == sent);
}

#[test]
fn a_window_that_opens_while_closing_is_used_at_once() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    server.try_shutdown();
    net.pass(MOMENT);
    let sent = pattern(131_000, 1);
    let mut offset = 0;
    while offset < sent.len() {
        offset += client.try_write(&sent[offset..]).unwrap();
        net.pass(MOMENT);
    }
    client.try_shutdown();
    net.pass(20 * SECOND);
    let mut received = Vec::new();
    let mut data = [0; 8_192];
    let took = net.until(60 * SECOND, |net| {
        loop {
            match server.try_read(&mut data) {
                Ok(0) => return true,
                Ok(count) => received.extend_from_slice(&data[..count]),
                Err(_) if net.settle() => {}
                Err(_) => return false,
            }
        }
    });
    assert!(received == sent);
    assert!(took <= MOMENT, "{took:?}");
}

#[test]
fn a_repeated_fin_is_answered_from_memory() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_shutdown();
    net.pass(MOMENT);
    server.try_shutdown();
    net.settle();
    net.pass(Duration::from_millis(5));
    // A has said its last word and it is lost.
    assert_eq!(net.stack(A).stats().time_wait, 1);
    net.lose_in_flight();
    assert_eq!(net.stack(B).stats().flows, 1);
    net.pass(Duration::from_millis(1_200));
    assert_eq!(net.stack(B).stats().flows, 0);
    assert_eq!(net.stack(B).stats().retransmits, 1);
    assert_eq!(read_all(&server).unwrap(), b"");
    net.pass(2 * SECOND);
    assert_eq!(net.stack(A).stats().time_wait, 0);
    assert_eq!(net.stack(A).poll_timeout(), None);
}

#[test]
fn the_same_ports_may_be_used_again_at_once() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    server.try_shutdown();
    net.pass(MOMENT);
    client.try_shutdown();
    net.pass(MOMENT);
    assert_eq!(net.stack(B).stats().time_wait, 1);
    // A SYN from the very same port, as a remote with few ports sends it.
    let syn = syn(client.local_addr(), client.peer_addr());
    net.stack(B).handle_packet(net.now, &syn, &|_, _, _| true);
    assert!(poll(pin!(listener.accept())).is_some());
}

fn syn(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
    let segment = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(77),
        ack_number: None,
        window_len: 1_000,
        window_scale: None,
        max_seg_size: Some(1_460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let header = IpRepr::new(
        from.ip().into(),
        to.ip().into(),
        IpProtocol::Tcp,
        segment.buffer_len(),
        64,
    );
    let mut packet = vec![0; header.buffer_len()];
    let caps = ChecksumCapabilities::ignored();
    header.emit(&mut packet[..], &caps);
    let rest = TcpPacket::new_unchecked(&mut packet[header.header_len()..]);
    let mut rest = rest;
    segment.emit(&mut rest, &from.ip().into(), &to.ip().into(), &caps);
    packet
}

#[test]
fn a_remote_that_is_gone_ends_everything_with_it() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let (other, _other_server) = net.pair(&listener, true);
    server.try_write(b"arrived").unwrap();
    net.pass(MOMENT);
    let remote = SocketAddr::new(address(B, false), 81);
    net.links[A].blocked = true;
    let mut connecting = pin!(net.stack(A).connect(net.now, remote).unwrap());
    let mut ping = pin!(net.stack(A).ping(net.now, remote.ip(), b"x").unwrap());
    client.try_write(b"never sent").unwrap();
    let before = net.stack(A).stats().packets_out;

    net.stack(A).remote_gone(net.now, address(B, false));

    assert_eq!(
        poll(connecting.as_mut()).unwrap().unwrap_err(),
        ConnectError::Unreachable
    );
    assert!(poll(ping.as_mut()).unwrap().is_err());
    let mut data = [0; 16];
    assert_eq!(client.try_read(&mut data).unwrap(), 7);
    assert_eq!(
        client.try_read(&mut data).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        client.try_write(b"x").unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        net.stack(A)
            .poll_packet(net.now, address(B, false), &mut Vec::new()),
        None
    );
    assert_eq!(net.stack(A).stats().packets_out, before);
    // The other remote is another matter, and this one may come back.
    assert_eq!(net.stack(A).stats().flows, 1);
    other.try_write(b"x").unwrap();
    net.links[A].blocked = false;
    drop(server);
    net.pass(SECOND);
    net.pair(&listener, false);
}

#[test]
fn a_new_policy_resets_flows_it_forbids() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let secret = net.stack(B).listen(81).unwrap();
    let kept = net.pair(&listener, false);
    let forbidden = net.pair(&secret, false);
    let expected = FlowInfo {
        protocol: Protocol::Tcp,
        inbound: true,
        remote: forbidden.0.local_addr(),
        local: forbidden.0.peer_addr(),
    };
    net.stack(B).retain_flows(net.now, &|flow| flow != expected);
    net.pass(MOMENT);
    assert_eq!(
        forbidden.0.try_write(b"x").unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        forbidden.1.try_write(b"x").unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(kept.0.try_write(b"x").unwrap(), 1);
    // The same from the side that opened it.
    let expected = FlowInfo {
        protocol: Protocol::Tcp,
        inbound: false,
        remote: kept.0.peer_addr(),
        local: kept.0.local_addr(),
    };
    net.stack(A).retain_flows(net.now, &|flow| flow != expected);
    net.pass(MOMENT);
    for end in [&kept.0, &kept.1] {
        let error = end.try_write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
