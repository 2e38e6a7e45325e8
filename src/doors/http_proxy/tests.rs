use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64;
use overlan_protocol::key::Secret;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::doors::proxy::tests::*;
use crate::doors::proxy::{ProxyConfig, ProxyCredentials};

/// A destination at port [`OWN`]: what it hears, by connection, until each answer of `answers` was
/// given.
struct Server {
    address: SocketAddr,
    task: JoinHandle<Vec<String>>,
}

impl Server {
    /// Each answer is given to one request; `close` ends the connection after it.
    async fn start(answers: &[&'static str], close: bool) -> Self {
        let listener = loopback_listener().await;
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(answering(listener, answers.to_vec(), close));
        Self { address, task }
    }
}

async fn answering(listener: TcpListener, answers: Vec<&str>, close: bool) -> Vec<String> {
    let mut heard = Vec::new();
    let mut stream = None;
    for answer in answers {
        let mut current: TcpStream = match stream.take() {
            Some(stream) => stream,
            None => listener.accept().await.unwrap().0,
        };
        heard.push(head(&mut current).await);
        current.write_all(answer.as_bytes()).await.unwrap();
        stream = (!close).then_some(current);
    }
    heard
}

/// Reads to the empty line.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

/// All that the proxy says to `request`, after which the client closes its side.
async fn ask(door: &Fixture, request: &str) -> String {
    let mut stream = door.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    to_end(&mut stream).await
}

#[tokio::test]
async fn a_whole_url_is_forwarded_without_what_was_for_the_proxy() {
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=9\r\nX-Kept: 1\r\n\r\nhi";
    let server = Server::start(&[answer], true).await;
    let door = Fixture::open_with(ProxyConfig::default(), Some(server.address)).await;
    let heard = ask(
        &door,
        "GET http://web.demo.overlan.lan:88/a?b HTTP/1.1\r\nHost: web.demo.overlan.lan:88\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic YTpi\r\n\
         Connection: X-Gone, close\r\n\
         X-Gone: 1\r\nX-Stays: 2\r\n\r\n",
    )
    .await;
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(
        heard.ends_with("\r\n\r\nhi") && heard.contains("X-Kept: 1"),
        "{heard}"
    );
    assert!(!heard.to_lowercase().contains("keep-alive"), "{heard}");
    let asked = &server.task.await.unwrap()[0];
    assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("Host: web.demo.overlan.lan:88\r\n"),
        "{asked}"
    );
    assert!(asked.contains("X-Stays: 2\r\n"), "{asked}");
    for gone in ["proxy-", "x-gone"] {
        assert!(!asked.to_lowercase().contains(gone), "{asked}");
    }
    door.close().await;
}

#[tokio::test]
async fn both_sides_keep_their_connection_and_an_idle_one_that_ended_is_replaced() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
    for close in [false, true] {
        let server = Server::start(&[answer, answer, answer], close).await;
        let door = Fixture::open_with(ProxyConfig::default(), Some(server.address)).await;
        let mut client = door.connect().await;
        for _ in 0..3 {
            client
                .write_all(b"GET http://web.demo.overlan.lan:88/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            let head = head(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let mut body = [0; 3];
            client.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"one");
        }
        // Without `close` all three came on one connection: another one was never accepted.
        assert_eq!(server.task.await.unwrap().len(), 3);
        door.close().await;
    }
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst";
    let listener = loopback_listener().await;
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        let said = to_end(&mut stream).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        asked
    });
    let door = Fixture::open_with(ProxyConfig::default(), Some(address)).await;
    let heard = ask(
        &door,
        "GET http://web.demo.overlan.lan:88/ HTTP/1.1\r\nHost: a\r\n\
         Connection: Upgrade\r\nUpgrade: echo\r\n\r\nlast",
    )
    .await;
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    assert!(heard.to_lowercase().contains("upgrade: echo"), "{heard}");
    assert!(heard.ends_with("\r\n\r\nfirstlast"), "{heard}");
    let asked = server.await.unwrap().to_lowercase();
    assert!(
        asked.contains("connection: upgrade") && asked.contains("upgrade: echo"),
        "{asked}"
    );
    door.close().await;
}

