use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn proxy(text: &str) -> UpstreamProxy {
    text.parse().unwrap()
}

fn at(host: &str, port: u16) -> HostPort {
    HostPort::new(host, port).unwrap()
}

#[test]
fn proxies_are_read_as_other_programs_write_them() {
    for (text, shown) in [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("HTTP://Proxy.example/", "http://proxy.example:80"),
        ("socks5h://127.0.0.1", "socks5://127.0.0.1:1080"),
        ("socks5://[::1]:9050", "socks5://[::1]:9050"),
        ("http://al%40ice:p%3Aw@proxy:8080", "http://proxy:8080"),
    ] {
        assert_eq!(proxy(text).to_string(), shown, "{text}");
    }
    let parsed = proxy("http://al%40ice:p%3Aw@proxy:8080");
    assert_eq!(parsed.user.as_deref(), Some("al@ice"));
    assert_eq!(parsed.password.as_ref().unwrap().reveal(), "p:w");
    assert!(!format!("{parsed:?}").contains("p:w"), "{parsed:?}");
    let nameless = proxy("http://proxy:8080");
    assert!(nameless.user.is_none() && !nameless.has_password());
    for wrong in [
        "",
        "http://",
        "https://proxy:443",
        "ftp://proxy",
        "http://proxy:0",
        "http://proxy:x",
        "http://[::1",
        "http://a b",
        "http://proxy/path",
        "http://%ff@proxy",
        "http://a%0d@proxy",
    ] {
        assert!(wrong.parse::<UpstreamProxy>().is_err(), "{wrong:?}");
    }
}

#[test]
fn exceptions_mean_names_with_what_is_below_addresses_and_ranges() {
    let proxy = proxy("http://proxy:8080")
        .except("corp.example, .lan *.test,10.0.0.0/8 fd00::/8,192.0.2.1,db:5432,nonsense:x,")
        .not_for_loopback();
    for (host, port, through) in [
        ("corp.example", 443, false),
        ("A.Corp.Example.", 443, false),
        ("notcorp.example", 443, true),
        ("relay.lan", 443, false),
        ("x.test", 1, false),
        ("10.9.8.7", 443, false),
        ("11.9.8.7", 443, true),
        ("fd12::1", 443, false),
        ("2001:db8::1", 443, true),
        ("192.0.2.1", 443, false),
        ("192.0.2.2", 443, true),
        ("db", 5432, false),
        ("db", 443, true),
        ("localhost", 443, false),
        ("127.0.0.1", 443, false),
    ] {
        assert_eq!(proxy.is_for(&at(host, port)), through, "{host}:{port}");
    }
    let all = proxy.except("*");
    assert!(!all.is_for(&at("anything.example", 443)));
    let given = "socks5://127.0.0.1:1080".parse::<UpstreamProxy>().unwrap();
    assert!(
        given.is_for(&at("127.0.0.1", 443)),
        "a proxy that was asked for"
    );
    assert!(given.is_at("0.0.0.0:1080".parse().unwrap()));
    assert!(given.is_at("127.0.0.1:1080".parse().unwrap()));
    assert!(!given.is_at("127.0.0.1:1081".parse().unwrap()));
}

/// Takes one connection, reads until `end` came, answers, and gives back what it read.
async fn one_answer(
    answers: Vec<(&'static [u8], &'static [u8])>,
) -> (u16, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        for (end, answer) in answers {
            let mut bytes = Vec::new();
            while !bytes.ends_with(end) {
                bytes.push(stream.read_u8().await.unwrap());
            }
            heard.push(bytes);
            stream.write_all(answer).await.unwrap();
        }
        let mut rest = Vec::new();
        // A client that gave up resets the connection.
        let _ = stream.read_to_end(&mut rest).await;
        heard.push(rest);
        heard
    });
    (port, served)
}

#[tokio::test]
async fn an_http_proxy_is_asked_with_the_credentials_and_hands_the_connection_over() {
    let (port, served) = one_answer(vec![(b"\r\n\r\n", b"HTTP/1.1 200 Ok\r\n\r\n")]).await;
    let way = Outgoing::through(proxy(&format!("http://me:secret@127.0.0.1:{port}")));
    let (mut stream, opened_in) = way.open(&at("relay.example", 443)).await.unwrap();
    assert_eq!(
        opened_in, None,
        "the way to the proxy is not the way to the relay"
    );
    stream.write_all(b"hello").await.unwrap();
    drop(stream);
    let heard = served.await.unwrap();
    let head = String::from_utf8(heard[0].clone()).unwrap();
    assert!(
        head.starts_with("CONNECT relay.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase()
            .contains("host: relay.example:443\r\n"),
        "{head}"
    );
    assert!(head.contains("Basic bWU6c2VjcmV0\r\n"), "{head}");
    assert_eq!(heard[1], b"hello");
}

#[tokio::test]
async fn a_proxy_that_says_no_is_told_with_its_reason_and_without_the_password() {
    for (user, answer, part) in [
        (
            "",
            &b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"[..],
            "wants a user",
        ),
        (
            "me:secret@",
            b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
            "refused the password",
        ),
        (
            "",
            b"HTTP/1.1 403 Filtered\r\nContent-Length: 0\r\n\r\n",
            "403",
        ),
        (
            "",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            "does not answer like an HTTP proxy",
        ),
        ("", b"HTTP/1.1 200 Ok\r\n\r\nsurprise", "before TLS began"),
    ] {
        let (port, served) = one_answer(vec![(b"\r\n\r\n", answer)]).await;
        let way = Outgoing::through(proxy(&format!("http://{user}127.0.0.1:{port}")));
        let error = way.open(&at("relay.example", 443)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains("relay.example:443"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_socks_proxy_is_asked_by_name_and_says_why_not() {
    let ok: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let (port, served) = one_answer(vec![
        (b"\x05\x02\x00\x02", b"\x05\x02"),
        (b"\x01\x02me\x06secret", b"\x01\x00"),
        (b"\x01\xbb", ok),
    ])
    .await;
    let way = Outgoing::through(proxy(&format!("socks5://me:secret@127.0.0.1:{port}")));
    let (mut stream, _) = way.open(&at("relay.example", 443)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    drop(stream);
    let heard = served.await.unwrap();
    assert_eq!(heard[2], b"\x05\x01\x00\x03\x0drelay.example\x01\xbb");
    assert_eq!(heard[3], b"hello");

    let refused: &[u8] = b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00";
    let (port, served) =
        one_answer(vec![(b"\x05\x01\x00", b"\x05\x00"), (b"\x01\xbb", refused)]).await;
    let way = Outgoing::through(proxy(&format!("socks5://127.0.0.1:{port}")));
    let text = way
        .open(&at("relay.example", 443))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("socks5://127.0.0.1") && text.contains("efused"),
        "{text}"
    );
    served.await.unwrap();
}

proptest! {
    #[test]
    fn no_text_harms(text in "\\PC{0,80}", host in "\\PC{0,40}", port in any::<u16>()) {
        if let Ok(proxy) = text.parse::<UpstreamProxy>() {
            let shown = proxy.to_string();
            prop_assert!(shown.parse::<UpstreamProxy>().is_ok(), "{}", shown);
            if let Ok(to) = HostPort::new(&host, port) {
                let _ = proxy.except(&text).is_for(&to);
            }
        }
    }
}
