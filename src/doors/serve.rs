//! Serves one port to a network: decides when an inbound connection is answered, which is once the
//! local service has taken it. Who may ask at all is decided before, where packets come in.
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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use overlan_netstack::{Incoming, TcpListener};
use overlan_transport::clock::now;
use overlan_transport::reminder::Reminder;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::doors::serve::service::{Serve, ServeKind, Target};
use crate::host::accept::{self, Until, Vacancy};
use crate::host::sockets;
use crate::host::splice::{Abort, HostSocket, Patience, ResetOnDrop, splice_within};
use crate::host::{dial_times, direct};
use crate::names::Destination;
use crate::names::DialError;

use self::http::Identify;
use self::inbound::{Inbound, Securing};

/// The settings of a served port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedPort {
    /// The service: on the same machine's loopback, or where a person said.
    pub target: Target,
    /// True if the service hears first who its peer is.
    pub proxy_protocol: bool,
    /// True if the service speaks HTTP and hears in each request who asks.
    pub http: bool,
    /// Ends TLS before the service hears anything; `None` = the service gets the bytes as they
    /// come.
    pub(crate) securing: Option<Securing>,
    /// Time that the service may take to accept.
    pub connect_timeout: Duration,
    /// Time that a connection may go without a byte. HTTP has its own times.
    pub patience: Patience,
}

impl ServedPort {
    /// Serves what `serve` says, with the usual limits.
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
/// that `vacancy` names one peer gets a quarter, and never more than are left for others; one that
/// finds no place waits in the listener's backlog.
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
        let remote = incoming.remote();
        let peer = || identify(remote).map(|peer| peer.name);
        let span = debug_span!("peer", name = peer(), address = %remote);
        let span = debug_span!(parent: &span, "flow", target = %config.target);
        async move { connection(incoming, &config, &identify, &service, &closed).await }
            .instrument(span)
    })
    .await;
}

/// The presence of a port's service, as far as peers have asked for it.
#[derive(Debug, Default)]
struct Presence {
    is_gone: AtomicBool,
    reminder: Reminder,
}

impl Presence {
    /// Notes at `now` whether it took a connection. Returns whether that must be logged: each
    /// change is, and its absence once a minute at most.
    fn handle_asked(&self, now: Instant, is_there: bool) -> bool {
        let was_gone = self.is_gone.swap(!is_there, Ordering::Relaxed);
        match is_there {
            true => was_gone,
            false => !was_gone && self.reminder.due(now).is_some(),
        }
    }

    /// Notes that it took a connection.
    fn is_there(&self, target: &Target) {
        if self.handle_asked(now(), true) {
            info!(%target, "the service is there again");
        }
    }

    /// Notes that it did not.
    fn is_not_there(&self, target: &Target, error: &dyn fmt::Display) {
        if self.handle_asked(now(), false) {
            warn!(
                %target, %error,
                "the service is not there: peers are refused until it listens again"
            );
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
            debug!(%error, "the service is not there");
            presence.is_not_there(&config.target, &error);
            return incoming.refuse();
        }
        Err(_) => {
            debug!("the service does not answer");
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
            Err(error) => return debug!(%error, "the TLS handshake with a peer failed"),
        },
    };
    match service {
        service if config.http => {
            http::converse(overlay, remote, service, config, identify, closed).await;
        }
        Service::Tcp(service) => splice_service(overlay, service, config.patience).await,
        Service::Unix(service) => splice_service(overlay, service, config.patience).await,
    }
}

async fn splice_service<S: HostSocket + Abort>(
    mut overlay: Inbound,
    mut service: S,
    patience: Patience,
) {
    let spliced = splice_within(&mut overlay, &mut service, patience).await;
    debug!(?spliced, "an inbound connection ended");
}

/// A connection with the service.
enum Service {
    Tcp(ResetOnDrop<TcpStream>),
    Unix(UnixStream),
}

/// Connects, and sends `header` first.
async fn dial(target: &Target, header: &[u8]) -> Result<Service, DialError> {
    match target {
        Target::Address(address) => {
            let connected = TcpStream::connect(address).await;
            let stream = connected.inspect_err(sockets::note_shortage)?;
            sockets::prepare(&stream);
            Ok(Service::Tcp(
                introduced(ResetOnDrop::new(stream), header).await?,
            ))
        }
        Target::Host(host) => {
            let name = Destination::Name(host.host().to_owned());
            let stream = direct::dial(name, host.port()).await?;
            Ok(Service::Tcp(
                introduced(ResetOnDrop::new(stream), header).await?,
            ))
        }
        Target::Unix(path) => {
            let connected = UnixStream::connect(path).await;
            let stream = connected.inspect_err(sockets::note_shortage)?;
            Ok(Service::Unix(introduced(stream, header).await?))
        }
    }
}

async fn introduced<S: HostSocket>(mut stream: S, header: &[u8]) -> io::Result<S> {
    stream.write_all(header).await?;
    Ok(stream)
}

#[cfg(test)]
pub(crate) mod tests;
