use super::*;

use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod fixture;

mod flows;

pub(crate) use fixture::*;

#[tokio::test]
async fn the_first_byte_says_which_protocol_it_is() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let first = async |bytes: &[u8]| {
        let mut stream = door.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        match stream.read_to_end(&mut heard).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        heard
    };
    assert_eq!(first(&[5, 1, 0]).await, [5, 0]);
    assert_eq!(first(&[4, 1, 0, 80, 127, 0, 0, 1, 0]).await, SOCKS4_REFUSED);
    let page = first(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1080\r\n\r\n").await;
    assert!(page.starts_with(b"HTTP/1.1 400 "), "{page:?}");
    // TLS, a line break, nothing.
    for other in [&[0x16, 3, 1][..], b"\r\n", b""] {
        assert_eq!(first(other).await, b"", "{other:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_request_waits_for_a_device_that_is_not_ready_but_not_for_ever() {
    let (sent, received) = (
        b"GET /".as_slice(),
        b"CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: web.demo.overlan.lan:80\r\n\r\n",
    );
    let door = Fixture::open(ProxyConfig {
        hold: Duration::from_millis(20),
        ..ProxyConfig::default()
    })
    .await;
    door.ready.send_replace(false);
    let mut held = door.connect().await;
    held.write_all(received).await.unwrap();
    let mut answer = [0; 12];
    held.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    door.close().await;

    let door = Fixture::open(ProxyConfig::default()).await;
    door.ready.send_replace(false);
    let mut held = door.connect().await;
    held.write_all(received).await.unwrap();
    assert!(held.try_read(&mut answer).is_err(), "it is not ready yet");
    door.ready.send_replace(true);
    held.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    held.write_all(sent).await.unwrap();
    held.shutdown().await.unwrap();
    let mut rest = Vec::new();
    held.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(sent), "{rest:?}");
    door.close().await;
}

#[tokio::test]
async fn what_is_idle_for_too_long_is_ended_and_what_moves_is_not() {
    let door = Fixture::open(ProxyConfig {
        idle_timeout: Some(Duration::from_millis(300)),
        ..ProxyConfig::default()
    })
    .await;
    let mut stream = door.connect().await;
    stream
        .write_all(
            b"CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: web.demo.overlan.lan:80\r\n\r\n",
        )
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    // Nothing more is said: the end comes by itself, as a reset.
    assert_eq!(
        stream.read_u8().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    door.close().await;
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_replaces_the_dead_and_goes_with_its_door() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlan.sock");
    std::fs::write(&path, "a note").unwrap();
    assert!(matches!(
        UnixDoor::bind(&path, 0o600),
        Err(UnixDoorError::Occupied(_))
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"a note");
    std::fs::remove_file(&path).unwrap();

    // The socket that a crashed program leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let door = UnixDoor::bind(&path, 0o640).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(matches!(
        UnixDoor::bind(&path, 0o600),
        Err(UnixDoorError::InUse(_))
    ));

    let fixture = Fixture::open(ProxyConfig::default()).await;
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve_unix(
        door,
        ProxyConfig::default(),
        fixture.overlay.clone(),
        shutdown.clone(),
    ));
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    client.write_all(&[5, 1, 0]).await.unwrap();
    let mut request = vec![5, 1, 0, 3, u8::try_from(WEB.len()).unwrap()];
    request.extend_from_slice(WEB.as_bytes());
    request.extend_from_slice(&ECHO.to_be_bytes());
    request.extend_from_slice(b"hello");
    client.write_all(&request).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(
        answer,
        [&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], &b"hello"[..]].concat()
    );

    shutdown.cancel();
    served.await.unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    fixture.close().await;
}

#[test]
fn credentials_are_all_or_nothing() {
    let secret = |text: &str| overlan_protocol::key::Secret::new(text);
    let made = ProxyCredentials::new("anna".into(), secret("correct horse")).unwrap();
    assert!(made.are(b"anna", b"correct horse"));
    // Moved between the fields, cut, longer, empty.
    for (user, password) in [
        (&b"annac"[..], &b"orrect horse"[..]),
        (b"anna", b"correct hors"),
        (b"anna", b"correct horse "),
        (b"", b""),
        (b"", b"annacorrect horse"),
    ] {
        assert!(!made.are(user, password), "{user:?} {password:?}");
    }
    let unusable = |user: &str, password: &str| {
        ProxyCredentials::new(user.into(), secret(password)).unwrap_err()
    };
    assert_eq!(unusable("a:b", "c"), UnusableCredentials::Colon);
    assert_eq!(unusable("", "c"), UnusableCredentials::Length);
    assert_eq!(unusable("a", &"c".repeat(256)), UnusableCredentials::Length);
}

#[test]
fn only_loopback_is_open_without_credentials() {
    let at = |ip: IpAddr| SocketAddr::new(ip, 1080);
    for loopback in [
        at(Ipv4Addr::LOCALHOST.into()),
        at(Ipv6Addr::LOCALHOST.into()),
        "127.9.9.9:1".parse().unwrap(),
    ] {
        assert_eq!(check_listen(loopback, false), Ok(()));
    }
    for reachable in [
        at(Ipv4Addr::UNSPECIFIED.into()),
        at(Ipv6Addr::UNSPECIFIED.into()),
        "192.168.0.1:1080".parse().unwrap(),
    ] {
        assert_eq!(
            check_listen(reachable, false),
            Err(ListenRefused::NeedsCredentials(reachable))
        );
        assert_eq!(check_listen(reachable, true), Ok(()));
    }
}

