use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2)), 53);

fn association() -> Association {
    Association::new(CLIENT.ip())
}

/// A datagram for `REMOTE` with `fragment` as the number of its part.
fn to_remote(fragment: u8) -> Vec<u8> {
    vec![0, 0, fragment, 1, 100, 64, 0, 2, 0, 53, b'h', b'i']
}

#[test]
fn the_first_sender_at_the_clients_address_becomes_the_only_one() {
    let mut association = association();
    let stranger = SocketAddr::from(([127, 0, 0, 2], 5000));
    assert!(!association.admits(stranger));
    assert!(association.admits(CLIENT) && !association.is_pinned());
    // A part of a datagram pins nobody.
    assert_eq!(
        association.handle_client_datagram(CLIENT, &to_remote(1)),
        None
    );
    assert!(!association.is_pinned());
    let bytes = to_remote(0);
    let outgoing = association.handle_client_datagram(CLIENT, &bytes).unwrap();
    assert_eq!(
        outgoing,
        Outgoing {
            destination: REMOTE.ip().into(),
            port: 53,
            data: b"hi",
        }
    );
    let other_port = SocketAddr::new(CLIENT.ip(), 5001);
    assert!(association.is_pinned() && !association.admits(other_port));
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 5000));
    assert!(association.admits(mapped), "the same in other words");
    let counts = association.counts();
    assert_eq!((counts.strangers, counts.fragments), (2, 1));
}

#[test]
fn only_who_was_asked_may_answer() {
    let mut association = association();
    let mut wrapped = vec![1, 2, 3];
    association.handle_client_datagram(CLIENT, &to_remote(0));
    let answer = |association: &mut Association, from, wrapped: &mut Vec<u8>| {
        association.handle_network_datagram(from, b"yes", wrapped)
    };
    assert_eq!(answer(&mut association, REMOTE, &mut wrapped), None);
    association.handle_sent(REMOTE);
    assert_eq!(answer(&mut association, REMOTE, &mut wrapped), Some(CLIENT));
    assert_eq!(wrapped, b"\0\0\0\x01\x64\x40\0\x02\0\x35yes");
    let other = SocketAddr::new(REMOTE.ip(), 54);
    assert_eq!(answer(&mut association, other, &mut wrapped), None);
    // Who was asked so long ago that many others were since is forgotten.
    for port in 1000..1000 + u16::try_from(KNOWN_MAX).unwrap() {
        association.handle_sent(SocketAddr::new(REMOTE.ip(), port));
    }
    assert_eq!(answer(&mut association, REMOTE, &mut wrapped), None);
    assert_eq!(association.known.len(), KNOWN_MAX);
    assert_eq!(association.known_in_order.len(), KNOWN_MAX);
}

#[test]
fn what_leads_nowhere_is_counted() {
    let mut association = association();
    for malformed in [
        &b""[..],
        &[0, 0, 0],
        &[0, 0, 0, 2, 1, 1, 1, 1, 0, 53],
        &[0, 0, 0, 1, 100, 64, 0, 2, 0],
        // Port 0, a name that is none.
        &[0, 0, 0, 1, 100, 64, 0, 2, 0, 0],
        &[0, 0, 0, 3, 3, b'a', 0, b'b', 0, 53],
    ] {
        assert_eq!(
            association.handle_client_datagram(CLIENT, malformed),
            None,
            "{malformed:?}"
        );
    }
    assert_eq!(association.counts().malformed, 6);
    assert!(!association.is_pinned());
}

proptest! {
    #[test]
    fn no_datagram_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut association = association();
        if let Some(outgoing) = association.handle_client_datagram(CLIENT, &bytes) {
            prop_assert!(bytes.ends_with(outgoing.data));
            prop_assert_eq!(bytes[2], 0);
            prop_assert_ne!(outgoing.port, 0);
        }
    }

    #[test]
    fn a_wrapped_datagram_reads_back(
        data in prop::collection::vec(any::<u8>(), 0..100),
        v6: bool,
        port in 1u16..,
    ) {
        let mut association = association();
        association.handle_client_datagram(CLIENT, &to_remote(0));
        let ip = if v6 { "fd3b:7e5c:1a42::2".parse().unwrap() } else { REMOTE.ip() };
        let from = SocketAddr::new(ip, port);
        association.handle_sent(from);
        let mut wrapped = Vec::new();
        association.handle_network_datagram(from, &data, &mut wrapped).unwrap();
        let outgoing = association.handle_client_datagram(CLIENT, &wrapped).unwrap();
        prop_assert_eq!(outgoing.destination, Destination::from(ip));
        prop_assert_eq!((outgoing.port, outgoing.data), (port, &data[..]));
    }
}
