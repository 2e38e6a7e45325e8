//! The engine by hand: two of them, two relays of a few lines, virtual time.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use overlan_netstack::{ConnectError, TcpListener};
use overlan_protocol::exchange::Exchange as _;
use overlan_protocol::frame::{self, Address, BODY_MAX, Frame, GoneReason};
use overlan_protocol::hello::{Reject, RejectCode};
use overlan_protocol::key::{IdentitySecret, TunnelKey, encode_signature};
use overlan_protocol::policy::{Filter, Peers, Protocol, Rule, Service};
use overlan_protocol::proof::tunnel_key_message;

use super::*;

mod absence;
mod lab;

use lab::{
    BACKUP, HOME, HOSTS, Lab, NETWORK, PORT, VNI, address_of, identity, netmap, pass_bytes, tunnel,
};

const SECOND: Duration = Duration::from_secs(1);

/// Only TCP to this port, from these hosts.
fn only(port: u16, hosts: Vec<u32>) -> Filter {
    let service = Service {
        protocol: Some(Protocol::Tcp),
        ports: Some((port, port)),
    };
    let rule = Rule {
        peers: Peers::Hosts(hosts),
        services: vec![service],
    };
    Filter {
        inbound: vec![rule],
        ..Filter::starter()
    }
}

fn is_idle(listener: &TcpListener) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(listener.poll_accept(&mut cx), Poll::Pending)
}

/// A connect that must come to nothing within `within`.
fn refused(
    lab: &mut Lab,
    to: SocketAddr,
    listener: &TcpListener,
    within: Duration,
) -> ConnectError {
    match lab.connect(0, to, listener, within) {
        Some(Err(error)) => error,
        Some(Ok(_)) => panic!("it was let in"),
        None => panic!("nobody answered"),
    }
}

#[test]
fn what_the_filter_forbids_is_refused_and_no_listener_sees_it() {
    let mut lab = Lab::with(|index, network| {
        if index == 1 {
            network.filter = only(PORT + 1, vec![HOSTS[0]]);
        }
    });
    let forbidden = lab.listen(1);
    let error = refused(&mut lab, address_of(1), &forbidden, SECOND);
    assert_eq!(error, ConnectError::Refused);
    assert!(is_idle(&forbidden));

    let allowed = lab.membership(1).stack().listen(PORT + 1).unwrap();
    let to = SocketAddr::new(address_of(1).ip(), PORT + 1);
    let opened = lab.connect(0, to, &allowed, SECOND);
    assert!(matches!(opened, Some(Ok(_))));
}

#[test]
fn what_the_filter_allows_to_others_is_refused_too() {
    let mut lab = Lab::with(|index, network| {
        if index == 1 {
            network.filter = only(PORT, vec![HOSTS[0] + 1]);
        }
    });
    let listener = lab.listen(1);
    let error = refused(&mut lab, address_of(1), &listener, SECOND);
    assert_eq!(error, ConnectError::Refused);
    assert!(is_idle(&listener));
}

