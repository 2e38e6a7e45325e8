//! The page that `web` serves, and the bytes that the check moves. An ordinary HTTP server on
//! loopback; it knows nothing of the overlay.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use overlan_transport::accept;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bytes of [`Noise`] that [`BULK_PATH`] has.
pub(super) const BULK_LEN: u64 = 64 * 1024 * 1024;

/// GET: [`BULK_LEN`] bytes of [`Noise`]. PUT: answers with the SHA-256 of what was sent.
pub(super) const BULK_PATH: &str = "/bulk";

/// Serves the page until `stop`.
pub(super) async fn serve(listener: TcpListener, stop: CancellationToken) {
    let incoming = accept::Incoming::new(listener, "readers of the page");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, _) = incoming.next(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(one_connection(stream));
            }
        }
    }
}

async fn one_connection(stream: TcpStream) {
    let service = service_fn(answer);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a request for the page broke");
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let whole = |text: String| Full::new(Bytes::from(text)).boxed();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    Ok(match (&method, path.as_str()) {
        (&Method::GET, "/") => {
            let mut response = Response::new(whole(PAGE.to_owned()));
            let html = hyper::header::HeaderValue::from_static("text/html; charset=utf-8");
            response
                .headers_mut()
                .insert(hyper::header::CONTENT_TYPE, html);
            response
        }
        (&Method::GET, BULK_PATH) => Response::new(Noise::new(BULK_LEN).boxed()),
        (&Method::PUT, BULK_PATH) => Response::new(whole(hash(request.into_body()).await?)),
        _ => {
            let mut response = Response::new(whole("there is only one page here: /\n".to_owned()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

async fn hash(mut body: Incoming) -> Result<String, hyper::Error> {
    let mut context = digest::Context::new(&digest::SHA256);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            context.update(data);
        }
    }
    Ok(HEXLOWER.encode(context.finish().as_ref()))
}

/// A body of bytes that look random and are the same every time.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    left: u64,
    state: u64,
}

impl Noise {
    pub(super) fn new(len: u64) -> Self {
        Self {
            left: len,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let len = self.left.min(CHUNK);
        if len == 0 {
            return None;
        }
        self.left -= len;
        let mut chunk = vec![0; len as usize];
        for word in chunk.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let bytes = self.state.to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
        Some(Bytes::from(chunk))
    }

    /// SHA-256 of all of it, in hexadecimal.
    pub(super) fn hash(mut self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        while let Some(chunk) = self.next_chunk() {
            context.update(&chunk);
        }
        HEXLOWER.encode(context.finish().as_ref())
    }
}

impl Body for Noise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

const PAGE: &str = "<!doctype html>
<title>Overlan demo</title>
<h1>It works</h1>
<p>This page came through a userspace TCP/IP stack, a sealed session between two devices and a \
    TLS relay.
No root, no TUN device, no change to routes or DNS.</p>
";

/// Bytes of one chunk of [`Noise`].
const CHUNK: u64 = 64 * 1024;

/// Connections to the page at once; the demo has one user.
const CONNECTIONS_MAX: usize = 256;
