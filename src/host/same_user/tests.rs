use super::*;

use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::{TcpListener, TcpStream};

#[cfg(target_endian = "little")]
const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0438 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000 100 0 0 10 0
   1: 0100007F:C350 0100007F:0438 01 00000000:00000000 00:00000000 00000000  1000        0 77 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:C351 0100007F:0438 04 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:C352 0100007F:0438 01 nonsense
";

#[cfg(target_endian = "little")]
#[test]
fn the_clients_line_is_found_not_the_servers() {
    let server = hex_v4(SocketAddr::from((Ipv4Addr::LOCALHOST, 1080)));
    let find = |port| {
        let client = hex_v4(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        find(TABLE.as_bytes(), &client, &server)
    };
    let owner = |user, inode| Some(Owner { user, inode });
    assert_eq!(find(50_000).unwrap(), owner(1000, 77));
    assert_eq!(find(50_001).unwrap(), owner(0, 0));
    assert!(find(50_002).is_err(), "half a line");
    assert_eq!(find(50_003).unwrap(), None);
    let nobodys = find(50_001).unwrap().unwrap();
    assert!(
        decide(&[nobodys], own_user()).is_err(),
        "nobody's socket looks like root's"
    );
}

#[test]
fn everybody_who_may_hold_the_other_end_has_to_be_known_and_ours() {
    let (own, other) = (own_user(), own_user() + 1);
    let held = |user| Owner { user, inode: 1 };
    let gone = |user| Owner { user, inode: 0 };
    for (owners, expected, verdict) in [
        (vec![], own, Err(Stranger::Unknown)),
        (vec![held(ROOT)], own, Ok(ROOT)),
        (vec![held(own)], own, Ok(own)),
        (vec![held(other)], own, Err(Stranger::User(other))),
        (vec![gone(ROOT)], own, Err(Stranger::Unknown)),
        (vec![gone(own)], own, Err(Stranger::Unknown)),
        // The user who opened the association may send, and nobody else.
        (vec![held(other)], other, Ok(other)),
        (vec![held(other + 1)], other, Err(Stranger::User(other + 1))),
        // Two sockets share a port for datagrams.
        (vec![held(own), held(ROOT)], own, Ok(ROOT)),
        (
            vec![held(own), held(other)],
            own,
            Err(Stranger::User(other)),
        ),
        (
            vec![held(other), held(own)],
            own,
            Err(Stranger::User(other)),
        ),
        (vec![held(own), gone(own)], own, Err(Stranger::Unknown)),
    ] {
        assert_eq!(
            decide(&owners, expected),
            verdict,
            "{owners:?} for {expected}"
        );
    }
}

#[test]
fn a_user_that_the_namespace_does_not_know_is_nobody() {
    let all = "         0          0 4294967295";
    assert!(covers(all, 0) && covers(all, OVERFLOW));
    let one = "         0       1000          1";
    assert!(covers(one, 0) && !covers(one, 1) && !covers(one, OVERFLOW));
    let container = "         0     100000      65536";
    assert!(covers(container, OVERFLOW) && !covers(container, 65_536));
    assert!(!covers("", 0) && !covers("0 0", 0));
}

#[tokio::test]
async fn the_kernel_knows_who_may_send_from_a_port() {
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let ip: std::net::IpAddr = ip;
        let Ok(socket) = tokio::net::UdpSocket::bind((ip, 0)).await else {
            assert!(ip.is_ipv6());
            continue;
        };
        let address = socket.local_addr().unwrap();
        let by_proc = look_up_udp(address.port()).unwrap();
        assert_eq!(by_proc.first().map(|owner| owner.user), Some(own_user()));
        if let Some(owners) = sock_diag::look_up_udp(address.port()) {
            assert_eq!(owners, by_proc, "both ways of asking agree");
        }
        assert_eq!(admit_sender(address, own_user()).await, Ok(own_user()));
        drop(socket);
        assert_eq!(
            admit_sender(address, own_user()).await,
            Err(Stranger::Unknown)
        );
    }
}

#[tokio::test]
async fn the_kernel_knows_the_test_as_its_own_user() {
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let ip: std::net::IpAddr = ip;
        // Some machines have no IPv6.
        let Ok(listener) = TcpListener::bind((ip, 0)).await else {
            assert!(ip.is_ipv6());
            continue;
        };
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).await.unwrap();
        let address = client.local_addr().unwrap();
        let found = look_up(address, server).unwrap();
        assert_eq!(found.map(|owner| owner.user), Some(own_user()), "{ip}");
        if let Some(owners) = sock_diag::look_up(address, server) {
            assert_eq!(found, Some(owners), "both ways of asking agree");
        }
        assert!(admit_connection(address, server).await.is_ok());

        // Nobody connected from there, even if somebody listens there.
        let other = TcpListener::bind((ip, 0)).await.unwrap();
        let absent = other.local_addr().unwrap();
        assert_eq!(sock_diag::look_up(absent, server), None);
        assert_eq!(
            admit_connection(absent, server).await,
            Err(Stranger::Unknown)
        );
    }
}

#[tokio::test]
async fn an_ipv4_client_may_use_an_ipv6_socket() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = listener.local_addr().unwrap();
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), server.port());
    // Some machines have no IPv6.
    let Ok(_client) = TcpStream::connect(mapped).await else {
        return;
    };
    let (_, peer) = listener.accept().await.unwrap();
    let found = look_up(peer, server).unwrap();
    assert_eq!(found.map(|owner| owner.user), Some(own_user()));
    assert!(admit_connection(peer, server).await.is_ok());
}

#[tokio::test]
async fn a_client_that_closed_at_once_is_nobodys() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = listener.local_addr().unwrap();
    let client = TcpStream::connect(server).await.unwrap();
    let address = client.local_addr().unwrap();
    let (_open, _) = listener.accept().await.unwrap();
    drop(client);
    assert_eq!(
        admit_connection(address, server).await,
        Err(Stranger::Unknown)
    );
}