#[test]
fn a_new_filter_resets_the_inbound_flows_that_it_forbids_and_no_others() {
    let mut lab = Lab::new();
    let listeners = [lab.listen(0), lab.listen(1)];
    let other = lab.membership(1).stack().listen(PORT + 1).unwrap();
    let (there, here) = lab.open(0, &listeners[1]);
    let to = SocketAddr::new(address_of(1).ip(), PORT + 1);
    let (allowed_there, allowed_here) = lab.connect(0, to, &other, SECOND).unwrap().unwrap();
    let (out_here, out_there) = lab.open(1, &listeners[0]);
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");

    lab.tell(1, |network| network.filter = only(PORT + 1, vec![HOSTS[0]]));
    lab.pass(SECOND);

    for stream in [&there, &here] {
        let error = stream.try_read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let passed = pass_bytes(&mut lab, &allowed_there, &allowed_here).unwrap();
    assert_eq!(passed, b"overlay");
    assert_eq!(
        pass_bytes(&mut lab, &out_here, &out_there).unwrap(),
        b"overlay"
    );
    let passed = pass_bytes(&mut lab, &out_there, &out_here).unwrap();
    assert_eq!(passed, b"overlay", "answers are no inbound flows");
}

#[test]
fn who_speaks_for_another_host_is_not_heard() {
    // Its own netmap lies to side 0 about its place; to all others it is the one the relay stamps.
    let mut lab = Lab::with(|index, network| {
        if index == 0 {
            network.host = 77;
        }
    });
    let listener = lab.listen(1);
    let opened = lab.connect(0, address_of(1), &listener, 3 * SECOND);
    assert!(opened.is_none(), "nothing answers");
    assert!(is_idle(&listener));
    assert!(lab.drops(1, "foreign_source") > 0);
    assert_eq!(lab.engine(1).counters().packets_in.get(), 0);
}

#[test]
fn what_is_meant_for_another_host_is_dropped() {
    let mut lab = Lab::with(|index, network| {
        if index == 1 {
            network.host = 77;
        }
    });
    let listener = lab.listen(1);
    assert!(
        lab.connect(0, address_of(1), &listener, 3 * SECOND)
            .is_none()
    );
    assert!(lab.drops(1, "foreign_destination") > 0);
}

#[test]
fn frames_that_fit_nowhere_are_counted_and_harm_nothing() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    let message = &[0x5a; 80][..];
    let mut send = |vni, host| {
        let address = Address { vni, flow: 0, host };
        let frame = Frame::Data { address, message };
        lab.deliver(1, HOME, &frame).unwrap();
    };
    send(VNI.get() + 1, HOSTS[0]);
    send(VNI.get(), 4_711);
    send(VNI.get(), HOSTS[1]);
    send(VNI.get(), HOSTS[0]);
    assert_eq!(lab.drops(1, "unknown_network"), 1);
    assert_eq!(lab.drops(1, "unknown_peer"), 2);
    let all = lab.engine(1).counters().snapshot(lab.now);
    let drops: u64 = all
        .iter()
        .filter(|(name, _)| name.starts_with("drop_"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(drops, 4, "{all:?}");
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn a_peer_that_is_not_at_its_home_is_reached_over_its_backup() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let opened = lab.connect(0, address_of(1), &listener, SECOND);
    let (there, here) = opened.expect("at once").unwrap();
    let first = lab.sent.iter().find(|(from, _, _)| *from == 0).unwrap();
    assert_eq!(first.1, HOME, "the home is asked first");
    let peer = lab.membership(0).peer(HOSTS[1]).unwrap();
    assert_eq!(peer.via(), Some(BACKUP));
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn a_peer_that_moves_to_its_backup_keeps_its_streams() {
    let mut lab = Lab::new();
    lab.attach(0, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.end(1, HOME, LinkEnd::Drained);
    lab.attach(1, BACKUP);
    there.try_write(b"overlay").unwrap();
    lab.pass(SECOND);
    let mut bytes = [0; 16];
    assert_eq!(here.try_read(&mut bytes).unwrap(), 7);
    assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
}

/// The relay has not noticed that a link ended, and would take for a while what nobody gets.
#[test]
fn who_moved_tells_its_peers_where_it_can_and_they_send_there_at_once() {
    // Side 0 lives where side 1 has its backup.
    let mut lab = Lab::with(|index, network| match index {
        0 => network.relays = vec![BACKUP, HOME],
        _ => network.peers.get_mut(&HOSTS[0]).unwrap().relays = vec![BACKUP, HOME],
    });
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    lab.zombies.push((1, HOME));
    there.try_write(b"lost").unwrap();
    lab.settle();
    assert!(here.try_read(&mut [0; 16]).is_err(), "the relay keeps it");
    lab.end(1, HOME, LinkEnd::Silent);
    lab.sent.clear();
    lab.settle();
    let mut bytes = [0; 16];
    let count = here.try_read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"lost", "without any time passing");
    assert!(lab.sent.iter().all(|(_, relay, _)| *relay == BACKUP));
    // It comes home, and says nothing; after a while it is reached there.
    lab.zombies.clear();
    lab.attach(1, HOME);
    lab.pass(10 * SECOND);
    lab.sent.clear();
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    assert_eq!(lab.sent[0].1, HOME);
}

/// The credit of a relay that keeps everything comes back to nobody.
#[test]
fn whoever_waits_for_credit_where_the_peer_was_goes_on_where_it_is() {
    let mut lab = Lab::with(|index, network| match index {
        0 => network.relays = vec![BACKUP, HOME],
        _ => network.peers.get_mut(&HOSTS[0]).unwrap().relays = vec![BACKUP, HOME],
    });
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.zombies.push((1, HOME));
    let written = write_all_there_is_room_for(&there);
    lab.settle();
    lab.end(1, HOME, LinkEnd::Silent);
    lab.pass(SECOND / 2);
    let (mut read, mut buffer) = (0, vec![0; 65_536]);
    while let Ok(count @ 1..) = here.try_read(&mut buffer) {
        read += count;
        lab.pass(SECOND / 100);
    }
    assert_eq!(read, written);
}

#[test]
fn who_is_offline_and_nowhere_is_unreachable_at_once() {
    let mut lab = Lab::detached(|index, network| {
        if index == 0 {
            network.peers.get_mut(&HOSTS[1]).unwrap().online = false;
        }
    });
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    let nobody = lab.listen(1);
    let error = refused(&mut lab, address_of(1), &nobody, SECOND);
    assert_eq!(error, ConnectError::Unreachable);
}

#[test]
fn what_waits_for_an_absent_peer_goes_when_it_is_heard_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.end(1, HOME, LinkEnd::Drained);
    // Sought in vain several times, so that the next look is seconds away.
    there.try_write(b"overlay").unwrap();
    lab.pass(10 * SECOND);
    lab.attach(1, HOME);
    here.try_write(b"here").unwrap();
    lab.pass(Duration::from_millis(1));
    let mut bytes = [0; 16];
    assert_eq!(here.try_read(&mut bytes).unwrap(), 7);
    assert_eq!(there.try_read(&mut bytes).unwrap(), 4);
}

#[test]
fn a_peer_at_its_backup_costs_no_stall_per_packet() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.sent.clear();
    let start = lab.now;
    for _ in 0..500 {
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
        assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
    }
    let in_vain = |(from, relay, _): &&(usize, RelayId, usize)| (*from, *relay) == (0, HOME);
    let in_vain = lab.sent.iter().filter(in_vain).count();
    // An absence is forgotten every 250 ms; then a packet and the acknowledgement after it may go
    // there.
    let looks = (lab.now - start).as_millis() as usize / 250;
    assert!(
        in_vain <= 2 * looks,
        "{in_vain} of 1,000 went to the wrong place"
    );
}

#[test]
fn rings_follow_the_distance_of_the_relay_until_the_peer_has_answered() {
    for (round_trip, bytes) in [
        (Duration::from_millis(10), 2 * 64 * 65_535),
        (Duration::from_millis(50), 2 * 256 * 65_535),
    ] {
        let mut lab = Lab::new();
        let listener = lab.listen(1);
        lab.sides[0].engine.handle_link_round_trip(round_trip);
        let _streams = lab.open(0, &listener);
        let stats = lab.membership(0).stack().stats();
        assert_eq!(stats.ring_bytes, bytes, "{round_trip:?}");
    }
}

#[test]
fn a_gone_of_an_unknown_host_or_network_changes_nothing() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    for (vni, host) in [(VNI.get() + 1, HOSTS[1]), (VNI.get(), 4_711)] {
        let address = Address { vni, flow: 0, host };
        let reason = GoneReason::NotHere;
        let frame = Frame::PeerGone { address, reason };
        lab.deliver(0, HOME, &frame).unwrap();
    }
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    assert_eq!(lab.membership(0).peer(HOSTS[1]).unwrap().via(), Some(HOME));
}

