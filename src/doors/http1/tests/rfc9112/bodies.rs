//! Framing of bodies: sections 6 and 7.

use super::*;

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
        // A service of another protocol waits for an answer to it.
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
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nok\r\n0\r\n\r\n";
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
        let bad = "Content-Length: 9\r\nHost: evil\r\nTransfer-Encoding: x\r\n\
                   Authorization: x\r\nConnection: X-Gone\r\nX-Gone: 1\r\n";
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
