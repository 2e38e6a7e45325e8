//! An HTTP service that hears in header fields who asks: each request goes on to the service with `X-Overlan-*` fields that only this
//! device can have set. Decides which fields pass; who the peer is, is its key's word.
//!
//! ```text
//! overlay ── requests, one after the other ──> fields replaced ──> one connection with the service, opened anew when it closed
//!                                                └─ 101 → bytes both ways
//! ```

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{Either as EitherBody, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;
use tracing::debug;

use super::inbound::Inbound;
use super::{ExposeConfig, Service};
use crate::http_proxy::forward::{self, Forwarder};
use crate::http_proxy::refusal::Refusal;
use crate::http_proxy::{BUFFER_MAX, HEAD_MAX, headers};
use crate::node::PeerIdentity;
use crate::splice::{Abort, splice};

/// Who is at an address of the network.
pub(crate) type Identify = Arc<dyn Fn(SocketAddr) -> Option<PeerIdentity> + Send + Sync>;

/// A connection with the service.
type Upstream = Either<TcpStream, UnixStream>;

/// What is sent back: the service's answer, or our own words.
type Body = EitherBody<Incoming, Full<Bytes>>;

/// Serves one connection of a peer to its end. `service` is open already: where nobody listens, the peer was refused.
pub(super) async fn converse(
    overlay: Inbound,
    remote: SocketAddr,
    service: Service,
    config: &ExposeConfig,
    identify: &Identify,
) {
    let session = Session {
        remote,
        config,
        identify,
        first: Mutex::new(Some(service.into())),
        forwarder: Mutex::default(),
        tunnel: Mutex::new(None),
    };
    let answering = service_fn(|request| Box::pin(session.answer(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .preserve_header_case(true)
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(overlay), answering);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let mut overlay = io.into_inner();
    if let Err(error) = served {
        debug!(%remote, %error, "an HTTP connection broke");
        // An answer that was cut short must not look whole.
        overlay.abort();
        return;
    }
    let tunnel = lock(&session.tunnel).take();
    let ended = match tunnel {
        None => overlay.shutdown().await,
        Some((upstream, early)) => tunnel_to(overlay, &read_buf, upstream, &early).await,
    };
    if let Err(error) = ended {
        debug!(%remote, %error, "an HTTP connection ended");
    }
}

/// Another protocol was agreed on: bytes from here on.
async fn tunnel_to(
    mut overlay: Inbound,
    from_peer: &[u8],
    mut upstream: Upstream,
    from_service: &[u8],
) -> std::io::Result<()> {
    overlay.write_all(from_service).await?;
    upstream.write_all(from_peer).await?;
    match upstream {
        Either::Left(mut service) => splice(&mut overlay, &mut service).await,
        Either::Right(mut service) => splice(&mut overlay, &mut service).await,
    };
    Ok(())
}

impl From<Service> for Upstream {
    fn from(service: Service) -> Self {
        match service {
            Service::Tcp(stream) => Self::Left(stream),
            Service::Unix(stream) => Self::Right(stream),
        }
    }
}

struct Session<'a> {
    remote: SocketAddr,
    config: &'a ExposeConfig,
    identify: &'a Identify,
    /// The connection that was opened before the peer was answered, until a request takes it.
    first: Mutex<Option<Upstream>>,
    /// `None` while a request has it: requests of one connection come one after the other.
    forwarder: Mutex<Option<Forwarder<Upstream>>>,
    tunnel: Mutex<Option<(Upstream, Bytes)>>,
}

impl Session<'_> {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let answered = match (self.identify)(self.remote) {
            // It left the network a moment ago.
            None => Err((StatusCode::FORBIDDEN, "this device does not know you")),
            Some(peer) => self.forward(request, &peer).await,
        };
        Ok(answered.unwrap_or_else(|(status, text)| {
            let text = Bytes::from(format!("overlan: {text}\n"));
            let mut response = Response::new(EitherBody::Right(Full::new(text)));
            *response.status_mut() = status;
            response
        }))
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        peer: &PeerIdentity,
    ) -> Result<Response<Body>, (StatusCode, &'static str)> {
        if request.method() == Method::CONNECT {
            return Err((
                StatusCode::METHOD_NOT_ALLOWED,
                "this is a service, not a proxy",
            ));
        }
        let gone = |refusal: Refusal| {
            debug!(remote = %self.remote, %refusal, "the service did not answer");
            (
                StatusCode::BAD_GATEWAY,
                "the service did not answer in HTTP",
            )
        };
        let mut request = headers::outbound(request)
            .map_err(|_| (StatusCode::BAD_REQUEST, "the request names no host"))?;
        introduce(request.headers_mut(), peer);
        let forwarder = lock(&self.forwarder).take();
        let mut forwarder = forwarder.unwrap_or_else(Forwarder::new);
        let service = Authority::from_static(SERVICE);
        let answered = forwarder.forward(request, &service, || self.reach()).await;
        *lock(&self.forwarder) = Some(forwarder);
        let mut response = answered.map_err(gone)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = forward::upgraded(&mut response).await.map_err(gone)?;
            *lock(&self.tunnel) = Some(upgraded);
            return Ok(response.map(EitherBody::Left));
        }
        headers::inbound(response.headers_mut());
        Ok(response.map(EitherBody::Left))
    }

    async fn reach(&self) -> Result<Upstream, Refusal> {
        let first = lock(&self.first).take();
        if let Some(first) = first {
            return Ok(first);
        }
        match super::dial(&self.config.target, &[]).await {
            Ok(service) => Ok(service.into()),
            Err(error) => Err(Refusal::NotReached {
                host: self.config.target.to_string(),
                port: 0,
                error,
            }),
        }
    }
}

/// Takes away what a peer may have written, and says who it is.
fn introduce(headers: &mut HeaderMap, peer: &PeerIdentity) {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX) || is_forwarded(name))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    let address = peer.address.ip().to_string();
    for (name, value) in [
        ("x-overlan-name", &peer.name),
        ("x-overlan-label", &peer.label),
        ("x-overlan-network", &peer.network),
        ("x-overlan-device", &peer.device.to_string()),
        ("x-overlan-address", &address),
        ("x-forwarded-for", &address),
    ] {
        insert(headers, name, value);
    }
    if let Some(person) = peer.owner.person() {
        insert(headers, "x-overlan-user", person);
    }
}

/// Names are labels and dots, addresses digits. What does not fit into a field is not said at all.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Fields by which other proxies say who asks; services believe them.
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// What is guarded is replaced as a whole, so it is never half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the fields of ours begin with.
const PREFIX: &str = "x-overlan-";

/// There is one service, so that all requests are for the same.
const SERVICE: &str = "service";
