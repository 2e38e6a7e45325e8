//! An HTTP service that hears in header fields who asks: each request goes on to the service with
//! `X-Overlan-*` fields that only this device can have set. Decides who may ask; the peer's key
//! says who it is, and [`crate::doors::http1`] passes the messages.
//!
//! ```text
//! overlay ── requests, in their order ──> fields replaced ──> one connection with the service,
//!                                           │                 opened again when it closed
//!                                           └─ 101 → bytes both ways
//! ```

mod identity;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug};

use super::inbound::Inbound;
use super::{ServedPort, Service};
use crate::doors::http1::{
    self, End, Fault, Fields, HttpPatience, HttpRequest, HttpVerdict, Intermediary, NextHop, Own,
    RequestTarget,
};
use crate::host::splice::{self, splice_within};
use crate::names::PeerIdentity;

/// Finds the device at an address of the network.
pub(crate) type Identify = Arc<dyn Fn(SocketAddr) -> Option<PeerIdentity> + Send + Sync>;

/// A connection with the service.
type Upstream = Either<TcpStream, UnixStream>;

/// Serves one connection of a peer to its end. `service` is open already: where nobody listens, the
/// peer was refused.
pub(super) async fn converse(
    overlay: Inbound,
    remote: SocketAddr,
    service: Service,
    config: &ServedPort,
    identify: &Identify,
    closed: &CancellationToken,
) {
    let patience = HttpPatience {
        head: HEAD_TIMEOUT,
        idle: config.patience.idle,
    };
    let served = ServedHttp {
        remote,
        config,
        identify,
        first: Mutex::new(Some(service.into())),
    };
    let ended = match http1::converse(overlay, &served, patience, closed).await {
        Ok(End::Closed) => Ok(()),
        Ok(End::Tunnel {
            place: _,
            client,
            from_client,
            service,
            from_service,
        }) => {
            tunnel(
                client,
                &from_client,
                service,
                &from_service,
                config.patience,
            )
            .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection with a peer broke");
    }
}

/// Another protocol was agreed on: bytes from here on.
async fn tunnel(
    mut overlay: Inbound,
    from_peer: &[u8],
    mut service: Upstream,
    from_service: &[u8],
    patience: splice::Patience,
) -> std::io::Result<()> {
    overlay.write_all(from_service).await?;
    overlay.flush().await?;
    service.write_all(from_peer).await?;
    match service {
        Either::Left(mut service) => splice_within(&mut overlay, &mut service, patience).await,
        Either::Right(mut service) => splice_within(&mut overlay, &mut service, patience).await,
    };
    Ok(())
}

impl From<Service> for Upstream {
    fn from(service: Service) -> Self {
        match service {
            Service::Tcp(stream) => Self::Left(stream.into_inner()),
            Service::Unix(stream) => Self::Right(stream),
        }
    }
}

/// The service's side of one connection.
struct ServedHttp<'a> {
    remote: SocketAddr,
    config: &'a ServedPort,
    identify: &'a Identify,
    /// The connection that was opened before the peer was answered, until a request takes it.
    first: Mutex<Option<Upstream>>,
}

impl Intermediary for ServedHttp<'_> {
    type Client = Inbound;
    type Upstream = Upstream;

    fn judge(&self, request: &HttpRequest) -> HttpVerdict {
        if (self.identify)(self.remote).is_none() {
            // It left the network a moment ago.
            return HttpVerdict::Answer(refusal(
                403,
                "your device is not in this network any more",
            ));
        }
        match request.target {
            RequestTarget::Authority(_) => {
                HttpVerdict::Answer(refusal(405, "this is a service, not a proxy"))
            }
            // Whatever host the URL names, there is one service here.
            RequestTarget::Origin(_) | RequestTarget::Absolute { .. } | RequestTarget::Asterisk => {
                HttpVerdict::Forward(NextHop {
                    host: SERVICE.to_owned(),
                    port: 0,
                })
            }
        }
    }

    async fn reach(&self, _: &NextHop) -> Result<Upstream, Own> {
        let first = self.first.lock().take();
        if let Some(first) = first {
            return Ok(first);
        }
        let target = &self.config.target;
        match timeout(self.config.connect_timeout, super::dial(target, &[])).await {
            Ok(Ok(service)) => Ok(service.into()),
            Ok(Err(error)) => {
                debug!(%error, "the service is not there");
                Err(refusal(
                    502,
                    "the service of this port takes no connections; ask its owner to start it",
                ))
            }
            Err(_) => {
                debug!("the service does not answer");
                Err(refusal(
                    504,
                    "the service of this port did not take the connection in time",
                ))
            }
        }
    }

    fn tell(&self, fault: &Fault) -> Own {
        debug!(%fault, "a request or its answer does not pass");
        let status = match fault {
            Fault::Request(malformed) => malformed.status(),
            Fault::SlowRequest => 408,
            Fault::Answer(_) | Fault::UnaskedUpgrade | Fault::NoAnswer(_) => 502,
            Fault::Silent => 504,
        };
        refusal(status, &fault.to_string())
    }

    /// None: the connection has its own, and there is one service.
    fn flow(&self, _: &NextHop) -> Span {
        Span::none()
    }

    fn introduce(&self, fields: &mut Fields) {
        identity::introduce(
            fields,
            self.remote.ip(),
            (self.identify)(self.remote).as_ref(),
        );
    }

    fn passes(&self, name: &str) -> bool {
        !identity::is_claim(name)
    }

    fn upgrades(&self, protocol: &str) -> bool {
        UPGRADES
            .iter()
            .any(|known| protocol.eq_ignore_ascii_case(known))
    }

    /// A program at the peer may still read a stream whose side it has closed; only a reset says
    /// that none does.
    fn has_left(&self, _: &Inbound) -> bool {
        false
    }
}

fn refusal(status: u16, text: &str) -> Own {
    Own::text(status, format!("overlan: {text}.\n"))
}

/// Protocols that a connection may change to. A service that speaks another one takes bytes from
/// the peer that nobody here has read, and believes fields in them: for those there is `serve tcp`.
const UPGRADES: &[&str] = &["websocket"];

/// The host of every request: there is one service.
const SERVICE: &str = "service";

/// Time between two requests. A browser keeps its connections for its next ones; if that comes
/// later, it opens another. Answers take their time, unless a person has said how long nothing may
/// move: some services are silent for hours.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
