//! The TLS listener: accepts, and hands each connection to the API with its exporter and its place.
//! HTTP/1.1 only. [`crate::limits`] decides who may hold a connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use overlan_transport::strangers::source;
use overlan_transport::{accept, tls};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::api::{Api, Channel, Response};
use crate::deployment::Deployment;
use crate::limits::NoRoom;
use crate::metrics::Counts;
use crate::seats::{Seat, Seats};

/// Everything by which the connections of one listener are answered.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) api: Api,
    pub(crate) seats: Arc<Seats>,
    pub(crate) counts: Arc<Counts>,
    /// The time within which a connection must prove who holds it.
    pub(crate) stranger_within: Duration,
}

impl Answers {
    fn tls(&self) -> Arc<ServerConfig> {
        self.deployment.keys.server().tls.clone()
    }
}

/// Accepts connections until `stop`, then ends them: idle ones at once, others after their answer,
/// all within [`SHUTDOWN_WITHIN`].
pub(crate) async fn serve(listener: TcpListener, answers: Answers, stop: CancellationToken) {
    let incoming = accept::Incoming::new(listener, "connections");
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let (tcp, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = incoming.next() => accepted,
        };
        answers.counts.add_accepted();
        let (answers, stop) = (answers.clone(), stop.clone());
        let abort = abort.clone();
        match answers.seats.admit(peer.ip()) {
            Ok(seat) => {
                let span = seat.span().clone();
                let accepted = Accepted {
                    tcp,
                    address: peer.ip(),
                    seat: Arc::new(seat),
                    stop,
                };
                let handled = async move {
                    tokio::select! {
                        () = abort.cancelled() => {}
                        () = handle(accepted, answers) => {}
                    }
                };
                tasks.spawn(handled.instrument(span))
            }
            Err(refusal) => {
                answers.counts.add_refused(refusal);
                tracing::debug!(source = %peer.ip(), ?refusal, "no room for a connection");
                let Ok(permit) = refusals.clone().try_acquire_owned() else {
                    continue;
                };
                let refused = refuse(tcp, answers.tls().into(), refusal);
                tasks.spawn(async move {
                    tokio::select! {
                        () = abort.cancelled() => {}
                        _ = timeout(REFUSED_WITHIN, refused) => {}
                    }
                    drop(permit);
                })
            }
        };
    }
    drop(incoming);
    tasks.close();
    if timeout(SHUTDOWN_WITHIN, tasks.wait()).await.is_err() {
        abort.cancel();
        tasks.wait().await;
    }
}

