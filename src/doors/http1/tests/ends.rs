//! Early ends: clients that do not wait for their answer, and services that do not wait for the
//! request; the other side hears of it.

use tokio::io::{DuplexStream, Interest};
use tokio::sync::mpsc;

use super::*;
use crate::doors::http1::exchange::{self, Gone, HALF_CLOSED_MAX, UNSEEN_MAX};
use crate::doors::http1::wire::Wire;
use crate::doors::http1::{
    BUFFER_MAX, Fault, Fields, HttpRequest, HttpVerdict, Intermediary, NextHop, Own,
};
use crate::doors::moves::Moves;
use crate::host::splice::Abort;

impl Abort for DuplexStream {
    fn abort(&self) {}
}

/// Knows of its client only what the test says here.
struct Knows(bool);

impl Intermediary for Knows {
    type Client = DuplexStream;
    type Upstream = DuplexStream;

    fn judge(&self, _: &HttpRequest) -> HttpVerdict {
        unreachable!("no request is made")
    }

    async fn reach(&self, _: &NextHop) -> Result<DuplexStream, Own> {
        unreachable!("no request is made")
    }

    fn tell(&self, _: &Fault) -> Own {
        unreachable!("no request is made")
    }

    fn flow(&self, _: &NextHop) -> tracing::Span {
        tracing::Span::none()
    }

    fn introduce(&self, _: &mut Fields) {}

    fn passes(&self, _: &str) -> bool {
        true
    }

    fn upgrades(&self, _: &str) -> bool {
        true
    }

    fn has_left(&self, _: &DuplexStream) -> bool {
        self.0
    }
}