#[test]
fn a_tunnel_key_that_the_identity_did_not_sign_is_not_used() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    let distrusted = lab.tell(0, |network| {
        network.peers.get_mut(&HOSTS[1]).unwrap().tunnel = TunnelKey([9; 32]);
    });
    assert_eq!(distrusted.len(), 1);
    assert_eq!(distrusted[0].reason, Distrust::TunnelKeyNotSigned);
    assert_eq!(distrusted[0].label, "side-1");
    assert!(lab.membership(0).peer(HOSTS[1]).is_none());
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The true key again: trusted again.
    assert_eq!(lab.tell(0, |_| {}), []);
    lab.open(0, &listener);
}

#[test]
fn another_identity_of_a_known_device_is_not_used() {
    let mut lab = Lab::new();
    let distrusted = lab.tell(0, |network| {
        let peer = network.peers.get_mut(&HOSTS[1]).unwrap();
        let thief = IdentitySecret::from_seed([99; 32]);
        peer.identity = thief.public();
        peer.tunnel = TunnelKey(*tunnel(0).public());
        peer.tunnel_signature = encode_signature(&thief.sign(&tunnel_key_message(&peer.tunnel)));
    });
    assert_eq!(distrusted.len(), 1);
    assert_eq!(distrusted[0].reason, Distrust::IdentityChanged);
    assert!(lab.membership(0).peer(HOSTS[1]).is_none());
}