#[tokio::test]
async fn connect_loses_nothing_that_was_sent_early() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let early = "early ".repeat(20_000);
    let heard = ask(
        &door,
        &format!("CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: a\r\n\r\n{early}"),
    )
    .await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body == early);
    door.close().await;
}

#[tokio::test]
async fn every_failure_has_its_status_and_its_word() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let host =
        |port: u16| format!("CONNECT web.demo.overlan.lan:{port} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (request, status, word) in [
        (host(DENIED), 403, "http_request_denied"),
        (host(NO_RELAY), 503, "destination_ip_unroutable"),
        (host(REFUSED), 502, "connection_refused"),
        (host(TIMED_OUT), 504, "connection_timeout"),
        (host(BROKEN), 500, "proxy_internal_error"),
        (
            "CONNECT nobody.demo.overlan.lan:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            502,
            "dns_error",
        ),
        (
            "GET http://example.org/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            403,
            "http_request_denied",
        ),
        (
            "CONNECT web.demo.overlan.lan HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            400,
            "http_request_error",
        ),
        (
            "GET https://web.demo.overlan.lan/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            400,
            "http_request_error",
        ),
        (
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:1080\r\n\r\n".into(),
            400,
            "http_request_error",
        ),
    ] {
        let heard = ask(&door, &request).await;
        let says = heard.starts_with(&format!("HTTP/1.1 {status} "))
            && heard.contains(&format!("overlan; error={word}"));
        assert!(says, "{request} {heard}");
        // What happened, and what to do.
        let body = heard.split_once("\r\n\r\n").unwrap().1;
        assert!(
            body.starts_with("overlan: ") && body.lines().count() == 2,
            "{body}"
        );
    }
    let heard = ask(
        &door,
        "HEAD http://web.demo.overlan.lan:83/ HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    assert!(heard.ends_with("\r\n\r\n"), "{heard}");
    door.close().await;
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_passed_on() {
    let credentials = ProxyCredentials::new("anna".into(), Secret::new("correct horse")).unwrap();
    let door = Fixture::open(ProxyConfig {
        credentials: Some(credentials),
        ..ProxyConfig::default()
    })
    .await;
    let with =
        |field: &str| format!("CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    let basic = |text: &str| {
        format!(
            "Proxy-Authorization: basic {}\r\n",
            BASE64.encode(text.as_bytes())
        )
    };
    for field in [
        String::new(),
        basic("anna:wrong"),
        basic("anna"),
        "Proxy-Authorization: Basic !\r\n".to_owned(),
        "Proxy-Authorization: Bearer x\r\n".to_owned(),
    ] {
        let heard = ask(&door, &with(&field)).await;
        assert!(heard.starts_with("HTTP/1.1 407 "), "{heard}");
        assert!(
            heard
                .to_lowercase()
                .contains("proxy-authenticate: basic realm="),
            "{heard}"
        );
    }
    let heard = ask(&door, &with(&basic("anna:correct horse"))).await;
    assert!(
        heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("\r\n\r\n"),
        "{heard}"
    );
    door.close().await;
}

#[tokio::test]
async fn who_gives_no_password_has_to_leave_and_who_did_stays() {
    let credentials = ProxyCredentials::new("anna".into(), Secret::new("correct horse")).unwrap();
    let door = Fixture::open(ProxyConfig {
        credentials: Some(credentials),
        handshake_timeout: Duration::from_millis(500),
        ..ProxyConfig::default()
    })
    .await;
    let mut known = door.connect().await;
    let basic = BASE64.encode(b"anna:correct horse");
    let request = format!(
        "CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: a\r\n\
         Proxy-Authorization: basic {basic}\r\n\r\n"
    );
    known.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut known).await.starts_with("HTTP/1.1 200 "));
    // Asks again and again, on a connection that would be kept.
    let mut stranger = door.connect().await;
    let request = b"GET http://web.demo.overlan.lan/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let asking = async {
        let mut heard = [0; 4_096];
        loop {
            let asked = stranger.write_all(request).await;
            match stranger.read(&mut heard).await {
                Ok(1..) if asked.is_ok() => {}
                Ok(_) | Err(_) => return,
            }
        }
    };
    let left = timeout(Duration::from_secs(20), asking).await;
    left.expect("it is thrown out");
    known.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    known.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    drop(known);
    door.close().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let server = Server::start(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], true).await;
    let door = Fixture::open_with(ProxyConfig::default(), Some(server.address)).await;
    let mut client = door.connect().await;
    client
        .write_all(b"GET http://web.demo.overlan.lan:88/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let head = head(&mut client).await;
    assert!(head.to_lowercase().contains("content-length: 10"), "{head}");
    let mut body = Vec::new();
    let ended = client.read_to_end(&mut body).await;
    assert!(ended.is_err() || body.len() < 10, "{body:?}");
    door.close().await;
}

