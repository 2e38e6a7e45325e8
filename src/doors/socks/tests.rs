use super::*;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use overlan_protocol::key::Secret;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::doors::proxy::tests::*;
use crate::doors::proxy::{ProxyConfig, ProxyCredentials};

impl Fixture {
    /// Greets, asks, and gives the stream back after the reply.
    async fn ask(&self, request: &[u8]) -> (TcpStream, u8) {
        let mut stream = self.connect().await;
        stream.write_all(&[5, 1, 0]).await.unwrap();
        assert_eq!(read::<2>(&mut stream).await, [5, 0]);
        stream.write_all(request).await.unwrap();
        let reply = read::<10>(&mut stream).await;
        assert_eq!((reply[0], reply[2], reply[3]), (5, 0, 1), "{reply:?}");
        (stream, reply[1])
    }

    async fn reply_to(&self, request: &[u8]) -> u8 {
        let (mut stream, code) = self.ask(request).await;
        if code != SUCCEEDED {
            assert_closed(&mut stream).await;
        }
        code
    }
}

fn config() -> ProxyConfig {
    ProxyConfig::default()
}

fn by_name(name: &[u8], port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name);
    request.extend_from_slice(&port.to_be_bytes());
    request
}

fn by_address(address: &str, port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0];
    match address.parse().unwrap() {
        IpAddr::V4(v4) => {
            request.push(1);
            request.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            request.push(4);
            request.extend_from_slice(&v6.octets());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    request
}

async fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn every_kind_of_address_leads_to_the_peer() {
    let door = Fixture::open(config()).await;
    for request in [
        by_name(WEB.as_bytes(), ECHO),
        by_name(b"WEB.Demo.overlan.LAN.", ECHO),
        by_name(b"100.64.0.2", ECHO),
        by_address("100.64.0.2", ECHO),
        by_address("fd3b:7e5c:1a42::2", ECHO),
    ] {
        let (mut stream, code) = door.ask(&request).await;
        assert_eq!(code, SUCCEEDED, "{request:?}");
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"hello");
    }
    door.close().await;
}

#[tokio::test]
async fn every_failure_has_its_exact_reply() {
    let door = Fixture::open(config()).await;
    let label64 = [&[b'a'; 64][..], b".demo.overlan.lan"].concat();
    let name254 = [&b"a.".repeat(121)[..], b"overlan.lan."].concat();
    assert_eq!(name254.len(), 254);
    let name255 = [&b"a.".repeat(122)[..], b"overlan.lan"].concat();
    for (request, code) in [
        (by_name(WEB.as_bytes(), BROKEN), 1),
        (by_name(WEB.as_bytes(), DENIED), 2),
        (by_name(b"example.org", ECHO), 2),
        (by_address("127.0.0.1", ECHO), 2),
        (by_address("::1", ECHO), 2),
        (by_name(WEB.as_bytes(), NO_RELAY), 3),
        (by_name(b"mail.demo.overlan.lan", ECHO), 4),
        (by_name(b"db.demo.overlan.lan", ECHO), 4),
        (by_address("100.64.0.77", ECHO), 4),
        (by_name(b"", ECHO), 4),
        (by_name(b"web\0.demo.overlan.lan", ECHO), 4),
        (by_name(b"\xff\xfe.demo.overlan.lan", ECHO), 4),
        (by_name(&label64, ECHO), 4),
        (by_name(&name254, ECHO), 4),
        (by_name(&name255, ECHO), 4),
        (by_name(WEB.as_bytes(), REFUSED), 5),
        (by_name(WEB.as_bytes(), 0), 5),
        (by_name(WEB.as_bytes(), TIMED_OUT), 6),
        (by_name(WEB.as_bytes(), UNSUPPORTED), 7),
        // BIND for somebody whom nobody knows, and a command that does not exist.
        (vec![5, 2, 0, 1, 100, 64, 0, 77, 0, 80], 4),
        (vec![5, 9, 0, 1, 100, 64, 0, 2, 0, 80], 7),
        // A kind of address that does not exist, with bytes after it that nobody reads.
        (vec![5, 1, 0, 2, 100, 64, 0, 2, 0, 80, 1, 2, 3], 8),
    ] {
        assert_eq!(door.reply_to(&request).await, code, "{request:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_destination_that_never_answers_times_out() {
    let door = Fixture::open(ProxyConfig {
        dial_timeout: Duration::from_millis(20),
        ..config()
    })
    .await;
    assert_eq!(door.reply_to(&by_name(WEB.as_bytes(), SILENT)).await, 6);
    door.close().await;
}

#[tokio::test]
async fn the_version_of_the_request_counts_too() {
    let door = Fixture::open(config()).await;
    let mut stream = door.connect().await;
    stream
        .write_all(&[5, 1, 0, 4, 1, 0, 1, 100, 64, 0, 2, 0, 80])
        .await
        .unwrap();
    assert_eq!(read::<2>(&mut stream).await, [5, 0]);
    assert_closed(&mut stream).await;
    door.close().await;
}

#[tokio::test]
async fn half_a_handshake_is_closed_in_time() {
    let door = Fixture::open(ProxyConfig {
        handshake_timeout: Duration::from_millis(20),
        ..config()
    })
    .await;
    for sent in [&[][..], &[5], &[5, 1, 0, 5, 1, 0, 3, 20, b'w']] {
        let mut stream = door.connect().await;
        stream.write_all(sent).await.unwrap();
        let mut heard = Vec::new();
        match stream.read_to_end(&mut heard).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        assert!(heard.is_empty() || heard == [5, 0], "{heard:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let door = Fixture::open(config()).await;
    let mut stream = door.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in [&[5, 1, 0][..], &by_name(WEB.as_bytes(), ECHO)].concat() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read::<2>(&mut stream).await, [5, 0]);
    assert_eq!(read::<10>(&mut stream).await[1], SUCCEEDED);
    door.close().await;
}

#[tokio::test]
async fn data_sent_before_the_reply_is_not_lost() {
    let door = Fixture::open(config()).await;
    let mut stream = door.connect().await;
    let early: Vec<u8> = (0..100_000u32).map(|n| (n >> 3) as u8).collect();
    let all = [&[5, 1, 0][..], &by_name(WEB.as_bytes(), ECHO), &early].concat();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read::<2>(&mut stream).await, [5, 0]);
    assert_eq!(read::<10>(&mut stream).await[1], SUCCEEDED);
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).await.unwrap();
    assert!(echoed == early);
    door.close().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let door = Fixture::open(config()).await;
    let mut state = 1u64;
    for round in 0..200 {
        let mut bytes: Vec<u8> = [&[5, 1, 0][..], &by_name(WEB.as_bytes(), ECHO)].concat();
        for _ in 0..=round % 4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = (state >> 33) as usize % bytes.len();
            bytes[place] = (state >> 24) as u8;
        }
        bytes.truncate((state >> 40) as usize % 40);
        let mut stream = door.connect().await;
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        match stream.read_to_end(&mut heard).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        // Where the first byte became a letter, HTTP answers.
        let fits = heard.len() <= 12 + 40 || heard.starts_with(b"HTTP/1.1 4");
        assert!(fits, "{bytes:?} {heard:?}");
    }
    assert_eq!(door.reply_to(&by_name(WEB.as_bytes(), REFUSED)).await, 5);
    door.close().await;
}