#[test]
fn a_new_tunnel_key_that_is_signed_makes_a_new_session() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    let distrusted = lab.tell(0, |network| {
        let peer = network.peers.get_mut(&HOSTS[1]).unwrap();
        peer.tunnel = TunnelKey([9; 32]);
        peer.tunnel_signature =
            encode_signature(&identity(1).sign(&tunnel_key_message(&peer.tunnel)));
    });
    assert_eq!(distrusted, []);
    let peer = lab.membership(0).peer(HOSTS[1]).unwrap();
    assert!(!peer.has_session(lab.now));
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // Who holds the old key cannot answer.
    assert!(
        lab.connect(0, address_of(1), &listener, 3 * SECOND)
            .is_none()
    );
}

#[test]
fn the_own_address_is_reached_without_any_relay() {
    let mut lab = Lab::detached(|_, _| {});
    let listener = lab.listen(0);
    for address in lab.membership(0).addresses().to_vec() {
        let to = SocketAddr::new(address, PORT);
        let opened = lab.connect(0, to, &listener, SECOND);
        let (there, here) = opened.expect("at once").unwrap();
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
        assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
    }
    assert_eq!(lab.sent, []);
}

#[test]
fn the_own_address_is_reached_whatever_the_filter_says() {
    let mut lab = Lab::with(|_, network| network.filter = Filter::default());
    let listener = lab.listen(0);
    let opened = lab.connect(0, address_of(0), &listener, SECOND);
    assert!(matches!(opened, Some(Ok(_))));
}

#[test]
fn a_peer_that_is_removed_takes_its_streams_along() {
    let mut lab = Lab::new();
    let listeners = [lab.listen(0), lab.listen(1)];
    let (outbound, _keep) = lab.open(0, &listeners[1]);
    let (_hold, inbound) = lab.open(1, &listeners[0]);
    lab.tell(0, |network| network.peers.clear());
    for stream in [outbound, inbound] {
        let error = stream.try_read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(stream.try_write(b"x").is_err());
    }
    assert!(lab.membership(0).peer(HOSTS[1]).is_none());
}

#[test]
fn a_network_that_is_left_takes_its_streams_along() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    let now = lab.now;
    let side = &mut lab.sides[0];
    side.engine
        .apply(now, &netmap(0, BTreeMap::new()), &mut side.known);
    assert!(!side.engine.memberships().contains_key(&NETWORK));
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    lab.pass(SECOND);
}

#[test]
fn a_new_place_in_the_network_ends_the_flows_of_the_old_one() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    let before = lab.membership(0);
    lab.tell(0, |network| network.host = 6);
    assert!(!Arc::ptr_eq(&before, &lab.membership(0)));
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn write_all_there_is_room_for(stream: &overlan_netstack::TcpStream) -> usize {
    let mut written = 0;
    while let Ok(count) = stream.try_write(&[7; 16_384]) {
        written += count;
    }
    written
}

