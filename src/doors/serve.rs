//! Publishes one service to a network: decides when an inbound connection is answered, which is
//! once the local service has taken it. Who may ask at all is decided before, where packets come
//! in.
//!
//! A local port where nobody listens is a true "connection refused" for the peer, never a
//! connection that ends at once.

pub(crate) mod datagrams;

pub(crate) mod http;

pub(crate) mod inbound;

mod proxy_protocol;

pub mod service;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlan_netstack::{Incoming, TcpListener};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::doors::serve::service::{Serve, ServeKind, Target};
use crate::host::accept::{self, Until, Vacancy};
use crate::host::reminder::Reminder;
use crate::host::sockets;
use crate::host::splice::{Abort, HostSocket, Patience, ResetOnDrop, splice_within};
use crate::host::{dial_times, direct};
use crate::names::Destination;
use crate::names::DialError;

use self::http::Identify;
use self::inbound::{Inbound, Securing};

/// How a port is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedPort {
    /// The service: the same machine's loopback, or what a person named.
    pub target: Target,
    /// Whether the service is told first who its peer is.
    pub proxy_protocol: bool,
    /// Whether the service speaks HTTP and hears in each request who asks.
    pub http: bool,
    /// Ends TLS before the service hears anything; `None` = the service gets what the peer says.
    pub(crate) securing: Option<Securing>,
    /// How long the service may take to accept.
    pub connect_timeout: Duration,
    /// How long a connection may go without a byte. HTTP has its own times.
    pub patience: Patience,
}

impl ServedPort {
    /// Publishes what `serve` says, with the usual limits.
    #[must_use]
    pub(crate) fn new(serve: &Serve) -> Self {
        Self {
            target: serve.target.clone(),
            proxy_protocol: serve.proxy_protocol,
            http: serve.kind == ServeKind::Http,
            securing: None,
            connect_timeout: dial_times::SERVICE_CONNECT,
            patience: Patience::default(),
        }
    }
}

/// Serves the listener until the port is closed, and returns when every connection has ended, by
/// itself or with `until`. HTTP services hear from `identify` who asks. Of the connections at once
/// that `vacancy` names one peer gets a quarter, and never more than are left for others; who finds
/// no place waits in the listener's backlog.
pub(crate) async fn run(
    listener: TcpListener,
    config: ServedPort,
    identify: Identify,
    vacancy: &Vacancy,
    until: impl Into<Until>,
) {
    let until = until.into();
    let config = Arc::new(config);
    let service = Arc::new(Presence::default());
    accept::run_overlay(listener, vacancy, &until, |incoming| {
        let (config, identify) = (config.clone(), identify.clone());
        let (service, closed) = (Arc::clone(&service), until.closed.clone());
        let span = debug_span!("served", peer = %incoming.remote(), target = %config.target);
        async move { connection(incoming, &config, &identify, &service, &closed).await }
            .instrument(span)
    })
    .await;
}

/// Whether the service of a port is there, as far as peers have asked for it.
#[derive(Debug, Default)]
struct Presence {
    is_gone: AtomicBool,
    reminder: Reminder,
}

impl Presence {
    /// It took a connection at `now`, or did not. Whether that is to be said: each change is, and
    /// that it is gone at most once a minute.
    fn handle_asked(&self, now: Instant, is_there: bool) -> bool {
        let was_gone = self.is_gone.swap(!is_there, Ordering::Relaxed);
        match is_there {
            true => was_gone,
            false => !was_gone && self.reminder.due(now).is_some(),
        }
    }

    /// It took a connection.
    fn is_there(&self, target: &Target) {
        if self.handle_asked(Instant::now(), true) {
            info!(%target, "the service is there again");
        }
    }

    /// It did not.
    fn is_not_there(&self, target: &Target, error: &dyn fmt::Display) {
        if self.handle_asked(Instant::now(), false) {
            warn!(%target, %error, "the service is not there: peers are refused until it is");
        }
    }
}

async fn connection(
    incoming: Incoming,
    config: &ServedPort,
    identify: &Identify,
    presence: &Presence,
    closed: &CancellationToken,
) {
    let remote = incoming.remote();
    let header = match config.proxy_protocol {
        true => proxy_protocol::header(remote, incoming.local()),
        false => Vec::new(),
    };
    let service = match timeout(config.connect_timeout, dial(&config.target, &header)).await {
        Ok(Ok(service)) => service,
        Ok(Err(error)) => {
            debug!(%remote, target = %config.target, %error, "the service is not there");
            presence.is_not_there(&config.target, &error);
            return incoming.refuse();
        }
        Err(_) => {
            debug!(%remote, target = %config.target, "the service does not answer");
            presence.is_not_there(&config.target, &"it does not answer");
            return incoming.refuse();
        }
    };
    presence.is_there(&config.target);
    let overlay = incoming.accept();
    let overlay = match &config.securing {
        None => Inbound::Plain(overlay),
        Some(securing) => match securing.accept(overlay).await {
            Ok(secured) => secured,
            Err(error) => return debug!(%remote, %error, "no TLS with a peer"),
        },
    };
    match service {
        service if config.http => {
            http::converse(overlay, remote, service, config, identify, closed).await;
        }
        Service::Tcp(service) => splice_service(overlay, remote, service, config.patience).await,
        Service::Unix(service) => splice_service(overlay, remote, service, config.patience).await,
    }
}

async fn splice_service<S: HostSocket + Abort>(
    mut overlay: Inbound,
    remote: SocketAddr,
    mut service: S,
    patience: Patience,
) {
    let spliced = splice_within(&mut overlay, &mut service, patience).await;
    debug!(%remote, ?spliced, "an inbound connection ended");
}

/// A connection with the service.
enum Service {
    Tcp(ResetOnDrop<TcpStream>),
    Unix(UnixStream),
}

/// Connects, and says `header` first.
async fn dial(target: &Target, header: &[u8]) -> Result<Service, DialError> {
    match target {
        Target::Address(address) => {
            let connected = TcpStream::connect(address).await;
            let stream = connected.inspect_err(sockets::note_shortage)?;
            sockets::prepare(&stream);
            Ok(Service::Tcp(told(ResetOnDrop::new(stream), header).await?))
        }
        Target::Host(host, port) => {
            let stream = direct::dial(Destination::Name(host.clone()), *port).await?;
            Ok(Service::Tcp(told(ResetOnDrop::new(stream), header).await?))
        }
        Target::Unix(path) => {
            let connected = UnixStream::connect(path).await;
            let stream = connected.inspect_err(sockets::note_shortage)?;
            Ok(Service::Unix(told(stream, header).await?))
        }
    }
}

async fn told<S: HostSocket>(mut stream: S, header: &[u8]) -> io::Result<S> {
    stream.write_all(header).await?;
    Ok(stream)
}

#[cfg(test)]
pub(crate) mod tests;