fn credentials() -> ProxyConfig {
    ProxyConfig {
        credentials: Some(
            ProxyCredentials::new("anna".into(), Secret::new("correct horse")).unwrap(),
        ),
        ..config()
    }
}

fn password(version: u8, user: &[u8], password: &[u8]) -> Vec<u8> {
    let mut message = vec![version, user.len() as u8];
    message.extend_from_slice(user);
    message.push(password.len() as u8);
    message.extend_from_slice(password);
    message
}

#[tokio::test]
async fn the_right_password_opens_the_door() {
    let door = Fixture::open(credentials()).await;
    let mut stream = door.connect().await;
    stream.write_all(&[5, 2, 0, 2]).await.unwrap();
    assert_eq!(read::<2>(&mut stream).await, [5, 2]);
    let message = password(1, b"anna", b"correct horse");
    stream.write_all(&message).await.unwrap();
    assert_eq!(read::<2>(&mut stream).await, [1, 0]);
    stream
        .write_all(&by_name(WEB.as_bytes(), ECHO))
        .await
        .unwrap();
    assert_eq!(read::<10>(&mut stream).await[1], SUCCEEDED);
    stream.write_all(b"x").await.unwrap();
    assert_eq!(&read::<1>(&mut stream).await, b"x");
    door.close().await;
}

#[tokio::test]
async fn every_other_password_does_not() {
    let door = Fixture::open(credentials()).await;
    for message in [
        password(1, b"anna", b"correct hors"),
        password(1, b"anna", b"correct horse "),
        password(1, b"annac", b"orrect horse"),
        password(1, b"bert", b"correct horse"),
        password(1, b"", b""),
        password(2, b"anna", b"correct horse"),
        password(1, &[0xff; 255], &[0xff; 255]),
    ] {
        let mut stream = door.connect().await;
        stream.write_all(&[5, 1, 2]).await.unwrap();
        assert_eq!(read::<2>(&mut stream).await, [5, 2]);
        stream.write_all(&message).await.unwrap();
        assert_eq!(read::<2>(&mut stream).await, [1, 1], "{message:?}");
        assert_closed(&mut stream).await;
    }
    let mut stream = door.connect().await;
    stream.write_all(&[5, 1, 0]).await.unwrap();
    assert_eq!(read::<2>(&mut stream).await, [5, 0xff]);
    assert_closed(&mut stream).await;
    door.close().await;
}

