//! What RFC 9112 says that an intermediary must do; each test is named after its section.

use super::*;

#[tokio::test]
async fn rfc9112_2_2_a_bare_cr_or_a_space_before_the_first_field_is_refused() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let url = door.url("/");
        for request in [
            format!("GET {url} HTTP/1.1\r\nHost: {HOST}\r\nX: a\rb\r\n\r\n"),
            format!("GET {url} HTTP/1.1\r\n Host: {HOST}\r\n\r\n"),
            format!("GET {url} HTTP/1.1\r\nHost: {HOST}\r\nX: a\0b\r\n\r\n"),
        ] {
            assert_eq!(door.status(&request).await, 400, "{request:?}");
        }
        // Empty lines before a request are none of it; the proxy knows HTTP by a letter.
        if !door.is_proxy() {
            let request = format!("\r\n{}", door.get("Connection: close\r\n"));
            assert_eq!(door.status(&request).await, 200);
            service.heard();
        }
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_2_3_other_versions_are_refused_and_ours_goes_on() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let url = door.url("/");
        let status = async |version: &str| {
            let request = format!("GET {url} {version}\r\nHost: {HOST}\r\n\r\n");
            door.status(&request).await
        };
        assert_eq!(status("HTTP/2.0").await, 505);
        for wrong in ["http/1.1", "HTTP/1", "HTTP/1.10", "HTTP/1.1 x", "HTP/1.1"] {
            assert_eq!(status(wrong).await, 400, "{wrong}");
        }
        assert_eq!(status("HTTP/1.0").await, 200);
        assert!(service.heard_one().contains(" HTTP/1.1\r\n"));
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_3_what_is_no_request_line_is_refused() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for line in [
            "GET /a`b HTTP/1.1",
            "GET /a<b HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET",
            "GET /",
            "G@T / HTTP/1.1",
            "GET * HTTP/1.1",
            "GET ftp//x HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://a b/ HTTP/1.1",
            "GET http://[::1/ HTTP/1.1",
            "GET http://[::1]x/ HTTP/1.1",
            "GET http://a%zz/ HTTP/1.1",
            "GET http://a/#top HTTP/1.1",
        ] {
            let request = format!("{line}\r\nHost: {HOST}\r\n\r\n");
            assert_eq!(door.status(&request).await, 400, "{line}");
        }
        let long = door.request("GET", &format!("/{}", "a".repeat(70_000)), "");
        assert_eq!(door.status(&long).await, 414);
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_3_2_a_request_has_one_valid_host() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let url = door.url("/");
        for hosts in [
            "",
            "Host: web\r\nHost: evil\r\n",
            "Host: web\r\nHost: web\r\n",
            "Host: a b\r\n",
            "Host: user@web\r\n",
            "Host: web:x\r\n",
            "Host: web:99999\r\n",
            "Host: web/path\r\n",
            "Host: a, b\r\n",
        ] {
            let request = format!("GET {url} HTTP/1.1\r\n{hosts}\r\n");
            assert_eq!(door.status(&request).await, 400, "{hosts:?}");
        }
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_3_2_2_the_target_replaces_the_host_field() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for (target, host, path) in [
            (
                "http://web.demo.overlan.lan:88/a?b",
                "web.demo.overlan.lan:88",
                "/a?b",
            ),
            (
                "HTTP://WEB.demo.overlan.lan:88",
                "WEB.demo.overlan.lan:88",
                "/",
            ),
            (
                "http://web.demo.overlan.lan:88?q",
                "web.demo.overlan.lan:88",
                "/?q",
            ),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
            assert_eq!(door.status(&request).await, 200, "{target}");
            let heard = service.heard_one();
            assert_eq!(values(&heard, "host"), [host], "{heard}");
            assert!(
                heard.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                "{heard}"
            );
        }
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_3_2_2_the_target_decides_the_port() {
    let door = Fixture::open(ProxyConfig::default()).await;
    let door = Door::Proxy(door);
    for port in [
        "99999", "65616", "abc", "0", "+80", "-1", "80x", " 80", "80:80",
    ] {
        let request =
            format!("GET http://web.demo.overlan.lan:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(door.status(&request).await, 400, "{port:?}");
        let request = format!("CONNECT web.demo.overlan.lan:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(door.status(&request).await, 400, "CONNECT {port:?}");
    }
    // An empty port is the scheme's own, where an echo is: it answers with the request itself,
    // which is no answer.
    for own in ["", ":", ":80", ":00080"] {
        let request = format!("GET http://web.demo.overlan.lan{own}/ HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(door.status(&request).await, 502, "{own:?}");
    }
    for none in [
        "CONNECT web.demo.overlan.lan",
        "CONNECT web.demo.overlan.lan:",
        "CONNECT /",
        "CONNECT http://a:1/",
    ] {
        let request = format!("{none} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(door.status(&request).await, 400, "{none}");
    }
    door.close().await;
}

#[tokio::test]
async fn rfc9112_3_2_4_options_of_a_whole_server_become_an_asterisk() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let target = match door.is_proxy() {
            true => format!("http://{HOST}"),
            false => "*".to_owned(),
        };
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(door.status(&request).await, 200);
        let heard = service.heard_one();
        assert!(heard.starts_with("OPTIONS * HTTP/1.1\r\n"), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_5_1_a_space_before_a_colon_is_refused_and_in_answers_removed() {
    let answer =
        "HTTP/1.1 200 OK\r\nX-Set : a\r\nContent-Length : 2\r\nConnection: close\r\n\r\nok";
    let service = Service::answering(answer, true).await;
    for door in Door::both(&service).await {
        for field in [
            "X-A : b\r\n",
            "Content-Length : 3\r\n",
            ": b\r\n",
            "X A: b\r\n",
            "no colon\r\n",
        ] {
            assert_eq!(door.status(&door.get(field)).await, 400, "{field:?}");
        }
        let heard = door.ask(&door.get("")).await;
        assert!(heard.contains("\r\nX-Set: a\r\n"), "{heard}");
        assert!(
            has(&heard, "content-length", "2") && heard.ends_with("\r\n\r\nok"),
            "{heard}"
        );
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_5_2_folded_lines_are_refused_and_in_answers_one_line() {
    let answer =
        "HTTP/1.1 200 OK\r\nX-Set: a\r\n\t b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let service = Service::answering(answer, true).await;
    for door in Door::both(&service).await {
        assert_eq!(door.status(&door.get("X-A: b\r\n c\r\n")).await, 400);
        let heard = door.ask(&door.get("")).await;
        assert!(heard.contains("\r\nX-Set: a b\r\n"), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_6_1_transfer_codings_that_are_not_understood_are_refused() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for (coding, status) in [
            ("gzip, chunked", 501),
            ("gzip", 400),
            ("identity", 400),
            ("chunked, gzip", 400),
            ("chunked, chunked", 400),
            ("xchunked", 400),
            ("chunked;q=1", 400),
            ("", 400),
        ] {
            let request = door.request("POST", "/", &format!("Transfer-Encoding: {coding}\r\n"));
            let request = format!("{request}0\r\n\r\n");
            assert_eq!(door.status(&request).await, status, "{coding}");
        }
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
        let both = format!("{}0\r\n\r\n", door.request("POST", "/", both));
        assert_eq!(door.status(&both).await, 400);
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        let twice = format!("{}0\r\n\r\n", door.request("POST", "/", twice));
        assert_eq!(door.status(&twice).await, 400);
        // 1.0 has none.
        let old = door.request("POST", "/", "Transfer-Encoding: chunked\r\n");
        let old = format!("{}0\r\n\r\n", old.replace("HTTP/1.1", "HTTP/1.0"));
        assert_eq!(door.status(&old).await, 400);
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_6_2_and_6_3_a_content_length_is_one_number() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for length in [
            "+3",
            "-3",
            "3, 3",
            "3 3",
            "0x3",
            "",
            "3.0",
            "99999999999999999999",
        ] {
            let request = door.request("POST", "/", &format!("Content-Length: {length}\r\n"));
            assert_eq!(
                door.status(&format!("{request}abc")).await,
                400,
                "{length:?}"
            );
        }
        for second in ["3", "4"] {
            let fields = format!("Content-Length: 3\r\nContent-Length: {second}\r\n");
            let request = format!("{}abc", door.request("POST", "/", &fields));
            assert_eq!(door.status(&request).await, 400, "{second}");
        }
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_6_3_an_answer_that_is_framed_badly_is_502() {
    for fields in [
        "Content-Length: x\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        let service = Service::answering(format!("HTTP/1.1 200 OK\r\n{fields}\r\nok"), true).await;
        for door in Door::both(&service).await {
            assert_eq!(door.status(&door.get("")).await, 502, "{fields}");
            door.close().await;
        }
    }
    for answer in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno\r\n\r\n",
        "",
    ] {
        // Whoever speaks another protocol waits for an answer to it.
        let waits = answer.starts_with("SSH");
        let service = Service::start(move |mut stream, _| async move {
            let _ = head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            if waits {
                let _ = stream.read_u8().await;
            }
        })
        .await;
        for door in Door::both(&service).await {
            assert_eq!(door.status(&door.get("")).await, 502, "{answer:?}");
            door.close().await;
        }
    }
    // Who passes both on must take away the length.
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let service = Service::answering(both, true).await;
    for door in Door::both(&service).await {
        let heard = door.ask(&door.get("Connection: close\r\n")).await;
        assert!(values(&heard, "content-length").is_empty(), "{heard}");
        assert!(heard.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_6_3_answers_that_have_no_body_end_with_their_head() {
    for (method, status, length) in [
        ("HEAD", "200 OK", "Content-Length: 9\r\n"),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n"),
        ("GET", "204 No Content", ""),
        ("GET", "304 Not Modified", "Content-Length: 9\r\n"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{length}\r\n");
        // It stays open: only the rule says where the answer ends.
        let service = Service::answering(answer, false).await;
        for door in Door::both(&service).await {
            let request = door.request(method, "/", "Connection: close\r\n");
            let mut client = door.connect().await;
            client.write_all(request.as_bytes()).await.unwrap();
            // In order and soon, although neither side has closed: nothing else is waited for.
            let heard = timeout(Duration::from_secs(10), heard_to_end(&mut client)).await;
            let (heard, in_order) = heard.expect("nothing follows the head");
            assert!(
                heard.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{heard}"
            );
            assert!(heard.ends_with("\r\n\r\n") && in_order, "{heard}");
            door.close().await;
        }
    }
}

#[tokio::test]
async fn rfc9112_7_1_chunks_are_read_and_written_anew() {
    let service = Service::hearing("0\r\n\r\n").await;
    for door in Door::both(&service).await {
        let request = door.request("POST", "/", "Transfer-Encoding: chunked\r\n");
        let sent =
            format!("{request}3;name=\"value\"\r\nabc\r\n00A  ;x\r\n0123456789\r\n000\r\n\r\n");
        assert_eq!(door.status(&sent).await, 200);
        let heard = service.heard_one();
        assert!(has(&heard, "transfer-encoding", "chunked"), "{heard}");
        let (_, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(
            body == "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n",
            "{body:?}"
        );
        for wrong in [
            "x\r\n",
            "-1\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3 x\r\nabc\r\n0\r\n\r\n",
            "10000000000000000\r\n",
            "\r\n",
        ] {
            assert_eq!(
                door.status(&format!("{request}{wrong}")).await,
                400,
                "{wrong:?}"
            );
        }
        let long = format!("{request}1;{}", "x".repeat(9000));
        assert_eq!(door.status(&long).await, 400);
        service.heard();
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_7_1_2_trailers_pass_but_none_that_frames_leads_or_names_somebody() {
    let last = "0\r\nX-Sum: 1\r\n\r\n";
    let service = Service::hearing(last).await;
    for door in Door::both(&service).await {
        let request = door.request(
            "POST",
            "/",
            "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
        );
        let bad = "Content-Length: 9\r\nHost: evil\r\nTransfer-Encoding: x\r\nAuthorization: x\r\nConnection: X-Gone\r\nX-Gone: 1\r\n";
        let claims = match door.is_proxy() {
            true => "",
            false => "X-Overlan-User: root\r\nX_Overlan.User: root\r\nForwarded: for=1\r\n",
        };
        let sent = format!("{request}1\r\na\r\n0\r\n{bad}{claims}X-Sum: 1\r\n\r\n");
        assert_eq!(door.status(&sent).await, 200);
        let heard = service.heard_one();
        assert!(heard.ends_with(&format!("1\r\na\r\n{last}")), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_7_1_a_client_of_1_0_gets_no_chunks() {
    let chunks =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
    let service = Service::answering(chunks, false).await;
    for door in Door::both(&service).await {
        let request = door.get("").replace("HTTP/1.1", "HTTP/1.0");
        let heard = door.ask(&request).await;
        assert!(values(&heard, "transfer-encoding").is_empty(), "{heard}");
        assert!(heard.ends_with("\r\n\r\nok"), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_8_an_answer_that_is_cut_off_does_not_look_whole() {
    for (answer, reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfx",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true),
    ] {
        let heard = Arc::new(Notify::new());
        let service = Service::start({
            let heard = Arc::clone(&heard);
            move |mut stream, _| {
                let heard = Arc::clone(&heard);
                async move {
                    let _ = head(&mut stream).await;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if reset {
                        // A reset may overtake what was written.
                        heard.notified().await;
                        stream.set_zero_linger().unwrap();
                    }
                }
            }
        })
        .await;
        for door in Door::both(&service).await {
            for old in [false, true] {
                let request = door.get("Connection: close\r\n");
                let request = match old {
                    true => request.replace("HTTP/1.1", "HTTP/1.0"),
                    false => request,
                };
                let mut stream = door.connect().await;
                stream.write_all(request.as_bytes()).await.unwrap();
                let begin = until_heard(&mut stream, "half").await;
                heard.notify_one();
                let (end, in_order) = heard_to_end(&mut stream).await;
                let heard = begin + &end;
                let chunked = has(&heard, "transfer-encoding", "chunked");
                let shows = chunked && !heard.ends_with("0\r\n\r\n");
                assert!(!in_order || shows, "{answer:?} {heard:?}");
            }
            door.close().await;
        }
    }
}

#[tokio::test]
async fn rfc9112_8_an_answer_that_ends_with_its_connection_is_whole() {
    let service = Service::answering("HTTP/1.1 200 OK\r\n\r\nall of it", true).await;
    for door in Door::both(&service).await {
        let heard = door.ask(&door.get("Connection: close\r\n")).await;
        assert!(
            heard.ends_with("\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"),
            "{heard}"
        );
        let old = door.get("").replace("HTTP/1.1", "HTTP/1.0");
        let mut stream = door.connect().await;
        stream.write_all(old.as_bytes()).await.unwrap();
        let (heard, in_order) = heard_to_end(&mut stream).await;
        assert!(in_order && heard.ends_with("\r\n\r\nall of it"), "{heard}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_8_a_request_that_is_cut_off_is_400_and_a_cut_for_the_service() {
    let service = Service::start(|mut stream, notes| async move {
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).await;
        let all = String::from_utf8(all).unwrap();
        notes.note(format!("{} {all}", ended.is_ok()));
    })
    .await;
    for door in Door::both(&service).await {
        for (fields, body) in [
            ("Content-Length: 10\r\n", "half"),
            ("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        ] {
            let mut stream = door.connect().await;
            let request = format!("{}{body}", door.request("POST", "/", fields));
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let heard = to_end(&mut stream).await;
            assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
        }
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9112_9_3_connections_are_kept_and_ended_as_both_sides_say() {
    let kept = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=9\r\n\r\nok";
    let service = Service::answering(kept, false).await;
    for door in Door::both(&service).await {
        let twice = format!("{}{}", door.get(""), door.get("Connection: close\r\n"));
        let heard = door.ask(&twice).await;
        assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2, "{heard}");
        assert_eq!(heard.matches("Connection: close").count(), 1, "{heard}");
        assert!(!heard.to_lowercase().contains("keep-alive"), "{heard}");
        // One of 1.0 is ended, whatever it asks for.
        let old = door
            .get("Connection: keep-alive\r\n")
            .replace("HTTP/1.1", "HTTP/1.0");
        assert!(has(&door.ask(&old).await, "connection", "close"));
        door.close().await;
    }
}

#[tokio::test]
async fn a_head_has_limits_that_its_refusal_names() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let many = "X-A: b\r\n".repeat(100);
        let heard = door.ask(&door.get(&many)).await;
        assert!(
            heard.starts_with("HTTP/1.1 431 ") && heard.contains("100 fields"),
            "{heard}"
        );
        let fits = "X-A: b\r\n".repeat(99);
        assert_eq!(door.status(&door.get(&fits)).await, 200);
        let long = format!("X-A: {}\r\n", "b".repeat(110_000));
        let heard = door.ask(&door.get(&long)).await;
        assert!(
            heard.starts_with("HTTP/1.1 431 ") && heard.contains("64 KiB"),
            "{heard}"
        );
        assert_eq!(service.heard().len(), 1);
        door.close().await;
    }
}
