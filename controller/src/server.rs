//! The TLS listener: accepts, limits, and hands each connection to the API with its exporter. HTTP/1.1 only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use overlan_protocol::Exporter;
use overlan_transport::tls;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::shared::lock;

/// The connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub(crate) exporter: Exporter,
}

/// Accepts connections until `stop`, then ends them: idle ones at once, others after their answer, all within
/// [`SHUTDOWN_WITHIN`].
pub(crate) async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    api: Api,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(config);
    let limits = Arc::new(Mutex::new(Limits::default()));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some end soon.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = Place::take(&limits, peer) else {
            tracing::debug!("too many connections; one was dropped");
            continue;
        };
        let connection = handle(tcp, acceptor.clone(), api.clone(), stop.clone());
        let abort = abort.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection => {}
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if timeout(SHUTDOWN_WITHIN, tasks.wait()).await.is_err() {
        abort.cancel();
        tasks.wait().await;
    }
}

async fn handle(tcp: TcpStream, acceptor: TlsAcceptor, api: Api, stop: CancellationToken) {
    if let Err(error) = configure(&tcp) {
        tracing::debug!(%error, "cannot configure a connection");
        return;
    }
    let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => tokio_rustls::TlsStream::from(stream),
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let channel = Channel {
        exporter: tls::exporter(&stream),
    };
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let asked = asked.clone();
        move |request: hyper::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request, channel).await) }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_WITHIN)
        .max_header_size(HEADER_MAX)
        .max_buf_size(BUFFER_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut first_request = pin!(sleep(HEADER_WITHIN));
    let mut waiting_for_first = true;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = first_request.as_mut(), if waiting_for_first => {
                if !asked.load(Ordering::Relaxed) {
                    return tracing::debug!("no request came in time");
                }
                waiting_for_first = false;
            }
            () = stop.cancelled(), if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

/// An end that vanished must be noticed: a device counts as online while its stream is open.
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

/// Open connections, in all and by source.
#[derive(Debug, Default)]
struct Limits {
    total: usize,
    sources: BTreeMap<IpAddr, usize>,
}

/// One connection's place within the limits.
#[derive(Debug)]
struct Place {
    limits: Arc<Mutex<Limits>>,
    source: IpAddr,
}

impl Place {
    fn take(limits: &Arc<Mutex<Limits>>, peer: SocketAddr) -> Option<Self> {
        let source = source(peer.ip());
        let allowed = if source.is_loopback() {
            LOOPBACK_CONNECTIONS_MAX
        } else {
            SOURCE_CONNECTIONS_MAX
        };
        let mut held = lock(limits);
        let open = held.sources.get(&source).copied().unwrap_or(0);
        if held.total >= CONNECTIONS_MAX || open >= allowed {
            return None;
        }
        held.total += 1;
        held.sources.insert(source, open + 1);
        Some(Self {
            limits: limits.clone(),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.limits);
        held.total -= 1;
        if let Some(open) = held.sources.get_mut(&self.source) {
            *open -= 1;
            if *open == 0 {
                held.sources.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /56 that one IPv6 customer gets.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let prefix = v6.to_bits() & !(u128::MAX >> SOURCE_PREFIX_V6);
            IpAddr::V6(prefix.into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => ip.to_canonical(),
    }
}

/// Most connections at once: each device holds one, each relay one.
const CONNECTIONS_MAX: usize = 1_024;
/// Most connections from one source.
const SOURCE_CONNECTIONS_MAX: usize = 64;
/// Most connections from this very host, where relays, demo and tests run.
const LOOPBACK_CONNECTIONS_MAX: usize = 768;
const SOURCE_PREFIX_V6: u32 = 56;

/// Longest header block, bytes.
const HEADER_MAX: usize = 16 * 1024;
/// Read and write buffer of a connection, bytes: a header block and a body fit.
const BUFFER_MAX: usize = 64 * 1024;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The first request must be there this soon after the handshake.
const HEADER_WITHIN: Duration = Duration::from_secs(5);
/// A further request must be there this soon after the answer before it; also how long a connection may idle.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Sent bytes that stay unacknowledged this long end the connection.
#[cfg(target_os = "linux")]
const UNANSWERED_WITHIN: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn place(limits: &Arc<Mutex<Limits>>, peer: &str) -> Option<Place> {
        Place::take(limits, SocketAddr::new(peer.parse().unwrap(), 1))
    }

    #[test]
    fn one_source_has_its_own_limit_and_gets_its_places_back() {
        let limits = Arc::default();
        let held: Vec<_> = (0..SOURCE_CONNECTIONS_MAX)
            .map(|_| place(&limits, "192.0.2.1").unwrap())
            .collect();
        assert!(place(&limits, "192.0.2.1").is_none());
        assert!(
            place(&limits, "::ffff:192.0.2.1").is_none(),
            "the same host"
        );
        assert!(place(&limits, "192.0.2.2").is_some(), "another host");
        drop(held);
        assert!(place(&limits, "192.0.2.1").is_some());
        assert_eq!(lock(&limits).total, 0);
    }

    #[test]
    fn an_ipv6_customer_is_one_source() {
        assert_eq!(
            source("2001:db8:0:1::1".parse().unwrap()),
            source("2001:db8:0:ff::2".parse().unwrap())
        );
        assert_ne!(
            source("2001:db8:0:1::1".parse().unwrap()),
            source("2001:db8:0:100::1".parse().unwrap())
        );
    }

    #[test]
    fn this_host_may_hold_many_and_all_together_are_bounded() {
        let limits = Arc::default();
        let mut held = Vec::new();
        while let Some(next) = place(&limits, "127.0.0.1") {
            held.push(next);
        }
        assert_eq!(held.len(), LOOPBACK_CONNECTIONS_MAX);
        for number in 0..=u8::MAX {
            for _ in 0..SOURCE_CONNECTIONS_MAX {
                held.extend(place(&limits, &format!("192.0.2.{number}")));
            }
        }
        assert_eq!(held.len(), CONNECTIONS_MAX);
    }
}
