//! Publishes one local port to a network: decides when an inbound connection is answered, which is once the local service has
//! taken it. Who may ask at all is decided before, where packets come in.
//!
//! A local port where nobody listens is a true "connection refused" for the peer, never a connection that ends at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use overlan_netstack::{Incoming, TcpListener};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::accept;
use crate::splice::splice;

/// Where connections go unless a person named another address: the same machine, and only its loopback.
#[must_use]
pub fn local_target(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// How a port is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposeConfig {
    /// The local service: [`local_target`], or what a person named.
    pub target: SocketAddr,
    /// How long the service may take to accept.
    pub connect_timeout: Duration,
    /// Connections at once; more wait in the listener's backlog, and their senders with them.
    pub max_connections: usize,
}

impl ExposeConfig {
    /// Publishes `target` with the usual limits.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            connect_timeout: CONNECT_TIMEOUT,
            max_connections: accept::connections_max(),
        }
    }
}

/// Serves the listener until `shutdown`, then ends every connection and returns.
pub async fn run(listener: TcpListener, config: ExposeConfig, shutdown: CancellationToken) {
    let config = Arc::new(config);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => accept::report(ended),
            incoming = listener.accept(), if connections.len() < config.max_connections => {
                let (config, shutdown) = (config.clone(), shutdown.clone());
                connections.spawn(async move {
                    shutdown.run_until_cancelled(connection(incoming, &config)).await;
                });
            }
        }
    }
    while let Some(ended) = connections.join_next().await {
        accept::report(ended);
    }
}

async fn connection(incoming: Incoming, config: &ExposeConfig) {
    let remote = incoming.remote();
    let mut local = match timeout(config.connect_timeout, dial(config.target)).await {
        Ok(Ok(local)) => local,
        Ok(Err(error)) => {
            debug!(%remote, target = %config.target, %error, "the local service is not there");
            return incoming.refuse();
        }
        Err(_) => {
            debug!(%remote, target = %config.target, "the local service does not answer");
            return incoming.refuse();
        }
    };
    let mut overlay = incoming.accept();
    let spliced = splice(&mut overlay, &mut local).await;
    debug!(%remote, ?spliced, "an inbound connection ended");
}

async fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Shorter than the time that the netstack gives a handshake, so that the peer hears an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