/// Answers one request with the refusal that there is no room.
async fn refuse(tcp: TcpStream, acceptor: TlsAcceptor, refusal: NoRoom) {
    let Ok(stream) = acceptor.accept(tcp).await else {
        return;
    };
    let service = service_fn(|_: hyper::Request<Incoming>| async move {
        Ok::<_, Infallible>(Api::no_room(refusal))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_header_size(HEADER_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// An accepted connection, with its source, its place, and the token that ends the server.
#[derive(Debug)]
struct Accepted {
    tcp: TcpStream,
    address: IpAddr,
    seat: Arc<Seat>,
    stop: CancellationToken,
}

async fn handle(accepted: Accepted, answers: Answers) {
    let Accepted {
        tcp,
        address,
        seat,
        stop,
    } = accepted;
    if let Err(error) = configure(&tcp) {
        tracing::debug!(%error, "cannot configure a connection");
        return;
    }
    let accepted_at = Instant::now();
    let handshake = handshake(tcp, answers.tls(), &seat);
    let Some(stream) = handshake.await else {
        return;
    };
    let channel = Channel {
        exporter: tls::exporter(&stream),
        address,
        source: source(address),
        seat: seat.clone(),
    };
    let requests = Arc::new(Requests::default());
    let stranger_until = accepted_at + answers.stranger_within;
    let service = service(answers, channel, requests.clone());
    let mut connection = pin!(builder().serve_connection(TokioIo::new(stream), service));
    let mut stranger_until = pin!(sleep_until(stranger_until));
    let mut may_be_stranger = true;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = seat.evicted(), if may_be_stranger => {
                return tracing::debug!("a stranger made room for another");
            }
            () = stranger_until.as_mut(), if may_be_stranger => {
                let busy_until = accepted_at + STRANGER_BUSY_WITHIN;
                may_be_stranger = seat.is_stranger();
                if may_be_stranger {
                    if !requests.is_busy() || Instant::now() >= busy_until {
                        return tracing::debug!("a connection was not proved in time");
                    }
                    stranger_until.as_mut().reset(Instant::now() + STRANGER_AGAIN);
                }
            }
            () = stop.cancelled(), if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

/// Does the TLS handshake, as long as nobody else needs the place.
async fn handshake(
    tcp: TcpStream,
    tls: Arc<ServerConfig>,
    seat: &Seat,
) -> Option<TlsStream<TcpStream>> {
    let accept = TlsAcceptor::from(tls).accept(tcp);
    let accepted = tokio::select! {
        () = seat.evicted() => {
            tracing::debug!("a stranger made room for another");
            return None;
        }
        accepted = timeout(HANDSHAKE_WITHIN, accept) => accepted,
    };
    match accepted {
        Ok(Ok(stream)) => return Some(stream.into()),
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
    None
}

/// Answers the requests of one connection, only a few as long as it is a stranger's.
fn service(
    answers: Answers,
    channel: Channel,
    requests: Arc<Requests>,
) -> impl Service<hyper::Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    service_fn(move |request: hyper::Request<Incoming>| {
        let (api, channel) = (answers.api.clone(), channel.clone());
        let counts = answers.counts.clone();
        let one = requests.begin();
        async move {
            let response = if one.number > STRANGER_REQUESTS_MAX && channel.seat.is_stranger() {
                Api::no_room(NoRoom::Caller)
            } else {
                api.answer(request, channel).await
            };
            counts.add_request(response.status().as_u16());
            drop(one);
            Ok(response)
        }
    })
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_WITHIN)
        .max_header_size(HEADER_MAX)
        .max_buf_size(BUFFER_MAX);
    builder
}

/// The requests of one connection: their number, and whether one is being answered.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Requests {
    fn begin(self: &Arc<Self>) -> OneRequest {
        OneRequest {
            number: self.begun.fetch_add(1, Ordering::Relaxed) + 1,
            requests: self.clone(),
        }
    }

    fn is_busy(&self) -> bool {
        self.begun.load(Ordering::Relaxed) != self.ended.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct OneRequest {
    requests: Arc<Requests>,
    /// Its number, from 1.
    number: usize,
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        self.requests.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes the kernel notice a vanished peer: a device counts as online while its stream is open.
fn configure(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNANSWERED_WITHIN))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_EVERY)
        .with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)
}

/// Connections that may be refused with an answer at the same time: an attacker can cause so many
/// handshakes in vain.
const REFUSALS_MAX: usize = 64;
/// The time for such a connection, from the handshake to the end of the answer.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// Requests of a connection that has not proved who holds it: a repeated login, or an enrolment and
/// the requests after it.
const STRANGER_REQUESTS_MAX: usize = 8;
/// The longest stay of a stranger whose request is being answered: a password waits for its turn, a
/// body for its network.
const STRANGER_BUSY_WITHIN: Duration = Duration::from_secs(40);
/// The time between two looks at such a stranger.
const STRANGER_AGAIN: Duration = Duration::from_secs(1);

/// Longest header block, bytes.
const HEADER_MAX: usize = 16 * 1024;
/// Read and write buffer of a connection, bytes: a header block and a body fit.
const BUFFER_MAX: usize = 64 * 1024;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The time within which a further request must follow an answer, and for which a connection may
/// idle.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// The time after which unacknowledged bytes end the connection.
#[cfg(target_os = "linux")]
const UNANSWERED_WITHIN: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
