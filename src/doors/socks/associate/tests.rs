use super::*;

use std::net::Ipv4Addr;

use tokio::net::TcpStream;

use crate::doors::proxy::ProxyConfig;
use crate::doors::proxy::tests::*;

/// The control connection, and a socket that is connected with the association.
async fn associate(door: &Fixture) -> (TcpStream, UdpSocket) {
    let mut control = door.connect().await;
    control
        .write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut answers = [0; 12];
    control.read_exact(&mut answers).await.unwrap();
    assert_eq!(answers[..6], [5, 0, 5, 0, 0, 1], "{answers:?}");
    assert_eq!(answers[6..10], [127, 0, 0, 1]);
    let port = u16::from_be_bytes([answers[10], answers[11]]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    (control, socket)
}

fn by_name(name: &str, port: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0, 0, 0, 3, u8::try_from(name.len()).unwrap()];
    datagram.extend_from_slice(name.as_bytes());
    datagram.extend_from_slice(&port.to_be_bytes());
    datagram.extend_from_slice(data);
    datagram
}

async fn hears(socket: &UdpSocket) -> Vec<u8> {
    let mut data = vec![0; DATAGRAM_MAX];
    let len = socket.recv(&mut data).await.unwrap();
    data.truncate(len);
    data
}

#[tokio::test]
async fn datagrams_go_to_a_peer_and_back_and_no_further_than_the_connection_lives() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let (control, socket) = associate(&door).await;
    for data in [&b""[..], b"hello", &[7; 9_000]] {
        // What is refused is dropped, and the next one still passes.
        socket.send(&by_name(WEB, DENIED, b"no")).await.unwrap();
        socket.send(&by_name(WEB, ECHO, data)).await.unwrap();
        let expected = [&[0, 0, 0, 1, 100, 64, 0, 2, 0, 80], data].concat();
        assert_eq!(hears(&socket).await, expected);
    }
    // Somebody else at the same address gets no answer: the next one heard is the client's own.
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    other.connect(socket.peer_addr().unwrap()).await.unwrap();
    other.send(&by_name(WEB, ECHO, b"other")).await.unwrap();
    socket.send(&by_name(WEB, ECHO, b"own")).await.unwrap();
    assert!(hears(&socket).await.ends_with(b"own"));
    assert!(other.try_recv(&mut [0; 16]).is_err());
    drop(control);
    // The socket closes with it, of which the system informs a program that still sends.
    while socket.send(&by_name(WEB, ECHO, b"late")).await.is_ok() {
        tokio::task::yield_now().await;
    }
    door.close().await;
}

#[tokio::test]
async fn the_resolver_answers_through_an_association() {
    let dns = SocketAddr::from(([127, 0, 0, 1], 1053));
    let door = Fixture::open(ProxyConfig {
        dns: Some(dns),
        ..ProxyConfig::default()
    })
    .await;
    let (_control, socket) = associate(&door).await;
    let mut query = vec![0, 0, 0, 1, 127, 0, 0, 1, 0x04, 0x1d];
    // One question: id 7, recursion desired, the A record of the peer.
    query.extend_from_slice(&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in WEB.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send(&query).await.unwrap();
    let answer = hears(&socket).await;
    assert_eq!(answer[..12], [0, 0, 0, 1, 127, 0, 0, 1, 0x04, 0x1d, 0, 7]);
    assert!(answer.ends_with(&[0, 4, 100, 64, 0, 2]), "{answer:?}");
    door.close().await;
}

#[tokio::test]
async fn a_direct_door_sends_datagrams_to_the_world() {
    let door = Fixture::open(ProxyConfig {
        direct: true,
        ..ProxyConfig::default()
    })
    .await;
    let (_control, socket) = associate(&door).await;
    // The system decides whether "localhost" is IPv4 or IPv6 first: this socket has both.
    let world = UdpSocket::bind("[::]:0").await.unwrap();
    let port = world.local_addr().unwrap().port();
    // By name first, which has to be looked up.
    socket
        .send(&by_name("localhost", port, b"one"))
        .await
        .unwrap();
    let mut data = [0; 16];
    let (len, from) = world.recv_from(&mut data).await.unwrap();
    assert_eq!(&data[..len], b"one");
    world.send_to(b"two", from).await.unwrap();
    let heard = hears(&socket).await;
    assert!(
        heard.starts_with(&[0, 0, 0]) && heard.ends_with(b"two"),
        "{heard:?}"
    );
    door.close().await;
}

#[tokio::test]
async fn there_are_only_so_many_associations() {
    let door = Fixture::open(ProxyConfig {
        max_associations: 1,
        ..ProxyConfig::default()
    })
    .await;
    let (_control, _socket) = associate(&door).await;
    let mut second = door.connect().await;
    second
        .write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut answers = [0; 12];
    second.read_exact(&mut answers).await.unwrap();
    assert_eq!(answers[3], 1, "{answers:?}");
    assert_closed(&mut second).await;
    door.close().await;
}
