//! HTTP/1 as a proxy speaks it: decides what a request asks for, and answers those that get nowhere. `CONNECT` becomes a tunnel;
//! a request with a whole URL is forwarded, one upstream connection at a time.
//!
//! ```text
//! head → password? ─┬─ CONNECT host:port → dial → 200 → carry
//!                   └─ GET http://host/… → forward → answer ─┬─ next request, maybe for another host
//!                                                            └─ 101 → carry
//! ```

pub(crate) mod forward;

pub(crate) mod headers;

pub(crate) mod refusal;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Mutex;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either as EitherBody, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tracing::debug;

use crate::names::Destination;
use crate::proxy::{Client, Door, Overlay, Rejected, carry};
use crate::splice::Abort;

use forward::Forwarder;
use refusal::Refusal;

/// A connection to a destination.
type Reached<O> = Either<<O as Overlay>::Stream, TcpStream>;

/// What is sent back: an answer of the destination, or our own words.
type Body = EitherBody<Incoming, Full<Bytes>>;

/// One connection of a client whose first byte is a letter, to its end.
pub(crate) async fn converse<O: Overlay>(client: Client, door: &Door<O>) -> Result<(), Rejected> {
    let session = Session {
        door,
        forwarder: Mutex::new(Some(Forwarder::new())),
        tunnel: Mutex::new(None),
    };
    let service = service_fn(|request| Box::pin(session.answer(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.config.head_timeout)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .preserve_header_case(true)
        // A client may close its side behind its last request and still read the answer.
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(client), service);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let mut client = io.into_inner();
    if let Err(error) = served {
        // An answer without a length ends with its connection: one that was cut short must not look whole.
        client.abort();
        return Err(error.into());
    }
    let idle = door.config.idle_timeout;
    match session.into_tunnel() {
        None => client.shutdown().await?,
        Some(Tunnel::Connected(reached)) => {
            carry(client, read_buf, reached, idle).await;
        }
        Some(Tunnel::Upgraded(upstream, early)) => {
            // Not more than one buffer: the client's socket takes it whether or not the client reads yet.
            client.write_all(&early).await?;
            carry(client, read_buf, upstream, idle).await;
        }
    }
    Ok(())
}

/// The whole answer, head and text, for a program that may not use this proxy, because `why`.
pub(crate) fn turned_away(why: &str) -> Vec<u8> {
    refusal::turned_away(why)
}

/// What stays from one request of a connection to the next.
struct Session<'a, O: Overlay> {
    door: &'a Door<O>,
    /// `None` while a request has it: requests of one connection come one after the other.
    forwarder: Mutex<Option<Forwarder<Reached<O>>>>,
    /// What the connection becomes once its last answer is written.
    tunnel: Mutex<Option<Tunnel<O>>>,
}

enum Tunnel<O: Overlay> {
    /// By `CONNECT`.
    Connected(Reached<O>),
    /// By an upgrade that the destination agreed to, with what it said already.
    Upgraded(Reached<O>, Bytes),
}

impl<O: Overlay> Session<'_, O> {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let is_head = request.method() == Method::HEAD;
        let answered = match self.check(&request) {
            Ok(()) if request.method() == Method::CONNECT => self.connect(&request).await,
            Ok(()) => self.forward(request).await,
            Err(refusal) => Err(refusal),
        };
        Ok(answered.unwrap_or_else(|refusal| {
            debug!(%refusal, "an HTTP request was refused");
            refusal.into_response(is_head).map(EitherBody::Right)
        }))
    }

    fn check(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let Some(credentials) = &self.door.config.credentials else {
            return Ok(());
        };
        match headers::credentials(request.headers()) {
            Some((user, password)) if credentials.are(&user, &password) => Ok(()),
            Some(_) => Err(Refusal::WrongCredentials),
            None => Err(Refusal::NoCredentials),
        }
    }

    async fn connect(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let authority = request.uri().authority().ok_or(Refusal::NoDestination)?;
        let port = authority.port_u16().ok_or(Refusal::NoPort)?;
        let reached = self.reach(authority, port).await?;
        self.become_tunnel(Tunnel::Connected(reached));
        Ok(Response::new(EitherBody::Right(Full::default())))
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let uri = request.uri();
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(_) => return Err(Refusal::Scheme),
            None => return Err(Refusal::NotAProxyRequest),
        }
        let authority = uri.authority().cloned().ok_or(Refusal::NoDestination)?;
        let port = authority.port_u16().unwrap_or(HTTP_PORT);
        let request = headers::outbound(request)?;
        let mut forwarder = self.take_forwarder();
        let reach = || self.reach(&authority, port);
        let answered = forwarder.forward(request, &authority, reach).await;
        *lock(&self.forwarder) = Some(forwarder);
        let mut response = answered?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (upstream, early) = forward::upgraded::<Reached<O>>(&mut response).await?;
            self.become_tunnel(Tunnel::Upgraded(upstream, early));
            return Ok(response.map(EitherBody::Left));
        }
        headers::inbound(response.headers_mut());
        Ok(response.map(EitherBody::Left))
    }

    async fn reach(&self, authority: &Authority, port: u16) -> Result<Reached<O>, Refusal> {
        let host = authority.host();
        // An IPv6 address stands in brackets.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let reached = self.door.reach(&Destination::from_text(host), port).await;
        reached.map_err(|error| Refusal::NotReached {
            host: host.to_owned(),
            port,
            error,
        })
    }

    fn become_tunnel(&self, tunnel: Tunnel<O>) {
        *lock(&self.tunnel) = Some(tunnel);
    }

    fn take_forwarder(&self) -> Forwarder<Reached<O>> {
        lock(&self.forwarder).take().unwrap_or_else(Forwarder::new)
    }

    fn into_tunnel(self) -> Option<Tunnel<O>> {
        lock(&self.tunnel).take()
    }
}

/// What is guarded is replaced as a whole, so it is never half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bytes of a request's head, more than browsers send with all their cookies; a larger one is answered with 431.
pub(crate) const HEAD_MAX: usize = 64 * 1024;

/// Bytes that one connection keeps of a body which one side sends faster than the other takes it. Not less than a head.
pub(crate) const BUFFER_MAX: usize = 128 * 1024;

/// Where `http://host/` leads.
const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests;
