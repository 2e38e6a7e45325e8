//! Packets and frames that the filter, the source check or an unknown address keeps out.

use super::*;

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
            network.filter = only(PORT, vec![HostIndex::new(6).unwrap()]);
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

    lab.tell(1, |network| {
        network.filter = Filter {
            outbound: Vec::new(),
            ..only(PORT + 1, vec![HOSTS[0]])
        };
    });
    lab.pass(SECOND);
    for stream in [&out_here, &out_there] {
        let error = stream.try_read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn who_speaks_for_another_host_is_not_heard() {
    // Its own netmap lies to side 0 about its place; to all others it is the one the relay stamps.
    let mut lab = Lab::with(|index, network| {
        if index == 0 {
            network.host = HostIndex::new(77).unwrap();
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
            network.host = HostIndex::new(77).unwrap();
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
    send(VNI.get() + 1, HOSTS[0].get());
    send(VNI.get(), 4_711);
    send(VNI.get(), HOSTS[1].get());
    send(VNI.get(), HOSTS[0].get());
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
fn a_gone_of_an_unknown_host_or_network_changes_nothing() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    for (vni, host) in [(VNI.get() + 1, HOSTS[1].get()), (VNI.get(), 4_711)] {
        let address = Address { vni, flow: 0, host };
        let reason = GoneReason::NotHere;
        let frame = Frame::PeerGone { address, reason };
        lab.deliver(0, HOME, &frame).unwrap();
    }
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    assert_eq!(lab.membership(0).peer(HOSTS[1]).unwrap().via(), Some(HOME));
}
