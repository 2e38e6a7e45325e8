//! The operator's HTTP door of a server program. Decides nothing: its owner gives the page of each
//! path. It authenticates nobody, so it must listen where only operators can connect.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::accept::Incoming;

/// The answer of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: StatusCode,
    /// Content type of the body.
    pub content_type: &'static str,
    /// The text of the answer.
    pub body: String,
}

impl Page {
    /// A page of counters in Prometheus' text form.
    pub fn metrics(text: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; version=0.0.4",
            body: text,
        }
    }

    /// A page with a JSON document about the program: 200 if it `is_well`, otherwise 503.
    pub fn health(is_well: bool, document: &serde_json::Value) -> Self {
        Self {
            status: match is_well {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            },
            content_type: "application/json",
            body: document.to_string(),
        }
    }

    /// The page for an unknown path; `paths` are the known ones.
    pub fn not_found(paths: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            content_type: "text/plain",
            body: format!("try {paths}\n"),
        }
    }
}

/// Answers each GET with the page that `respond` returns for its path, until `stop`; other methods
/// are answered like an unknown path. If there is no room for one more connection, the oldest one
/// is closed: an answer takes little time, and idle connections must not make a healthy program
/// look ill.
pub async fn serve<R, A>(listener: TcpListener, respond: R, stop: CancellationToken)
where
    R: Fn(String) -> A + Clone + Send + 'static,
    A: Future<Output = Page> + Send + 'static,
{
    let incoming = Incoming::new(listener, "operators");
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {
                oldest_first.retain(|connection| !connection.is_finished());
            }
            (tcp, _) = incoming.next() => {
                if oldest_first.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                oldest_first.push_back(connections.spawn(answer(tcp, respond.clone())));
            }
        }
    }
    connections.shutdown().await;
}

async fn answer<R, A>(tcp: TcpStream, respond: R)
where
    R: Fn(String) -> A,
    A: Future<Output = Page> + Send + 'static,
{
    let service = service_fn(move |request: Request<body::Incoming>| {
        let path = match *request.method() {
            Method::GET => request.uri().path().to_owned(),
            _ => String::new(),
        };
        let page = respond(path);
        async move { Ok::<_, Infallible>(response(page.await)) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_MAX)
        .serve_connection(TokioIo::new(tcp), service);
    // A client that is slower, or does not speak HTTP, gets no answer.
    let _ = timeout(ANSWER_WITHIN, connection).await;
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    let content_type = header::HeaderValue::from_static(page.content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Most connections at once; for one more, the oldest one is closed.
const CONNECTIONS_MAX: usize = 16;

/// Largest request head, bytes; hyper asks for at least this.
const REQUEST_MAX: usize = 8_192;

/// Time for one request and its answer; a database that cannot write takes long to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_holds_places_in_silence_does_not_keep_a_probe_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let respond = |_| async { Page::metrics("well".to_owned()) };
        let serving = tokio::spawn(serve(listener, respond, stop.clone()));
        let mut held = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            held.push(TcpStream::connect(at).await.unwrap());
        }
        let ask = async {
            let mut probe = TcpStream::connect(at).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
            probe.write_all(request).await.unwrap();
            let mut answer = String::new();
            probe.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(ANSWER_WITHIN / 3, ask).await;
        assert!(answer.expect("it waits for nobody").ends_with("well"));
        stop.cancel();
        serving.await.unwrap();
    }
}