#[test]
fn without_credit_a_peer_waits_and_with_credit_it_goes_on() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 100_000;
    lab.attach(0, HOME);
    lab.attach(1, HOME);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.pass(SECOND);
    lab.gives_credit = false;
    lab.sent.clear();
    let written = write_all_there_is_room_for(&there);
    assert!(written > 3 * 100_000);
    lab.settle();
    let sent: usize = lab
        .sent
        .iter()
        .filter(|(from, _, _)| *from == 0)
        .map(|(_, _, length)| length)
        .sum();
    assert!(
        (100_000..100_000 + BODY_MAX).contains(&sent),
        "the window and the frame that crosses it, not {sent}"
    );
    assert!(lab.engine(0).counters().credit_waits.get() > 0);
    assert_eq!(lab.fill(0, HOME), b"", "it stays parked");

    // The relay announces what it held back; from there on everything arrives.
    lab.gives_credit = true;
    let address = Address {
        vni: VNI.get(),
        flow: 0,
        host: HOSTS[1],
    };
    let released = lab.released(0, HOME);
    let credit = Frame::Credit {
        address,
        released,
        window: 100_000,
    };
    lab.deliver(0, HOME, &credit).unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 65_536];
    for _ in 0..100 {
        while let Ok(count) = here.try_read(&mut buffer) {
            read += count;
        }
        lab.pass(Duration::from_millis(50));
    }
    assert_eq!(read, written);
    assert_eq!(lab.ended, []);
}

#[test]
fn counters_tell_how_long_a_peer_waited_for_its_turn_for_credit_and_for_the_socket() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 40_000;
    lab.attach(0, HOME);
    lab.attach(1, HOME);
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    lab.pass(SECOND);
    let before = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(before["queue_turns"], 0, "nobody gave a clock");

    let begin = lab.now;
    lab.engine(0).measure_by(move || begin);
    write_all_there_is_room_for(&there);
    lab.now += Duration::from_millis(30);
    assert!(lab.fill(0, HOME).len() >= 40_000, "up to the window");
    let counters = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(counters["queue_delay_max_us"], 30_000);
    assert_eq!(counters["queue_turns"], 1);
    assert_eq!(counters["credit_waits"], before["credit_waits"] + 1);
    assert_eq!(counters["credit_wait_us"], before["credit_wait_us"]);

    lab.now += Duration::from_millis(20);
    let credit = Frame::Credit {
        address: Address {
            vni: VNI.get(),
            flow: 0,
            host: HOSTS[1],
        },
        released: lab.released(0, HOME) + 30_000,
        window: 200_000,
    };
    lab.deliver(0, HOME, &credit).unwrap();
    // Two turns of the pump in which the socket took nothing, and then all of it.
    for _ in 0..3 {
        let link = lab.sides[0].links.get_mut(&HOME).unwrap();
        link.handle_timeout(lab.now).unwrap();
    }
    lab.now += Duration::from_millis(5);
    lab.fill(0, HOME);
    let counters = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(
        counters["credit_wait_us"],
        before["credit_wait_us"] + 20_000
    );
    assert_eq!(counters["credit_window"], 200_000);
    assert_eq!(counters["link_stalls"], 1);
    assert_eq!(counters["link_stall_us"], 25_000);
}

#[test]
fn a_peer_that_waits_for_credit_moves_on_when_its_link_ends() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 100_000;
    for relay in [HOME, BACKUP] {
        lab.attach(0, relay);
        lab.attach(1, relay);
    }
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.gives_credit = false;
    write_all_there_is_room_for(&there);
    lab.settle();
    assert!(lab.engine(0).counters().credit_waits.get() > 0);
    lab.gives_credit = true;
    lab.end(0, HOME, LinkEnd::Silent);
    lab.engine(0).handle_attach_failed(lab.now, HOME);
    lab.sent.clear();
    lab.settle();
    assert!(
        lab.sent
            .iter()
            .any(|(from, relay, _)| (*from, *relay) == (0, BACKUP))
    );
    assert!(here.try_read(&mut [0; 8]).unwrap() > 0);
}

