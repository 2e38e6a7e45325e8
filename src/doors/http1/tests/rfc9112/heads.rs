//! Lines, hosts, targets and fields: sections 2, 3 and 5.

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
async fn a_value_that_begins_on_the_next_line_has_no_space_before_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: \r\n 2\r\nConnection: close\r\n\r\nok";
    let service = Service::answering(answer, true).await;
    for door in Door::both(&service).await {
        let heard = door.ask(&door.get("")).await;
        assert!(heard.contains("\r\nContent-Length: 2\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\nok"), "{heard}");
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