#[tokio::test]
async fn without_a_password_to_check_none_is_taken() {
    let door = Fixture::open(config()).await;
    let mut stream = door.connect().await;
    stream.write_all(&[5, 1, 2]).await.unwrap();
    assert_eq!(read::<2>(&mut stream).await, [5, 0xff]);
    assert_closed(&mut stream).await;
    door.close().await;
}

#[tokio::test]
async fn only_a_direct_door_leads_out_of_the_overlay_and_only_there() {
    let door = Fixture::open(ProxyConfig {
        direct: true,
        ..config()
    })
    .await;
    let echo = door.overlay.echo;
    let (mut stream, code) = door.ask(&by_address("127.0.0.1", echo.port())).await;
    assert_eq!(code, SUCCEEDED);
    stream.write_all(b"x").await.unwrap();
    assert_eq!(&read::<1>(&mut stream).await, b"x");
    assert_eq!(
        door.reply_to(&by_name(b"localhost", echo.port())).await,
        SUCCEEDED
    );
    let unused = tokio::net::TcpSocket::new_v4().unwrap();
    unused.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let unused = unused.local_addr().unwrap().port();
    assert_eq!(door.reply_to(&by_address("127.0.0.1", unused)).await, 5);
    // What is ours stays ours, even where nobody has it.
    assert_eq!(door.reply_to(&by_name(WEB.as_bytes(), DENIED)).await, 2);
    assert_eq!(door.reply_to(&by_address("100.64.0.0", ECHO)).await, 4);
    assert_eq!(
        door.reply_to(&by_name(b"b\xc3\xbcro.example.org", ECHO))
            .await,
        4
    );
    door.close().await;
}

#[tokio::test]
async fn the_end_of_the_door_ends_its_connections() {
    let door = Fixture::open(config()).await;
    let (mut open, _) = door.ask(&by_name(WEB.as_bytes(), ECHO)).await;
    let mut greeting = door.connect().await;
    greeting.write_all(&[5]).await.unwrap();
    let address = door.address;
    door.close().await;
    assert_closed(&mut open).await;
    assert_closed(&mut greeting).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_their_turn() {
    let door = Fixture::open(ProxyConfig {
        max_connections: 1,
        ..config()
    })
    .await;
    let (first, _) = door.ask(&by_name(WEB.as_bytes(), ECHO)).await;
    let mut second = door.connect().await;
    second.write_all(&[5, 1, 0]).await.unwrap();
    let mut early = [0];
    assert!(second.try_read(&mut early).is_err(), "its turn is not yet");
    drop(first);
    assert_eq!(read::<2>(&mut second).await, [5, 0]);
    door.close().await;
}

#[tokio::test]
async fn a_bound_port_waits_for_its_peer_and_carries_one_connection() {
    let door = Fixture::open(config()).await;
    let mut client = door.connect().await;
    client
        .write_all(&[5, 1, 0, 5, 2, 0, 1, 100, 64, 0, 2, 0, 80])
        .await
        .unwrap();
    assert_eq!(read::<2>(&mut client).await, [5, 0]);
    let first = read::<10>(&mut client).await;
    assert_eq!(first[..4], [5, 0, 0, 1]);
    let port = u16::from_be_bytes([first[8], first[9]]);
    let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let second = read::<10>(&mut client).await;
    assert_eq!(second[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
    let own = peer.local_addr().unwrap().port();
    assert_eq!(u16::from_be_bytes([second[8], second[9]]), own);
    client.write_all(b"there").await.unwrap();
    assert_eq!(&read::<5>(&mut peer).await, b"there");
    peer.write_all(b"back").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(&read::<4>(&mut client).await, b"back");
    assert_closed(&mut client).await;
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
    );
    door.close().await;
}

#[tokio::test]
async fn a_bound_port_does_not_wait_for_ever() {
    let door = Fixture::open(ProxyConfig {
        bind_timeout: Duration::from_millis(20),
        ..config()
    })
    .await;
    let mut client = door.connect().await;
    client
        .write_all(&[5, 1, 0, 5, 2, 0, 1, 100, 64, 0, 2, 0, 80])
        .await
        .unwrap();
    assert_eq!(read::<2>(&mut client).await, [5, 0]);
    assert_eq!(read::<10>(&mut client).await[1], SUCCEEDED);
    assert_eq!(read::<10>(&mut client).await[1], 6);
    assert_closed(&mut client).await;
    door.close().await;
}
