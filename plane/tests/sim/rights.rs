//! Rules that change under running connections: each end that hears of it ends what lost its right,
//! and the other end learns of that, too.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use overlan_netstack::TcpStream;
use overlan_protocol::policy::Filter;

use crate::deployment::{HOSTS, PORT};
use crate::world::World;

/// The time within which a connection without a right ends.
const WITHIN: Duration = Duration::from_secs(2);

fn assert_reset(stream: &TcpStream, case: &str) {
    let mut buffer = [0; 65_536];
    let error = loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => panic!("{case}: an orderly end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{case}");
}

/// Rules by which a client opens nothing, and those by which nobody opens anything on it.
fn without(inbound: bool) -> Filter {
    let mut rules = Filter::starter();
    match inbound {
        true => rules.inbound.clear(),
        false => rules.outbound.clear(),
    }
    rules
}

#[test]
fn a_connection_that_loses_its_right_ends_at_both_ends() {
    // Whichever end hears of it, idle or full of bytes.
    for (told, busy) in [
        (&[0][..], false),
        (&[1], false),
        (&[0, 1], false),
        (&[0], true),
        (&[1], true),
        (&[0, 1], true),
    ] {
        let case = format!("told {told:?}, busy {busy}");
        let mut world = World::quiet();
        let (near, far) = world.open();
        if busy {
            while near.try_write(&[1; 65_536]).is_ok() {}
            while far.try_write(&[2; 65_536]).is_ok() {}
            world.pass(Duration::from_millis(30));
        }
        for index in told {
            // Client 0 opened it.
            world.tell_rules(*index, &without(*index == 1));
        }
        world.pass(WITHIN);
        assert_reset(&near, &case);
        assert_reset(&far, &case);
    }
}

#[test]
fn the_other_way_goes_on() {
    let mut world = World::quiet();
    let (_near, _far) = world.open();
    let connecting = world.connect(1);
    world.pass(WITHIN);
    let (kept_near, kept_far) = world.opened(1, connecting);
    world.tell_rules(0, &without(false));
    world.tell_rules(1, &without(true));
    world.pass(WITHIN);
    for (from, to) in [(&kept_near, &kept_far), (&kept_far, &kept_near)] {
        assert_eq!(from.try_write(b"overlay").unwrap(), 7);
        world.pass(WITHIN);
        assert_eq!(to.try_read(&mut [0; 16]).unwrap(), 7);
    }
}

#[test]
fn a_peer_that_is_hidden_takes_its_connections_along() {
    let mut world = World::quiet();
    let (near, far) = world.open();
    near.try_write(b"overlay").unwrap();
    for index in 0..2 {
        world.hide_peer(index);
    }
    world.pass(WITHIN);
    assert_reset(&near, "near");
    assert_reset(&far, "far");
}

#[test]
fn datagrams_that_lose_their_right_pass_at_neither_end() {
    for told in [&[0][..], &[1], &[0, 1]] {
        let mut world = World::quiet();
        let client = world.stack(0).bind_udp(5_000).unwrap();
        let server = world.stack(1).bind_udp(PORT).unwrap();
        let to = SocketAddr::new(HOSTS[1].v4().into(), PORT);
        let from = SocketAddr::new(HOSTS[0].v4().into(), 5_000);
        let mut data = [0; 16];
        client.send_to(b"question", to).unwrap();
        world.pass(WITHIN);
        assert_eq!(server.try_recv_from(&mut data).unwrap(), (8, from));
        server.send_to(b"answer", from).unwrap();
        world.pass(WITHIN);
        assert_eq!(client.try_recv_from(&mut data).unwrap(), (6, to));
        for index in told {
            let mut rules = without(*index == 1);
            if *index == 0 {
                // It has the right of others to send to it, but not that of an answer.
                rules.inbound.clear();
            }
            world.tell_rules(*index, &rules);
        }
        let asked = client
            .send_to(b"question", to)
            .map_err(|error| error.kind());
        let answered = server
            .send_to(b"answer", from)
            .map_err(|error| error.kind());
        assert_eq!(asked.is_err(), told.contains(&0), "{told:?}");
        assert_eq!(answered.is_err(), told.contains(&1), "{told:?}");
        world.pass(WITHIN);
        let nothing = |received: std::io::Result<_>| {
            received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        assert!(nothing(server.try_recv_from(&mut data)), "{told:?}");
        assert!(nothing(client.try_recv_from(&mut data)), "{told:?}");
    }
}
