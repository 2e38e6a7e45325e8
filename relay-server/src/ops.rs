//! The operator's HTTP door: `/metrics` and `/healthz`, nothing else. Decides nothing and changes nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// Answers until `stop`.
pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(answer(hub.clone(), tcp));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept on the metrics address");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn answer(hub: Arc<Hub>, tcp: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&hub, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_MAX)
        .serve_connection(TokioIo::new(tcp), service);
    // Whoever is slower or speaks something else has no claim to an answer.
    let _ = timeout(ANSWER_WITHIN, connection).await;
}

fn respond(hub: &Hub, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (method, path) {
        (&Method::GET, "/metrics") => (
            StatusCode::OK,
            "text/plain; version=0.0.4",
            hub.metrics.render(hub.gauges()),
        ),
        (&Method::GET, "/healthz") => {
            let serving = hub.serving.load(Ordering::Relaxed);
            let status = if serving {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (status, "application/json", health(hub, serving))
        }
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "try /metrics or /healthz\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn health(hub: &Hub, serving: bool) -> String {
    let gauges = hub.gauges();
    serde_json::json!({
        "status": if serving { "ok" } else { "not serving" },
        "version": env!("CARGO_PKG_VERSION"),
        "relay": hub.id,
        "orders_version": gauges.orders_version,
        "clients": gauges.clients,
    })
    .to_string()
}

/// Most operators at once.
const CONNECTIONS_MAX: usize = 16;

/// Largest request head, bytes; hyper asks for at least this.
const REQUEST_MAX: usize = 8_192;

/// Time for one request and its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause after a failed accept: the system lacks something that only time gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
