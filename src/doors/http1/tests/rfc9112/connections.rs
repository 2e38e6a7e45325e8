//! Ends of messages and of connections: sections 8 and 9.

use super::*;

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
