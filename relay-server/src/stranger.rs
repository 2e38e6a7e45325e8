//! Serves one accepted TCP connection to its end: TLS and HELLO make a client of a stranger, then
//! the pump moves bytes between the socket and its `conn`. Decides nothing about who may come
//! (`admit`); holds the times that a stranger has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::ALPN_RELAY;
use overlan_protocol::frame::{self, Frame, HEADER_LEN, Vni};
use overlan_protocol::hello::{Reject, RejectCode};
use overlan_transport::clock;
use overlan_transport::pump::{self, Ended};
use overlan_transport::tls::{self, Stepwise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::field::{self, Empty};
use tracing::{Instrument as _, Span};

use crate::admit::{self, Admitted};
use crate::conn::Conn;
use crate::hub::{Hub, Seat};

/// Serves a connection that came from `from`. Log lines about it name it by the span
/// `connection{from device networks}`, whose parent is the span of the caller. The pump runs
/// outside of that span, since entering one costs something each time that the task wakes up, and
/// the pump logs nothing.
pub(crate) fn serve(
    hub: Arc<Hub>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    from: SocketAddr,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    let span = tracing::error_span!(
        "connection",
        from = %from.ip(),
        device = Empty,
        networks = Empty,
    );
    serve_named(hub, acceptor, tcp, seat, span)
}

async fn serve_named(
    hub: Arc<Hub>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    mut seat: Seat,
    span: Span,
) {
    let attached = attach(&hub, &acceptor, tcp, &mut seat, &span);
    let Some((stream, mut conn)) = attached.instrument(span.clone()).await else {
        return;
    };
    let ended = pump::run(stream, &mut conn).await;
    let _entered = span.entered();
    match &ended {
        Ended::Ours(reject) => {
            hub.metrics.count_rejected(reject.code);
            tracing::debug!(reason = %reject.text, "ended the client's connection");
        }
        Ended::Closed | Ended::Broken(_) | Ended::Silent | Ended::Stalled => {
            tracing::debug!(?ended, "the client left");
        }
    }
}

/// Makes a client of a stranger, if it proves one in time and no other stranger needs its place.
async fn attach(
    hub: &Arc<Hub>,
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    seat: &mut Seat,
    span: &Span,
) -> Option<(TlsStream<Stepwise>, Conn)> {
    let evicted = seat.evicted();
    let welcomed = welcome(hub, acceptor, tcp, seat);
    let (mut stream, admitted) = evicted.run_until_cancelled(welcomed).await.flatten()?;
    let ticket = &admitted.ticket;
    let networks: Vec<Vni> = ticket.networks.iter().map(|(vni, _)| *vni).collect();
    span.record("device", field::display(ticket.device));
    span.record("networks", field::debug(networks));
    match Conn::attach(hub.clone(), admitted, clock::now(), clock::wall()) {
        Ok(conn) => Some((stream, conn)),
        Err(reject) => {
            refuse(hub, &mut stream, &reject).await;
            None
        }
    }
}

/// TLS and HELLO, each within its time. Every failure is counted and quiet: the other side is a
/// stranger.
async fn welcome(
    hub: &Hub,
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    seat: &mut Seat,
) -> Option<(TlsStream<Stepwise>, Admitted)> {
    let mut stream: TlsStream<Stepwise> = match timeout(
        hub.settings.tls_within,
        acceptor.accept(Stepwise::of_stranger(tcp)),
    )
    .await
    {
        Ok(Ok(stream)) => stream.into(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the TLS handshake failed");
            hub.metrics.tls_failed.inc();
            return None;
        }
        Err(_) => {
            hub.metrics.deadline_missed.inc();
            return None;
        }
    };
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_RELAY) {
        hub.metrics.tls_failed.inc();
        return None;
    }
    let body = match timeout(hub.settings.hello_within, read_hello(&mut stream)).await {
        Ok(Ok(body)) => body,
        Ok(Err(NoHello::Gone)) => return None,
        Ok(Err(NoHello::Protocol)) => {
            let reject = Reject::new(RejectCode::Protocol, "a HELLO must come first");
            refuse(hub, &mut stream, &reject).await;
            return None;
        }
        Err(_) => {
            hub.metrics.deadline_missed.inc();
            return None;
        }
    };
    let exporter = tls::exporter(&stream);
    let orders = hub.orders();
    let verdict = admit::admit(&body, &exporter, hub.id, &orders, clock::wall()).and_then(|it| {
        seat.prove()
            .map_err(|refusal| {
                hub.metrics.count_refused(refusal);
                overloaded()
            })
            .map(|()| it)
    });
    match verdict {
        Ok(admitted) => Some((stream, admitted)),
        Err(reject) => {
            refuse(hub, &mut stream, &reject).await;
            None
        }
    }
}

/// The reason why no HELLO was read.
enum NoHello {
    /// The other side went away.
    Gone,
    /// It sent something else.
    Protocol,
}

/// Reads the body of the first frame and not a byte more: what follows belongs to the pump.
async fn read_hello(stream: &mut TlsStream<Stepwise>) -> Result<Vec<u8>, NoHello> {
    let mut bytes = vec![0; HEADER_LEN];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|_| NoHello::Gone)?;
    if bytes[0] != frame::kind::HELLO {
        return Err(NoHello::Protocol);
    }
    // With the header alone this checks the claimed length against the limit, before memory is
    // given for it.
    frame::decode(&bytes, frame::UNPROVEN_BODY_MAX).map_err(|_| NoHello::Protocol)?;
    let length = u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]);
    let mut body = vec![0; length as usize];
    stream
        .read_exact(&mut body)
        .await
        .map_err(|_| NoHello::Gone)?;
    Ok(body)
}

/// Answers a stranger with the reason why it is refused.
async fn refuse(hub: &Hub, stream: &mut TlsStream<Stepwise>, reject: &Reject) {
    hub.metrics.count_rejected(reject.code);
    // A stranger can cause it, so it is bounded; with a wrong clock it is all that shows why a
    // relay has no clients.
    let is_ticket = matches!(
        reject.code,
        RejectCode::TicketExpired | RejectCode::TicketInvalid
    );
    let times = is_ticket
        .then(|| hub.count_refused_ticket(clock::now()))
        .flatten();
    match times {
        Some(times) => tracing::info!(reason = %reject.text, times, "refused a device's ticket"),
        None => tracing::debug!(reason = %reject.text, "refused a connection"),
    }
    let mut out = Vec::new();
    Frame::Reject(&reject.encode()).encode(&mut out);
    let goodbye = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    // The stranger may be gone or stuck; it gets a moment to hear why.
    let _ = timeout(LAST_WORDS, goodbye).await;
}

fn overloaded() -> Reject {
    Reject {
        code: RejectCode::Overloaded,
        retry_after_ms: OVERLOADED_RETRY_MS,
        text: "the relay has as many clients as it takes".to_owned(),
    }
}

/// Time for a refused stranger to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The time after which a client may try again that found the relay full.
const OVERLOADED_RETRY_MS: u32 = 5_000;
