//! The requests of one connection, one after the other. Decides what becomes of each, and then of
//! the connection; the [`Intermediary`] says where a request leads.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug};

use super::body::Length;
use super::exchange::{self, ExchangeEnd, Gone, Sent, exchange};
use super::fields::Fields;
use super::message::{HttpRequest, Malformed};
use super::own::{self, Fault, Own};
use super::wire::{NoHead, Wire};
use super::{date, passing};
use crate::doors::moves::Moves;
use crate::host::splice::Abort;

/// Says where requests lead, and what may pass.
pub(crate) trait Intermediary: Sync {
    /// A connection with a client.
    type Client: AsyncRead + AsyncWrite + Abort + Unpin + Send;
    /// A connection with a service.
    type Upstream: AsyncRead + AsyncWrite + Abort + Unpin + Send;

    /// Decides what becomes of a request, whose head is sound.
    fn judge(&self, request: &HttpRequest) -> HttpVerdict;

    /// Opens a connection.
    ///
    /// # Errors
    /// The answer that the client gets instead.
    fn reach(&self, place: &NextHop) -> impl Future<Output = Result<Self::Upstream, Own>> + Send;

    /// Returns the answer that the client gets for a fault.
    fn tell(&self, fault: &Fault) -> Own;

    /// Returns the span of the requests to `place`, by which log lines of several differ.
    fn flow(&self, place: &NextHop) -> Span;

    /// Changes the fields of a request that goes on.
    fn introduce(&self, fields: &mut Fields);

    /// Returns whether a field may stand after a request's body.
    fn passes(&self, name: &str) -> bool;

    /// Returns whether a connection may change to this protocol.
    fn upgrades(&self, protocol: &str) -> bool;

    /// Returns whether the client, whose side is closed, is known to have left altogether.
    fn has_left(&self, client: &Self::Client) -> bool;
}

/// The destination of a request. Requests with equal ones are served by one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The decision about a request.
#[derive(Debug)]
pub(crate) enum HttpVerdict {
    /// It goes on.
    Forward(NextHop),
    /// It is `CONNECT`.
    Tunnel(NextHop),
    /// It is answered here.
    Answer(Own),
}

/// The time that a client has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpPatience {
    /// For a whole head, and between two.
    pub(crate) head: Duration,
    /// While nothing moves; `None` = without end.
    pub(crate) idle: Option<Duration>,
}

/// The end of a conversation.
pub(crate) enum End<C, U> {
    /// It ended.
    Closed,
    /// Bytes of another protocol from here on, with what either side said already.
    Tunnel {
        place: NextHop,
        client: C,
        from_client: Bytes,
        service: U,
        from_service: Bytes,
    },
}

/// Serves a connection to its end, or to where it becomes a tunnel. Once `closed` fires and nobody
/// is let in any more, it ends in order after the answer that is under way, so that no client sends
/// another request into a connection that is about to be reset.
///
/// # Errors
/// The client's connection broke.
pub(crate) async fn converse<I: Intermediary>(
    client: I::Client,
    intermediary: &I,
    patience: HttpPatience,
    closed: &CancellationToken,
) -> io::Result<End<I::Client, I::Upstream>> {
    let mut session = HttpSession {
        client: Wire::new(client),
        kept: None,
        intermediary,
        patience,
        closed,
        answered: false,
    };
    loop {
        match session.next().await? {
            Next::Request => session.answered = true,
            Next::Close => return Ok(End::Closed),
            Next::Goodbye => {
                if let Some((_, service)) = session.kept.take() {
                    end(service).await;
                }
                session.goodbye().await;
                return Ok(End::Closed);
            }
            Next::Tunnel(place, service) => return Ok(session.into_tunnel(place, service)),
        }
    }
}

struct HttpSession<'a, I: Intermediary> {
    client: Wire<I::Client>,
    /// The connection of the last request.
    kept: Option<(NextHop, Wire<I::Upstream>)>,
    intermediary: &'a I,
    patience: HttpPatience,
    closed: &'a CancellationToken,
    /// One request at least was answered: the client knows that a connection which ends may be
    /// opened again.
    answered: bool,
}

/// The step after a request.
enum Next<U: Abort> {
    Request,
    /// At once: the client has left, or must see that something was cut off.
    Close,
    /// The client may still be sending, and must hear what was said.
    Goodbye,
    Tunnel(NextHop, Wire<U>),
}