#[tokio::test]
async fn doors_with_one_room_serve_no_more_than_it_holds() {
    let fixture = Fixture::open(ProxyConfig::default()).await;
    let config = ProxyConfig {
        max_connections: 1,
        ..ProxyConfig::default()
    };
    let mut doors = Vec::new();
    let stop = CancellationToken::new();
    for _ in 0..2 {
        let listener = loopback_listener().await;
        let address = listener.local_addr().unwrap();
        let (config, overlay) = (config.clone(), fixture.overlay.clone());
        tokio::spawn(serve(listener, config, overlay, stop.clone()));
        doors.push(address);
    }
    let mut first = TcpStream::connect(doors[0]).await.unwrap();
    first.write_all(&[5, 1, 0]).await.unwrap();
    first.read_exact(&mut [0; 2]).await.unwrap();
    let mut second = TcpStream::connect(doors[1]).await.unwrap();
    second.write_all(&[5, 1, 0]).await.unwrap();
    // The first goes on meanwhile, so both tasks had their turns.
    let mut request = vec![5, 1, 0, 3, u8::try_from(WEB.len()).unwrap()];
    request.extend_from_slice(WEB.as_bytes());
    request.extend_from_slice(&ECHO.to_be_bytes());
    first.write_all(&request).await.unwrap();
    first.read_exact(&mut [0; 10]).await.unwrap();
    for _ in 0..10 {
        first.write_all(b"?").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'?');
    }
    let waits = second.try_read(&mut [0; 2]).unwrap_err();
    assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
    drop(first);
    assert_eq!(second.read_u8().await.unwrap(), 5);
    stop.cancel();
    fixture.close().await;
}

/// A service that says half of an answer and then nothing.
async fn half_an_answer() -> (SocketAddr, JoinHandle<()>) {
    let listener = loopback_listener().await;
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(HALF).await.unwrap();
            open.push(stream);
        }
    });
    (address, serving)
}

/// Without a length: it ends with its connection.
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nthe first half";

#[tokio::test]
async fn a_door_that_ends_resets_what_it_cuts_short_in_every_protocol() {
    let (service, serving) = half_an_answer().await;
    let socks = {
        let mut request = vec![5, 1, 0, 5, 1, 0, 3, WEB.len() as u8];
        request.extend_from_slice(WEB.as_bytes());
        request.extend_from_slice(&OWN.to_be_bytes());
        request
    };
    let connect = format!("CONNECT {WEB}:{OWN} HTTP/1.1\r\nHost: {WEB}:{OWN}\r\n\r\n");
    let get = format!("GET http://{WEB}:{OWN}/ HTTP/1.1\r\nHost: {WEB}:{OWN}\r\n\r\n");
    for request in [&socks[..], connect.as_bytes(), get.as_bytes()] {
        let door = Fixture::open_with(ProxyConfig::default(), Some(service)).await;
        let mut client = door.connect().await;
        client.write_all(request).await.unwrap();
        let mut heard = Vec::new();
        // A proxy of HTTP may say more around it.
        while !String::from_utf8_lossy(&heard).contains("the first half") {
            assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0, "{heard:?}");
        }
        door.close().await;
        let end = client.read_to_end(&mut heard).await;
        assert_eq!(
            end.map_err(|error| error.kind()),
            Err(io::ErrorKind::ConnectionReset),
            "{}",
            String::from_utf8_lossy(request)
        );
    }
    serving.abort();
}

#[tokio::test]
async fn clients_that_half_closed_before_a_silent_service_give_their_places_back() {
    let (service, serving) = half_an_answer().await;
    let config = ProxyConfig {
        max_connections: 3,
        half_closed_timeout: Some(Duration::from_millis(100)),
        ..ProxyConfig::default()
    };
    let door = Fixture::open_with(config, Some(service)).await;
    let connect = format!("CONNECT {WEB}:{OWN} HTTP/1.1\r\nHost: {WEB}:{OWN}\r\n\r\nx");
    for _ in 0..9 {
        let mut client = door.connect().await;
        client.write_all(connect.as_bytes()).await.unwrap();
        // It has read all: with bytes unread its system would say by a reset that it is gone.
        let mut heard = Vec::new();
        while !heard.ends_with(b"the first half") {
            let read = timeout(Duration::from_secs(20), client.read_buf(&mut heard)).await;
            assert_ne!(read.expect("a place came back").unwrap(), 0);
        }
        client.shutdown().await.unwrap();
        // Gone, as a health check with a time limit is; the door sees a half-closed connection.
        drop(client);
    }
    let mut client = door.connect().await;
    let get = format!("GET http://{WEB}:{OWN}/ HTTP/1.1\r\nHost: {WEB}:{OWN}\r\n\r\n");
    client.write_all(get.as_bytes()).await.unwrap();
    let mut heard = [0; 12];
    let served = timeout(Duration::from_secs(20), client.read_exact(&mut heard)).await;
    served.expect("a place came back").unwrap();
    assert_eq!(&heard, b"HTTP/1.1 200");
    drop(client);
    door.close().await;
    serving.abort();
}
