use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use overlan_protocol::HostPort;
use overlan_protocol::key::{DeviceId, RelayId};
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tests::{Deployment, HOST, WITHIN, listen};

/// A request to a server, and the exporter of the connection over which it came.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    exporter: Exporter,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A controller's HTTP server, without the controller. Ends with its handle.
struct Server {
    join: JoinString,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers as `answer` says; where it says nothing, it never answers.
    async fn start(answer: impl Fn(Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let deployment = Deployment::new();
        let (listener, port) = listen().await;
        let config = deployment.identity(&[HOST]).config(ALPN_CONTROLLER);
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.spawn(converse(tcp, config.clone(), answer.clone()));
            }
        });
        let join = JoinString {
            server: HostPort::new(HOST, port).unwrap(),
            ca: Some(deployment.fingerprint()),
            former: Default::default(),
        };
        Self { join, task }
    }

    /// A server that has one answer for everything.
    async fn with(status: u16, content_type: &'static str, body: &'static str) -> Self {
        Self::start(move |_| {
            let answer = Response::builder()
                .status(status)
                .header(header::CONTENT_TYPE, content_type);
            Some(answer.body(whole(body.as_bytes())).unwrap())
        })
        .await
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.join, WITHIN).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    tcp: tokio::net::TcpStream,
    config: Arc<ServerConfig>,
    answer: Arc<impl Fn(Asked) -> Option<Answer>>,
) {
    let stream = TlsAcceptor::from(config).accept(tcp).await.unwrap().into();
    let exporter = tls::exporter(&stream);
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let asked = Asked {
            method: head.method,
            path: head.uri.to_string(),
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
            exporter,
        };
        match answer(asked) {
            Some(answer) => Ok::<_, Infallible>(answer),
            None => std::future::pending().await,
        }
    });
    // How a connection ends is what the tests see at the other end of it.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn whole(bytes: &[u8]) -> BoxBody<Bytes, io::Error> {
    Full::new(Bytes::copy_from_slice(bytes))
        .map_err(|never| match never {})
        .boxed()
}

fn json(value: &impl Serialize) -> Answer {
    Response::new(whole(&serde_json::to_vec(value).unwrap()))
}

/// A body that is fed piece by piece; it ends when the feeder is dropped, and breaks with an error.
struct Fed(mpsc::Receiver<Result<Bytes, io::Error>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

type Feeder = mpsc::Sender<Result<Bytes, io::Error>>;

/// An endless answer, and what feeds it.
async fn stream() -> (Lines, Feeder, Server) {
    let (feeder, body) = mpsc::channel(1);
    let body = parking_lot::Mutex::new(Some(body));
    let server = Server::start(move |_| {
        let body = body.lock().take()?;
        Some(Response::new(BodyExt::boxed(Fed(body))))
    })
    .await;
    let lines = server.connect().await.lines("/feed", WITHIN).await.unwrap();
    (lines, feeder, server)
}

async fn feed(feeder: &Feeder, piece: &'static str) {
    let piece = Ok(Bytes::from_static(piece.as_bytes()));
    feeder.send(piece).await.unwrap();
}

async fn next(lines: &mut Lines) -> Result<Option<u64>, HttpsError> {
    timeout(WITHIN, lines.next()).await.expect("in time")
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
    number: u32,
}

#[tokio::test]
async fn json_goes_there_and_comes_back() {
    let server = Server::start(|asked| {
        assert_eq!(asked.method, Method::POST);
        assert_eq!(asked.path, "/notes?x=1");
        assert_eq!(asked.headers[header::CONTENT_TYPE], "application/json");
        let mut note: Note = serde_json::from_slice(&asked.body).unwrap();
        note.number += 1;
        Some(json(&note))
    })
    .await;
    let mut connection = server.connect().await;
    for number in 0..3 {
        let note = Note {
            text: "größe".to_owned(),
            number,
        };
        let answer: Note = connection.post("/notes?x=1", &note, WITHIN).await.unwrap();
        assert_eq!(answer.number, number + 1, "one connection serves them all");
        assert_eq!(answer.text, note.text);
    }
}

#[tokio::test]
async fn get_and_delete_have_no_body_and_name_their_host() {
    let server = Server::start(|asked| {
        assert!(asked.body.is_empty());
        assert_eq!(asked.headers.get(header::CONTENT_TYPE), None);
        let host = asked.headers[header::HOST].to_str().unwrap();
        assert!(host.starts_with("127.0.0.1:"), "{host}");
        Some(match asked.method {
            Method::GET => json(&asked.path),
            Method::DELETE => Response::builder()
                .status(StatusCode::NO_CONTENT)
                .body(whole(b""))
                .unwrap(),
            other => panic!("{other}"),
        })
    })
    .await;
    let mut connection = server.connect().await;
    let path: String = connection.get("/here", WITHIN).await.unwrap();
    assert_eq!(path, "/here");
    connection.delete("/here", WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_problem_keeps_its_kind_and_loses_its_control_characters() {
    let problem = Problem {
        kind: ProblemKind::NameTaken,
        title: "the name\u{1b}[31m is taken".to_owned(),
        status: 409,
        detail: "choose\r\nanother\u{0}".to_owned(),
        retry_after_secs: Some(7),
    };
    let server = Server::start(move |_| {
        let mut answer = json(&problem);
        *answer.status_mut() = StatusCode::CONFLICT;
        Some(answer)
    })
    .await;
    let mut connection = server.connect().await;
    let error = connection.get::<Note>("/", WITHIN).await.unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::NameTaken));
    let text = error.to_string();
    assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    assert!(text.contains("is taken: choose"), "{text:?}");
    let HttpsError::Problem(problem) = error else {
        panic!("{error:?}");
    };
    assert_eq!(problem.retry_after_secs, Some(7));
    // A no is an answer: the connection serves on.
    let again = connection.get::<Note>("/", WITHIN).await.unwrap_err();
    assert_eq!(again.problem(), Some(ProblemKind::NameTaken));
}

#[tokio::test]
async fn an_error_page_of_somebody_in_between_is_a_problem_of_another_kind() {
    let server = Server::with(502, "text/html", "<html>Bad Gateway</html>").await;
    let mut connection = server.connect().await;
    let error = connection.get::<Note>("/", WITHIN).await.unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::Other));
    assert!(error.to_string().contains("502"), "{error}");
    let error = connection.lines("/", WITHIN).await.unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::Other));
}

