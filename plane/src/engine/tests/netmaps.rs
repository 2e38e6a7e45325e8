//! Netmaps that change: keys that are not trusted, peers and networks that go, the own address.

use super::*;

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
    lab.tell(0, |network| network.host = HostIndex::new(6).unwrap());
    assert!(!Arc::ptr_eq(&before, &lab.membership(0)));
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
