//! Sends requests on: decides which connection to a destination a request takes, and owns the task that drives it.

use std::marker::PhantomData;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::{Either as EitherBody, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tracing::debug;

use super::refusal::Refusal;
use super::{BUFFER_MAX, HEAD_MAX};
use crate::accept;

/// What a request carries.
type Body = EitherBody<Incoming, Empty<Bytes>>;

/// The upstream connection, an `S`, of one client connection. Dropping it ends it.
pub(crate) struct Forwarder<S> {
    last: Option<(Authority, SendRequest<Body>)>,
    /// The task of the connection in use; more than one only until those before have ended.
    tasks: JoinSet<()>,
    stream: PhantomData<fn() -> S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Forwarder<S> {
    pub(crate) fn new() -> Self {
        Self {
            last: None,
            tasks: JoinSet::new(),
            stream: PhantomData,
        }
    }

    /// Sends `request` to `authority`, over the last connection if that leads there, or over one that `reach` opens.
    pub(crate) async fn forward<F>(
        &mut self,
        request: Request<Incoming>,
        authority: &Authority,
        reach: impl Fn() -> F,
    ) -> Result<Response<Incoming>, Refusal>
    where
        F: Future<Output = Result<S, Refusal>>,
    {
        while let Some(ended) = self.tasks.try_join_next() {
            accept::report(ended);
        }
        let last = self.last.take();
        // A server may close an idle connection while the next request is under way to it. What may not be sent twice takes
        // a connection of its own, so that it never runs into that.
        if request.method().is_idempotent() && request.body().is_end_stream() {
            let repeated = || {
                let mut repeated = Request::new(EitherBody::Right(Empty::new()));
                *repeated.method_mut() = request.method().clone();
                *repeated.uri_mut() = request.uri().clone();
                *repeated.headers_mut() = request.headers().clone();
                *repeated.extensions_mut() = request.extensions().clone();
                repeated
            };
            if let Some((_, mut last)) = last.filter(|(known, _)| known == authority)
                && last.ready().await.is_ok()
            {
                match last.send_request(repeated()).await {
                    Ok(response) => {
                        self.last = Some((authority.clone(), last));
                        return Ok(response);
                    }
                    Err(error) => debug!(%error, "an idle connection was gone"),
                }
            }
            let fresh = self.open(reach().await?).await?;
            return self.send(fresh, repeated(), authority).await;
        }
        drop(last);
        let fresh = self.open(reach().await?).await?;
        self.send(fresh, request.map(EitherBody::Left), authority)
            .await
    }

    async fn send(
        &mut self,
        mut fresh: SendRequest<Body>,
        request: Request<Body>,
        authority: &Authority,
    ) -> Result<Response<Incoming>, Refusal> {
        let response = fresh.send_request(request).await.map_err(broken)?;
        self.last = Some((authority.clone(), fresh));
        Ok(response)
    }

    async fn open(&mut self, reached: S) -> Result<SendRequest<Body>, Refusal> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_header_size(HEAD_MAX)
            .max_buf_size(BUFFER_MAX)
            .handshake(TokioIo::new(reached))
            .await
            .map_err(broken)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "an upstream connection ended");
            }
        });
        Ok(sender)
    }
}

/// The connection of an answer that agreed to another protocol, and what came on it behind the answer.
pub(crate) async fn upgraded<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    response: &mut Response<Incoming>,
) -> Result<(S, Bytes), Refusal> {
    let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
    let parts = upgraded
        .downcast::<TokioIo<S>>()
        .map_err(|_| Refusal::Broken("it is another connection than the one opened".to_owned()))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

fn broken(error: hyper::Error) -> Refusal {
    Refusal::Broken(error.to_string())
}