#[tokio::test]
async fn an_answer_of_another_form_is_not_understood() {
    let server = Server::with(200, "text/html", "<html>Welcome</html>").await;
    let mut connection = server.connect().await;
    let error = connection.get::<Note>("/", WITHIN).await.unwrap_err();
    assert!(matches!(error, HttpsError::NotUnderstood(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_understood() {
    let server = Server::start(|asked| {
        let length = match asked.path.as_str() {
            "/most" => RESPONSE_MAX,
            _ => RESPONSE_MAX + 1,
        };
        let mut text = vec![b'x'; length];
        text[0] = b'"';
        text[length - 1] = b'"';
        Some(Response::new(whole(&text)))
    })
    .await;
    let mut connection = server.connect().await;
    let most: String = connection.get("/most", WITHIN).await.unwrap();
    assert_eq!(most.len(), RESPONSE_MAX - 2);
    let error = connection.get::<String>("/more", WITHIN).await.unwrap_err();
    assert!(matches!(error, HttpsError::NotUnderstood(_)), "{error:?}");
}

#[tokio::test]
async fn a_proof_counts_on_its_own_connection() {
    let (seen, mut proofs) = mpsc::unbounded_channel();
    let server = Server::start(move |asked| {
        let text = asked.headers[header::AUTHORIZATION].to_str().unwrap();
        let proof = ChannelProof::from_header(text).expect("a proof");
        seen.send((proof, asked.exporter)).unwrap();
        Some(json(&()))
    })
    .await;
    let secret = IdentitySecret::from_seed([3; 32]);
    let principals = [
        Principal::Device(DeviceId([4; 16])),
        Principal::Relay(RelayId([5; 16])),
    ];
    for principal in principals {
        let mut connection = server.connect().await;
        connection.prove(principal, &secret);
        connection.get::<()>("/", WITHIN).await.unwrap();
    }
    let (device, one) = proofs.recv().await.unwrap();
    let (relay, other) = proofs.recv().await.unwrap();
    assert_eq!([device.principal, relay.principal], principals);
    assert!(device.is_proved_by(&secret.public(), &one));
    assert!(relay.is_proved_by(&secret.public(), &other));
    assert!(!device.is_proved_by(&secret.public(), &other));
    assert!(!relay.is_proved_by(&secret.public(), &one));
}

#[tokio::test]
async fn a_session_is_sent_and_never_shown() {
    let server = Server::start(|asked| {
        let text = asked.headers.get(header::AUTHORIZATION);
        Some(json(&text.map(|text| text.to_str().unwrap().to_owned())))
    })
    .await;
    let mut connection = server.connect().await;
    let before: Option<String> = connection.get("/", WITHIN).await.unwrap();
    assert_eq!(before, None);
    connection.bearer(&Secret::new("hush-hush"));
    let after: Option<String> = connection.get("/", WITHIN).await.unwrap();
    assert_eq!(after.as_deref(), Some("Bearer hush-hush"));
    let shown = format!("{connection:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn lines_come_whole_however_they_are_cut() {
    let (mut lines, feeder, _server) = stream().await;
    let feeding = async {
        for piece in ["1", "2", "3\n", "4\n5\n6", "\n7\n"] {
            feed(&feeder, piece).await;
        }
    };
    let reading = async {
        for expected in [123, 4, 5, 6, 7] {
            assert_eq!(next(&mut lines).await.unwrap(), Some(expected));
        }
    };
    tokio::join!(feeding, reading);
    drop(feeder);
    assert_eq!(next(&mut lines).await.unwrap(), None);
}

#[tokio::test]
async fn a_line_that_is_given_up_halfway_is_not_lost() {
    let (mut lines, feeder, _server) = stream().await;
    feed(&feeder, "4").await;
    while lines.buffer.is_empty() {
        let given_up = timeout(SHORT, lines.next::<u64>()).await;
        assert!(given_up.is_err(), "there was no whole line: {given_up:?}");
    }
    feed(&feeder, "2\n").await;
    assert_eq!(next(&mut lines).await.unwrap(), Some(42));
}

#[tokio::test]
async fn a_line_that_is_no_json_is_not_understood() {
    let (mut lines, feeder, _server) = stream().await;
    feed(&feeder, "<html>\n8\n").await;
    let error = next(&mut lines).await.unwrap_err();
    assert!(matches!(error, HttpsError::NotUnderstood(_)), "{error:?}");
    assert_eq!(next(&mut lines).await.unwrap(), Some(8));
}

#[tokio::test]
async fn an_endless_line_is_given_up_at_the_limit() {
    let (mut lines, feeder, _server) = stream().await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let feeding = async {
        let mut sent = 0;
        while sent <= 2 * MAP_EVENT_MAX && feeder.send(Ok(piece.clone())).await.is_ok() {
            sent += piece.len();
        }
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        () = feeding => unreachable!("it never ends"),
        line = next(&mut lines) => line.unwrap_err(),
    };
    assert!(matches!(error, HttpsError::NotUnderstood(_)), "{error:?}");
    assert!(lines.buffer.len() > MAP_EVENT_MAX);
    assert!(lines.buffer.len() < MAP_EVENT_MAX + (2 << 20), "bounded");
}

#[tokio::test]
async fn a_stream_that_is_torn_is_broken() {
    let (mut lines, feeder, _server) = stream().await;
    feed(&feeder, "1\n2").await;
    assert_eq!(next(&mut lines).await.unwrap(), Some(1));
    feeder.send(Err(io::Error::other("torn"))).await.unwrap();
    let error = next(&mut lines).await.unwrap_err();
    assert!(matches!(error, HttpsError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_breaks_stream_and_request() {
    let (mut lines, _feeder, server) = stream().await;
    let mut connection = server.connect().await;
    drop(server);
    let error = next(&mut lines).await.unwrap_err();
    assert!(matches!(error, HttpsError::Broken(_)), "{error:?}");
    let error = connection.get::<()>("/", WITHIN).await.unwrap_err();
    assert!(matches!(error, HttpsError::Broken(_)), "{error:?}");
}

/// Short, because it runs out: the server never answers.
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_as_long_as_told() {
    let server = Server::start(|_| None).await;
    let mut connection = server.connect().await;
    let error = connection.get::<()>("/", SHORT).await.unwrap_err();
    assert!(matches!(error, HttpsError::TimedOut(SHORT)), "{error:?}");
    let connection = server.connect().await;
    let error = connection.lines("/", SHORT).await.unwrap_err();
    assert!(matches!(error, HttpsError::TimedOut(SHORT)), "{error:?}");
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_one() {
    let (feeder, body) = mpsc::channel(1);
    let body = parking_lot::Mutex::new(Some(body));
    let server = Server::start(move |_| {
        Some(match body.lock().take() {
            Some(body) => Response::new(BodyExt::boxed(Fed(body))),
            None => json(&2),
        })
    })
    .await;
    let mut connection = server.connect().await;
    let error = connection.get::<u32>("/first", SHORT).await.unwrap_err();
    assert!(matches!(error, HttpsError::TimedOut(SHORT)), "{error:?}");
    // It may have noticed that nobody waits for it any more.
    let _ = feeder.send(Ok(Bytes::from_static(b"1"))).await;
    drop(feeder);
    match connection.get::<u32>("/second", WITHIN).await {
        Ok(answer) => assert_eq!(answer, 2),
        Err(error) => assert!(matches!(error, HttpsError::Broken(_)), "{error:?}"),
    }
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let server = Server::start(|_| None).await;
    let mut join = server.join.clone();
    join.ca = None;
    let error = Connection::open(&join, WITHIN).await.unwrap_err();
    assert!(
        matches!(error, HttpsError::Connect(ConnectError::WrongServer { .. })),
        "{error:?}"
    );
    let (listener, port) = listen().await;
    drop(listener);
    join.server = HostPort::new(HOST, port).unwrap();
    let error = Connection::open(&join, WITHIN).await.unwrap_err();
    assert!(
        matches!(error, HttpsError::Connect(ConnectError::Connect { .. })),
        "{error:?}"
    );
}