impl<I: Intermediary> HttpSession<'_, I> {
    async fn next(&mut self) -> io::Result<Next<I::Upstream>> {
        let head = match timeout(self.patience.head, self.head()).await {
            Ok(Ok(Some(head))) => head,
            Ok(Ok(None)) => return Ok(Next::Goodbye),
            Ok(Err(NoHead::Io(error))) => return Err(error),
            Ok(Err(NoHead::Malformed(malformed))) => return self.refuse(malformed).await,
            // Between two requests nobody waits for an answer.
            Err(_) if self.client.is_empty() => return Ok(Next::Goodbye),
            Err(_) => {
                let own = self.intermediary.tell(&Fault::SlowRequest);
                return self.say(&own, false, false).await;
            }
        };
        self.client.begin();
        let request = HttpRequest::parse(&head);
        let read = request.and_then(|request| {
            let length = Length::of_request(&request)?;
            let has_body = !matches!(length, Length::None | Length::Exact(0));
            match has_body && request.method == "CONNECT" {
                true => Err(Malformed::ConnectBody),
                false => Ok((request, length, !has_body)),
            }
        });
        let (mut request, length, is_whole) = match read {
            Ok(read) => read,
            Err(malformed) => return self.refuse(malformed).await,
        };
        let is_head = request.method == "HEAD";
        // A body that nobody reads would be taken for the next request.
        let keep = self.keeps(&request) && is_whole;
        match self.intermediary.judge(&request) {
            HttpVerdict::Answer(own) => self.say(&own, is_head, keep).await,
            HttpVerdict::Tunnel(place) => {
                let flow = self.intermediary.flow(&place);
                self.connect(place).instrument(flow).await
            }
            HttpVerdict::Forward(_) if !passing::may_go_on(&mut request) => {
                for secret in SECRET {
                    request.fields.remove(secret);
                }
                let own = own::last_recipient(&request.method, &request.encode());
                self.say(&own, false, keep).await
            }
            HttpVerdict::Forward(place) => {
                let flow = self.intermediary.flow(&place);
                self.forward(request, length, place).instrument(flow).await
            }
        }
    }

    /// Reads the next head; `None` if none comes, or none must begin any more.
    async fn head(&mut self) -> Result<Option<Bytes>, NoHead> {
        let (mut input, _) = self.client.split();
        loop {
            input.skip_empty_lines();
            if !input.bytes.is_empty() {
                return input.head(|_| Ok(())).await;
            }
            let filled = tokio::select! {
                biased;
                filled = input.fill() => filled,
                () = self.closed.cancelled(), if self.answered => return Ok(None),
            };
            match filled {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(NoHead::Io(error)),
            }
        }
    }

    /// Returns whether another request may follow on this connection.
    fn keeps(&self, request: &HttpRequest) -> bool {
        own::keeps(request.version, &request.fields) && !self.closed.is_cancelled()
    }

    /// Passes a request on, and its answer back.
    async fn forward(
        &mut self,
        mut request: HttpRequest,
        length: Length,
        place: NextHop,
    ) -> io::Result<Next<I::Upstream>> {
        let is_head = request.method == "HEAD";
        let keep = self.keeps(&request);
        let upgrades = passing::upgrades(&request, |name| self.intermediary.upgrades(name));
        passing::outbound(&mut request, length, &upgrades);
        self.intermediary.introduce(&mut request.fields);
        let date = now();
        let sent = Sent {
            head: request.encode(),
            length,
            method: &request.method,
            version: request.version,
            keep,
            upgrades,
            date: &date,
            idle: self.patience.idle,
        };
        // A server may close an idle connection while the next request is under way to it. What may
        // not be sent twice takes a connection of its own, so that it never runs into that.
        let may_repeat = request.is_idempotent() && length == Length::None;
        let kept = match self.kept.take() {
            Some((kept, service)) if kept == place && may_repeat => Some(service),
            Some((_, service)) => {
                end(service).await;
                None
            }
            None => None,
        };
        if let Some(mut service) = kept {
            match exchange(&mut self.client, &mut service, &sent, self.intermediary).await {
                ExchangeEnd::Nothing(error) => debug!(%error, "an idle connection was gone"),
                ended @ (ExchangeEnd::Answered { .. }
                | ExchangeEnd::Switched
                | ExchangeEnd::Failed(_)
                | ExchangeEnd::Cut { .. }
                | ExchangeEnd::Left) => {
                    return self.after(ended, service, place, is_head, keep).await;
                }
            }
        }
        let mut service = match self.reach_while_there(&place, length).await {
            Ok(service) => Wire::new(service),
            Err(None) => return Ok(Next::Close),
            Err(Some(own)) => {
                return self
                    .say(&own, is_head, keep && length == Length::None)
                    .await;
            }
        };
        let ended = exchange(&mut self.client, &mut service, &sent, self.intermediary).await;
        self.after(
            ended,
            service,
            place,
            is_head,
            keep && length == Length::None,
        )
        .await
    }

    /// Opens a connection for a request with a body of `length`, and watches the client meanwhile.
    ///
    /// # Errors
    /// The answer that the client gets instead; `None` if the client has left.
    async fn reach_while_there(
        &mut self,
        place: &NextHop,
        length: Length,
    ) -> Result<I::Upstream, Option<Own>> {
        let moves = Moves::new();
        let (mut input, _) = self.client.split();
        // A client that sends its body meanwhile is watched once that is on its way.
        let left = async {
            match length {
                Length::None => exchange::left(&mut input, self.intermediary, &moves).await,
                Length::Exact(_) | Length::Chunked | Length::UntilClose => {
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            reached = self.intermediary.reach(place) => reached.map_err(Some),
            gone = left => Err(match gone {
                Gone::Surely => None,
                Gone::Maybe => Some(self.intermediary.tell(&Fault::Silent)),
            }),
        }
    }

    /// Decides the step after an exchange. `keep` says whether the client's connection can be used
    /// again if it has no answer yet.
    async fn after(
        &mut self,
        ended: ExchangeEnd,
        service: Wire<I::Upstream>,
        place: NextHop,
        is_head: bool,
        keep: bool,
    ) -> io::Result<Next<I::Upstream>> {
        let fault = match ended {
            ExchangeEnd::Answered {
                client,
                service: keep_service,
                whole,
            } => {
                self.client.finish();
                if whole {
                    service.finish();
                }
                match keep_service && client {
                    true => self.kept = Some((place, service)),
                    false if whole => end(service).await,
                    // A request that goes no further has not ended for the service.
                    false => drop(service),
                }
                return Ok(match client {
                    true => Next::Request,
                    false => Next::Goodbye,
                });
            }
            ExchangeEnd::Switched => {
                self.client.finish();
                service.finish();
                return Ok(Next::Tunnel(place, service));
            }
            ExchangeEnd::Left => {
                debug!("a client left before its answer");
                return Ok(Next::Close);
            }
            ExchangeEnd::Cut { shows } => {
                debug!("an answer was cut off");
                if !shows {
                    return Ok(Next::Close);
                }
                self.client.finish();
                return Ok(Next::Goodbye);
            }
            ExchangeEnd::Nothing(error) => Fault::NoAnswer(error),
            ExchangeEnd::Failed(fault) => fault,
        };
        drop(service);
        let keep = keep && !matches!(fault, Fault::Request(_));
        let own = self.intermediary.tell(&fault);
        self.say(&own, is_head, keep).await
    }

    async fn connect(&mut self, place: NextHop) -> io::Result<Next<I::Upstream>> {
        match self.intermediary.reach(&place).await {
            Ok(service) => {
                let (_, mut output) = self.client.split();
                output.write(&own::connected(&now()), &Moves::new()).await?;
                self.client.finish();
                Ok(Next::Tunnel(place, Wire::new(service)))
            }
            Err(own) => self.say(&own, false, true).await,
        }
    }

    /// Refuses a request that is not sound: nobody knows where the next one begins.
    async fn refuse(&mut self, malformed: Malformed) -> io::Result<Next<I::Upstream>> {
        let own = self.intermediary.tell(&Fault::Request(malformed));
        self.say(&own, false, false).await
    }

    async fn say(&mut self, own: &Own, is_head: bool, keep: bool) -> io::Result<Next<I::Upstream>> {
        debug!(
            status = own.status,
            "an HTTP request got an answer of our own"
        );
        let bytes = own.encode(is_head, !keep, &now());
        let (_, mut output) = self.client.split();
        output.write(&bytes, &Moves::new()).await?;
        self.client.finish();
        Ok(match keep {
            true => Next::Request,
            false => Next::Goodbye,
        })
    }

    /// Ends the connection so that the answer arrives: a system that closes a connection with bytes
    /// unread resets it, and throws away what the other side has not read yet.
    async fn goodbye(&mut self) {
        let (mut input, mut output) = self.client.split();
        let reading = async {
            output.shutdown().await?;
            loop {
                input.bytes.clear();
                match timeout(GOODBYE_SILENT, input.fill()).await {
                    Ok(Ok(0)) | Err(_) => return Ok(()),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(error),
                }
            }
        };
        if let Ok(Err(error)) = timeout(GOODBYE_MAX, reading).await {
            let error: io::Error = error;
            debug!(%error, "a client's connection broke after its answer");
        }
    }

    fn into_tunnel(
        self,
        place: NextHop,
        service: Wire<I::Upstream>,
    ) -> End<I::Client, I::Upstream> {
        let (client, from_client) = self.client.into_parts();
        let (service, from_service) = service.into_parts();
        match (client, service) {
            (Some(client), Some(service)) => End::Tunnel {
                place,
                client,
                from_client,
                service,
                from_service,
            },
            _ => End::Closed,
        }
    }
}

/// Ends, in order, a connection that has no request.
async fn end<U: AsyncRead + AsyncWrite + Abort + Unpin>(mut service: Wire<U>) {
    let (_, mut output) = service.split();
    if let Err(error) = output.shutdown().await {
        debug!(%error, "a connection with a service was broken");
    }
}

/// Returns the value of a `Date` field.
#[expect(
    clippy::disallowed_methods,
    reason = "a shell: answers carry the date (RFC 9110, section 6.6.1)"
)]
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date::of(since.unwrap_or_default().as_secs())
}

/// Time that a client which has its answer may go on sending bytes that nobody reads.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// Time that it may be silent meanwhile.
const GOODBYE_SILENT: Duration = Duration::from_secs(2);

/// Fields that `TRACE` does not show (RFC 9110, section 9.3.8).
const SECRET: &[&str] = &["authorization", "cookie", "proxy-authorization"];