#[test]
fn credit_that_cannot_be_ends_the_link() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let _streams = lab.open(0, &listener);
    let sent = lab.released(0, HOME);
    let credit = |host, released| Frame::Credit {
        address: Address {
            vni: VNI.get(),
            flow: 0,
            host,
        },
        released,
        window: 100_000,
    };
    lab.deliver(0, HOME, &credit(HOSTS[1], sent)).unwrap();
    let more = lab.deliver(0, HOME, &credit(HOSTS[1], sent + 1));
    assert_eq!(more, Err(LinkEnd::FalseCredit));
    let less = lab.deliver(0, HOME, &credit(HOSTS[1], sent - 1));
    assert_eq!(less, Err(LinkEnd::FalseCredit));
    let nobody = lab.deliver(0, HOME, &credit(4_711, 0));
    assert_eq!(nobody, Err(LinkEnd::FalseCredit));
}

#[test]
fn the_relay_may_end_a_link_and_says_why() {
    let mut lab = Lab::new();
    let reject = Reject::new(RejectCode::Superseded, "attached elsewhere");
    let end = lab.deliver(0, HOME, &Frame::Reject(&reject.encode()));
    assert_eq!(end, Err(LinkEnd::Rejected(reject)));
    let end = lab.deliver(0, HOME, &Frame::Drain { within_ms: 5_000 });
    assert_eq!(end, Ok(()), "another one is attached to first");
    lab.pass(7 * SECOND);
    let ended = (0, HOME, LinkEnd::Drained);
    assert!(lab.ended.contains(&ended), "{:?}", lab.ended);
}

#[test]
fn a_relay_that_breaks_the_protocol_is_left() {
    let mut lab = Lab::new();
    let mut too_long = [frame::kind::DATA, 0xff, 0xff, 0xff];
    let end = lab.deliver_bytes(0, HOME, &mut too_long);
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
    let mut too_short = [frame::kind::CREDIT, 0, 0, 1, 0];
    let end = lab.deliver_bytes(0, HOME, &mut too_short);
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
    let end = lab.deliver(0, HOME, &Frame::Reject(b"?"));
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
}

#[test]
fn a_frame_in_pieces_is_taken_when_it_is_whole() {
    let mut lab = Lab::new();
    let mut bytes = Vec::new();
    Frame::Ping { token: 7 }.encode(&mut bytes);
    Frame::Unknown { kind: 0x7f }.encode(&mut bytes);
    let now = lab.now;
    let whole = bytes.len();
    let link = lab.sides[0].links.get_mut(&HOME).unwrap();
    for length in 0..12 {
        assert_eq!(link.handle_bytes(now, &mut bytes[..length]).unwrap(), 0);
    }
    assert_eq!(link.handle_bytes(now, &mut bytes).unwrap(), whole);
    let mut pong = Vec::new();
    Frame::Pong { token: 7 }.encode(&mut pong);
    assert_eq!(lab.fill(0, HOME), pong, "one answer to one question");
    assert_eq!(lab.fill(0, HOME), b"");
}

#[test]
fn a_link_that_nobody_needs_is_closed_after_a_minute_and_the_home_is_kept() {
    let mut lab = Lab::new();
    lab.attach(0, BACKUP);
    lab.pass(59 * SECOND);
    assert_eq!(lab.ended, []);
    lab.pass(2 * SECOND);
    assert_eq!(lab.ended, [(0, BACKUP, LinkEnd::Idle)]);
    lab.pass(600 * SECOND);
    assert_eq!(lab.ended.len(), 1, "the home is answered and stays");
}

#[test]
fn a_backup_that_carries_traffic_is_not_idle() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    for _ in 0..5 {
        lab.pass(45 * SECOND);
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    }
    assert_eq!(lab.ended, []);
}

#[test]
fn a_relay_that_does_not_answer_is_left() {
    let mut lab = Lab::new();
    let asked = {
        let link = lab.sides[0].links.get_mut(&HOME).unwrap();
        let at = link.poll_timeout().unwrap();
        link.handle_timeout(at).unwrap();
        at
    };
    let ping = lab.fill(0, HOME);
    let (frame, _) = frame::decode(&ping, BODY_MAX).unwrap().unwrap();
    assert!(matches!(frame, Frame::Ping { .. }), "{frame:?}");
    let link = lab.sides[0].links.get_mut(&HOME).unwrap();
    let at = link.poll_timeout().unwrap();
    assert!(at > asked && at < asked + 5 * SECOND);
    assert_eq!(link.handle_timeout(at), Err(LinkEnd::Silent));
}
