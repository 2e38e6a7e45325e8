//! The duties of an intermediary by RFC 9110; each test is named after its section.

use super::*;

#[tokio::test]
async fn rfc9110_4_2_4_a_user_name_in_the_target_is_refused() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for user in ["me", "me:secret", ""] {
            let request = format!("GET http://{user}@{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            assert_eq!(door.status(&request).await, 400, "{user}");
        }
        assert_eq!(service.heard(), [""; 0]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_6_6_1_an_answer_without_a_date_gets_one() {
    let with = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                Content-Length: 2\r\nConnection: close\r\n\r\nok";
    for (answer, date) in [(OK, None), (with, Some("Sun, 06 Nov 1994 08:49:37 GMT"))] {
        let service = Service::answering(answer, true).await;
        for door in Door::both(&service).await {
            let heard = door.ask(&door.get("")).await;
            let dates = values(&heard, "date");
            assert_eq!(dates.len(), 1, "{heard}");
            assert!(date.is_none_or(|date| dates[0] == date), "{heard}");
            door.close().await;
        }
    }
}

#[tokio::test]
async fn rfc9110_7_6_1_fields_about_the_connection_end_with_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n\
                  Keep-Alive: timeout=9\r\nProxy-Connection: x\r\nUpgrade: foo\r\n\
                  X-Stays: 1\r\n\r\nok";
    let service = Service::answering(answer, true).await;
    for door in Door::both(&service).await {
        let fields = "Connection: X-Gone,  x-two\r\nConnection: Host, Content-Length\r\n\
                      X-Gone: 1\r\nX-Two: 1\r\nKeep-Alive: 5\r\n\
                      Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic YTpi\r\n\
                      TE: gzip, trailers\r\nUpgrade: foo\r\nX-Stays: 2\r\nContent-Length: 0\r\n";
        let heard = door.ask(&door.get(fields)).await;
        for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(values(&heard, gone).is_empty(), "{gone}: {heard}");
        }
        assert!(has(&heard, "x-stays", "1"), "{heard}");
        let asked = service.heard_one();
        for gone in [
            "x-gone",
            "x-two",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "upgrade",
        ] {
            assert!(values(&asked, gone).is_empty(), "{gone}: {asked}");
        }
        // What another mechanism means stays, and trailers are taken here.
        assert!(
            has(&asked, "host", HOST) && has(&asked, "content-length", "0"),
            "{asked}"
        );
        assert!(
            has(&asked, "te", "trailers") && has(&asked, "connection", "TE"),
            "{asked}"
        );
        assert!(has(&asked, "x-stays", "2"), "{asked}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_7_6_2_max_forwards_counts_down_and_ends_here() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        for method in ["OPTIONS", "TRACE"] {
            let fields = "Max-Forwards: 0\r\nX-Seen: 1\r\nCookie: secret\r\nConnection: close\r\n";
            let heard = door.ask(&door.request(method, "/", fields)).await;
            assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
            if method == "TRACE" {
                assert!(has(&heard, "content-type", "message/http"), "{heard}");
                assert!(
                    heard.contains("X-Seen: 1") && !heard.contains("secret"),
                    "{heard}"
                );
            }
            assert_eq!(service.heard(), [""; 0]);
            door.ask(&door.request(method, "/", "Max-Forwards: 3\r\n"))
                .await;
            assert!(has(&service.heard_one(), "max-forwards", "2"));
        }
        door.ask(&door.get("Max-Forwards: 0\r\n")).await;
        assert!(has(&service.heard_one(), "max-forwards", "0"));
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_7_6_3_messages_name_who_passed_them_on() {
    let service = Service::answering(OK, true).await;
    for door in Door::both(&service).await {
        let heard = door.ask(&door.get("Via: 1.0 before\r\n")).await;
        assert!(has(&heard, "via", "1.1 overlan"), "{heard}");
        let asked = service.heard_one();
        assert_eq!(
            values(&asked, "via"),
            ["1.0 before", "1.1 overlan"],
            "{asked}"
        );
        door.ask(&door.get("").replace("HTTP/1.1", "HTTP/1.0"))
            .await;
        assert_eq!(values(&service.heard_one(), "via"), ["1.0 overlan"]);
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_7_8_only_an_upgrade_that_was_asked_for_is_one() {
    // It changes to WebSocket, asked or not, and repeats what it hears after that.
    let service = Service::start(|mut stream, notes| async move {
        let asked = head(&mut stream).await;
        notes.note(asked);
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let said = to_end(&mut stream).await;
        notes.note(said.clone());
        let _ = stream.write_all(said.as_bytes()).await;
    })
    .await;
    for door in Door::both(&service).await {
        for unasked in [
            "",
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c/1, HTTP/2.0, H2\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        ] {
            assert_eq!(door.status(&door.get(unasked)).await, 502, "{unasked}");
            let heard = service.heard();
            for never in ["upgrade", "http2-settings"] {
                assert!(values(&heard[0], never).is_empty(), "{heard:?}");
            }
            assert_eq!(heard.len(), 1, "the client's bytes came through: {heard:?}");
        }
        let old = door.get("Connection: Upgrade\r\nUpgrade: websocket\r\n");
        assert_eq!(door.status(&old.replace("HTTP/1.1", "HTTP/1.0")).await, 502);
        service.heard();

        let mut stream = door.connect().await;
        let asked = door.get("Connection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\n");
        stream
            .write_all(format!("{asked}last").as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let heard = to_end(&mut stream).await;
        assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
        assert!(
            has(&heard, "upgrade", "websocket") && has(&heard, "connection", "Upgrade"),
            "{heard}"
        );
        assert!(heard.ends_with("\r\n\r\nfirstlast"), "{heard}");
        let asked = &service.heard()[0];
        assert_eq!(values(asked, "upgrade"), ["WebSocket"], "{asked}");
        // What is not listed is for the proxy alone, which only carries it.
        let other = "Connection: Upgrade\r\nUpgrade: shout\r\n";
        assert_eq!(door.status(&door.get(other)).await, 502);
        let passed = values(&service.heard()[0], "upgrade");
        assert_eq!(passed.is_empty(), !door.is_proxy(), "{passed:?}");
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_9_3_6_the_answer_to_connect_has_no_body() {
    let door = Door::Proxy(Fixture::open(ProxyConfig::default()).await);
    let request = "CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: evil:1\r\n\r\n";
    let mut stream = door.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let heard = head(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    for framing in ["content-length", "transfer-encoding"] {
        assert!(values(&heard, framing).is_empty(), "{heard}");
    }
    for body in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
        let request =
            format!("CONNECT web.demo.overlan.lan:80 HTTP/1.1\r\nHost: a\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(door.status(&request).await, 400, "{body}");
    }
    drop(stream);
    door.close().await;
}

#[tokio::test]
async fn rfc9110_10_1_1_an_expectation_passes_and_only_the_service_says_continue() {
    // It refuses without the body, or takes it.
    for refuses in [true, false] {
        let service = Service::start(move |mut stream, notes| async move {
            let asked = head(&mut stream).await;
            let refusal =
                "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            if refuses {
                stream.write_all(refusal.as_bytes()).await.unwrap();
            } else {
                stream
                    .write_all(b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n")
                    .await
                    .unwrap();
            }
            let mut body = [0; 4];
            let taken = stream.read_exact(&mut body).await.is_ok();
            notes.note(format!("{taken} {asked}"));
            let _ = stream.write_all(OK.as_bytes()).await;
        })
        .await;
        for door in Door::both(&service).await {
            let mut stream = door.connect().await;
            let fields = "Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n";
            let request = door.request("PUT", "/", fields);
            stream.write_all(request.as_bytes()).await.unwrap();
            let first = head(&mut stream).await;
            if refuses {
                assert!(first.starts_with("HTTP/1.1 413 "), "{first}");
                assert!(has(&first, "connection", "close"), "{first}");
                drop(stream);
            } else {
                assert!(first.starts_with("HTTP/1.1 100 Continue\r\n"), "{first}");
                assert!(has(&first, "x-early", "1"), "{first}");
                stream.write_all(b"body").await.unwrap();
                let heard = to_end(&mut stream).await;
                assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
                let heard = service.heard_one();
                assert!(
                    heard.starts_with("true ") && has(&heard, "expect", "100-continue"),
                    "{heard}"
                );
            }
            door.close().await;
        }
    }
    // A service that says nothing of it is waited for.
    let service = Service::hearing("body").await;
    for door in Door::both(&service).await {
        let request = door.request("PUT", "/", "Content-Length: 4\r\nExpect: 100-continue\r\n");
        let heard = door.ask(&format!("{request}body")).await;
        assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
        service.heard();
        let old = door.request("PUT", "/", "Content-Length: 4\r\nExpect: 100-continue\r\n");
        let heard = door
            .ask(&format!("{}body", old.replace("HTTP/1.1", "HTTP/1.0")))
            .await;
        assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
        assert!(values(&service.heard_one(), "expect").is_empty());
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_15_2_interim_answers_pass_but_not_to_1_0() {
    let answer = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n{OK}"
    );
    let service = Service::answering(answer, true).await;
    for door in Door::both(&service).await {
        let heard = door.ask(&door.get("")).await;
        let heads: Vec<&str> = heard.split("\r\n\r\n").collect();
        assert!(heads[0].starts_with("HTTP/1.1 103 "), "{heard}");
        assert!(heads[0].contains("Link: </a>; rel=preload"), "{heard}");
        assert!(!heads[0].contains("X-Hop"), "{heard}");
        assert!(
            heads[1].starts_with("HTTP/1.1 102 ") && heads[2].starts_with("HTTP/1.1 200 "),
            "{heard}"
        );
        let heard = door
            .ask(&door.get("").replace("HTTP/1.1", "HTTP/1.0"))
            .await;
        assert!(
            heard.starts_with("HTTP/1.1 200 ") && heard.matches("HTTP/1.1 ").count() == 1,
            "{heard}"
        );
        door.close().await;
    }
}

#[tokio::test]
async fn rfc9110_15_5_9_a_head_that_does_not_end_is_408() {
    let service = Service::answering(OK, true).await;
    let config = ProxyConfig {
        head_timeout: Duration::from_millis(200),
        ..ProxyConfig::default()
    };
    let door = Door::Proxy(Fixture::open_with(config, Some(service.address)).await);
    let mut stream = door.connect().await;
    let begun = "GET http://web.demo.overlan.lan:88/ HTTP/1.1\r\nHost:";
    stream.write_all(begun.as_bytes()).await.unwrap();
    let heard = to_end(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    door.close().await;
}

#[tokio::test]
async fn rfc9110_15_6_5_a_service_that_stays_silent_is_504_where_that_has_a_limit() {
    let service = Service::start(|mut stream, _| async move {
        let _ = to_end(&mut stream).await;
    })
    .await;
    let config = ProxyConfig {
        idle_timeout: Some(Duration::from_millis(300)),
        ..ProxyConfig::default()
    };
    let door = Door::Proxy(Fixture::open_with(config, Some(service.address)).await);
    assert_eq!(door.status(&door.get("")).await, 504);
    door.close().await;
}