proptest! {
    #[test]
    fn no_field_breaks_the_reading_of_credentials(
        value in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut fields = Fields::default();
        fields.push("Proxy-Authorization", [b"Basic ", &value[..]].concat());
        if let Some((user, _)) = credentials::of(&fields) {
            prop_assert!(!user.contains(&b':'));
        }
    }
}

#[tokio::test]
async fn a_browser_finds_the_script_only_by_the_address_of_the_proxy() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let own = door.address.to_string();
    let port = door.address.port();
    for (method, path, host, status) in [
        ("GET", "/proxy.pac", own.clone(), 200),
        ("HEAD", "/proxy.pac", own.clone(), 200),
        ("GET", "/wpad.dat", format!("localhost:{port}"), 200),
        ("GET", "/proxy.pac", format!("127.0.0.9:{port}"), 200),
        ("GET", "/proxy.pac", format!("[::1]:{port}"), 200),
        // Names that somebody else can make lead here.
        ("GET", "/proxy.pac", format!("evil.example:{port}"), 421),
        (
            "GET",
            "/proxy.pac",
            format!("localhost.evil.example:{port}"),
            421,
        ),
        ("GET", "/proxy.pac", format!("192.0.2.1:{port}"), 421),
        ("GET", "/proxy.pac", "127.0.0.1:1".to_owned(), 421),
        ("GET", "/proxy.pac", "127.0.0.1".to_owned(), 421),
        ("GET", "/proxy.pac?x", own.clone(), 400),
        ("GET", "/", own.clone(), 400),
        ("POST", "/proxy.pac", own.clone(), 400),
    ] {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let heard = ask(&door, &request).await;
        assert!(
            heard.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request} {heard}"
        );
        let is_script = heard.contains("FindProxyForURL");
        assert_eq!(
            is_script,
            status == 200 && method == "GET",
            "{request} {heard}"
        );
        if is_script {
            assert!(
                heard.contains("Content-Type: application/x-ns-proxy-autoconfig\r\n"),
                "{heard}"
            );
            assert!(heard.contains(&format!("\"PROXY {host}\"")), "{heard}");
        }
    }
    door.close().await;

    let credentials = ProxyCredentials::new("anna".into(), Secret::new("correct horse")).unwrap();
    let door = Fixture::open(ProxyConfig {
        credentials: Some(credentials),
        ..ProxyConfig::default()
    })
    .await;
    let heard = ask(
        &door,
        &format!("GET /proxy.pac HTTP/1.1\r\nHost: {}\r\n\r\n", door.address),
    )
    .await;
    assert!(heard.starts_with("HTTP/1.1 407 "), "{heard}");
    door.close().await;
}