/// Returns how, and after how many seconds, a client counts as gone that does `what` first.
async fn gone_after(
    known: bool,
    what: impl AsyncFnOnce(DuplexStream) -> DuplexStream,
) -> (Gone, u64) {
    let (client, door) = tokio::io::duplex(2 * BUFFER_MAX);
    let mut door = Wire::new(door);
    let (mut input, _) = door.split();
    let _client = what(client).await;
    let moves = Moves::new();
    let begin = tokio::time::Instant::now();
    let gone = exchange::left(&mut input, &Knows(known), &moves).await;
    (gone, begin.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn how_long_an_answer_may_take_depends_on_what_is_known_of_the_client() {
    let closes = async |mut client: DuplexStream| {
        client.shutdown().await.unwrap();
        client
    };
    // More requests than are kept: its end cannot be seen after them.
    let talks = async |mut client: DuplexStream| {
        client.write_all(&vec![b'x'; 2 * BUFFER_MAX]).await.unwrap();
        client
    };
    assert_eq!(gone_after(true, closes).await, (Gone::Surely, 0));
    assert_eq!(gone_after(true, talks).await, (Gone::Surely, 0));
    let limit = HALF_CLOSED_MAX.as_secs();
    assert_eq!(gone_after(false, closes).await, (Gone::Maybe, limit));
    let limit = UNSEEN_MAX.as_secs();
    assert_eq!(gone_after(false, talks).await, (Gone::Maybe, limit));
}

/// A service that reads, never answers, and tells of its connections: `true` when one begins,
/// `false` when it ends.
async fn silent() -> (Service, mpsc::UnboundedReceiver<bool>) {
    let (tell, notes) = mpsc::unbounded_channel();
    let service = Service::start(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            // Not before the request is on its way: until then there is nothing to end.
            let _ = head(&mut stream).await;
            tell.send(true).unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            let _ = tell.send(false);
        }
    })
    .await;
    (service, notes)
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_ends_the_request_at_the_service() {
    let (service, mut notes) = silent().await;
    let door = Door::proxy(&service).await;
    for _ in 0..100 {
        let mut client = door.connect().await;
        client.write_all(door.get("").as_bytes()).await.unwrap();
        assert_eq!(notes.recv().await, Some(true));
        let begin = tokio::time::Instant::now();
        drop(client);
        assert_eq!(timeout(LONGEST, notes.recv()).await, Ok(Some(false)));
        // The kernel knows: this is not the limit for those who may still read.
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
    }
    door.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_behind_a_body_that_nobody_takes_ends_it_at_the_service() {
    let (tell, mut notes) = mpsc::unbounded_channel();
    let service = Service::start(move |stream, _| {
        let tell = tell.clone();
        async move {
            let _ = stream.ready(Interest::ERROR).await;
            let _ = tell.send(());
        }
    })
    .await;
    let door = Door::proxy(&service).await;
    let mut client = door.connect().await;
    let request = door.request("POST", "/", "Content-Length: 1000000000\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    // Until nobody takes anything: the door's end and what it says then come after what it has not
    // read.
    let piece = vec![b'x'; 1_000_000];
    let second = Duration::from_secs(1);
    while timeout(second, client.write_all(&piece)).await.is_ok() {}
    drop(client);
    assert_eq!(timeout(LONGEST, notes.recv()).await, Ok(Some(())));
    door.close().await;
}

#[tokio::test]
async fn a_peer_that_aborts_its_request_ends_it_at_the_service() {
    let (service, mut notes) = silent().await;
    let door = Door::served(&service, Owner::Unknown);
    let Door::Served(served) = &door else {
        panic!("it is served");
    };
    for _ in 0..100 {
        let mut client = served.overlay.connect().await.unwrap();
        client.write_all(door.get("").as_bytes()).await.unwrap();
        assert_eq!(notes.recv().await, Some(true));
        client.abort();
        drop(client);
        assert_eq!(timeout(LONGEST, notes.recv()).await, Ok(Some(false)));
    }
    door.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_side_still_gets_its_answer() {
    let service = Service::start(|mut stream, _| async move {
        let _ = head(&mut stream).await;
        // In virtual time: until everybody else has done what there is to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    for door in Door::both(&service).await {
        let mut client = door.connect().await;
        client.write_all(door.get("").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let heard = to_end(&mut client).await;
        assert!(
            heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("ok"),
            "{heard}"
        );
        door.close().await;
    }
}

#[tokio::test]
async fn an_early_answer_of_a_service_that_closes_with_bytes_unread_arrives() {
    let service = Service::start(|mut stream, _| async move {
        let _ = head(&mut stream).await;
        let answer = "HTTP/1.1 501 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let body = "x".repeat(2_000_000);
    for door in Door::both(&service).await {
        let request = door.request(
            "POST",
            "/",
            &format!("Connection: close\r\nContent-Length: {}\r\n", body.len()),
        );
        for _ in 0..20 {
            let (mut read, mut write) = tokio::io::split(door.connect().await);
            let sending = async {
                // Until nobody wants it any more.
                let _ = write.write_all(request.as_bytes()).await;
                let _ = write.write_all(body.as_bytes()).await;
                write
            };
            let (heard, _write) = tokio::join!(to_end(&mut read), sending);
            assert!(
                heard.starts_with("HTTP/1.1 501 ") && heard.ends_with("early"),
                "{heard}"
            );
        }
        door.close().await;
    }
}

#[tokio::test]
async fn a_refusal_arrives_though_the_client_is_still_sending() {
    let service = Service::answering(OK, true).await;
    let body = "x".repeat(500_000);
    for door in Door::both(&service).await {
        for _ in 0..20 {
            let (mut read, mut write) = tokio::io::split(door.connect().await);
            let request = door.request("POST", "/", "Content-Length: +3\r\n");
            let sending = async {
                let _ = write.write_all(request.as_bytes()).await;
                let _ = write.write_all(body.as_bytes()).await;
                write
            };
            let (heard, _write) = tokio::join!(to_end(&mut read), sending);
            assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
        }
        door.close().await;
    }
}

#[tokio::test]
async fn a_door_that_closes_cuts_off_what_is_under_way() {
    let service = Service::start(|mut stream, _| async move {
        let _ = head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    for door in Door::both(&service).await {
        let mut client = door.connect().await;
        let request = door.get("").replace("HTTP/1.1", "HTTP/1.0");
        client.write_all(request.as_bytes()).await.unwrap();
        head(&mut client).await;
        let mut half = [0; 4];
        client.read_exact(&mut half).await.unwrap();
        let _overlay = door.close().await;
        let (_, in_order) = heard_to_end(&mut client).await;
        assert!(!in_order, "an end that the service did not make");
    }
}
