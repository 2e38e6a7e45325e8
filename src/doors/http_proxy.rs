//! HTTP as a proxy speaks it: decides what a request asks for, who may ask, and how a request is
//! refused. [`crate::doors::http1`] passes the messages.
//!
//! ```text
//! head → password? ─┬─ CONNECT host:port → dial → 200 → splice
//!                   ├─ GET http://host/… → forward → answer ─┬─ next request, for any host
//!                   │                                        └─ 101 → splice
//!                   └─ GET /proxy.pac → the script by which a browser chooses
//! ```

mod credentials;

pub(crate) mod pac;

pub(crate) mod refusal;

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;
use tracing::{Instrument, Span, debug_span};

use crate::doors::client::{Client, has_left, splice_client};
use crate::doors::door::ProxyDoor;
use crate::doors::http1::{
    self, Authority, End, Fault, Fields, HttpPatience, HttpRequest, HttpVerdict, Intermediary,
    NextHop, Own, RequestTarget,
};
use crate::doors::overlay::Overlay;
use crate::doors::places::{AdmittedClient, NoShare};
use crate::names::Destination;

use refusal::ProxyRefusal;

/// Serves one connection of a client whose first byte is a letter, to its end.
pub(crate) async fn converse<O: Overlay>(
    client: Client,
    door: &ProxyDoor<O>,
    entry: &AdmittedClient,
) -> Result<(), HttpRejected> {
    let own = match client.get() {
        Either::Left(tcp) => tcp.local_addr().ok(),
        Either::Right(_) => None,
    };
    let patience = HttpPatience {
        head: door.config.head_timeout,
        idle: door.config.idle_timeout,
    };
    let gate = Gate { door, own, entry };
    let ended = tokio::select! {
        ended = http1::converse(client, &gate, patience, door.closed()) => ended?,
        () = stays_a_stranger(door, entry) => return Err(HttpRejected::Silent),
    };
    if let End::Tunnel {
        place,
        mut client,
        from_client,
        service,
        from_service,
    } = ended
    {
        // Not more than one buffer: the client's socket takes it whether or not the client reads
        // yet.
        client.write_all(&from_service).await?;
        let spliced = splice_client(client, from_client, service, door.config.patience());
        spliced.instrument(gate.flow(&place)).await;
    }
    Ok(())
}

/// The reason why a conversation ends before the client was served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpRejected {
    #[error("it did not give the credentials in time")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns if the client has not given the credentials in time.
async fn stays_a_stranger<O: Overlay>(door: &ProxyDoor<O>, entry: &AdmittedClient) {
    if timeout(door.config.handshake_timeout, entry.proved())
        .await
        .is_ok()
    {
        std::future::pending().await
    }
}

/// Returns the whole answer, head and text, for a program that may not use this proxy, because
/// `why`.
pub(crate) fn turned_away(why: &str) -> Vec<u8> {
    refusal::turned_away(why)
}

/// The proxy's side of one connection.
struct Gate<'a, O> {
    door: &'a ProxyDoor<O>,
    /// The address at which the client found us; `None` for a Unix socket.
    own: Option<SocketAddr>,
    entry: &'a AdmittedClient,
}

impl<O: Overlay> Gate<'_, O> {
    fn decide(&self, request: &HttpRequest) -> Result<HttpVerdict, ProxyRefusal> {
        if let Some(credentials) = &self.door.config.credentials {
            match credentials::of(&request.fields) {
                Some((user, password)) if credentials.are(&user, &password) => self
                    .door
                    .prove(self.entry)
                    .map_err(|NoShare| ProxyRefusal::NoShare)?,
                Some(_) => return Err(ProxyRefusal::WrongCredentials),
                None => return Err(ProxyRefusal::NoCredentials),
            }
        }
        match &request.target {
            RequestTarget::Authority(authority) => Ok(HttpVerdict::Tunnel(NextHop {
                host: authority.host(),
                port: authority.port.ok_or(ProxyRefusal::NotAProxyRequest)?,
            })),
            RequestTarget::Absolute {
                scheme, authority, ..
            } if scheme == "http" => Ok(HttpVerdict::Forward(NextHop {
                host: authority.host(),
                port: authority.port.unwrap_or(HTTP_PORT),
            })),
            RequestTarget::Absolute { .. } => Err(ProxyRefusal::Scheme),
            RequestTarget::Origin(path) => self.page(path, request),
            RequestTarget::Asterisk => Err(ProxyRefusal::NotAProxyRequest),
        }
    }

    /// Answers with the one page that this server has, if it is asked for by an address of this
    /// host: a foreign page whose name leads here gets nothing.
    fn page(&self, path: &str, request: &HttpRequest) -> Result<HttpVerdict, ProxyRefusal> {
        let is_pac = pac::PATHS.contains(&path);
        let own = self
            .own
            .filter(|_| is_pac)
            .ok_or(ProxyRefusal::NotAProxyRequest)?;
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Err(ProxyRefusal::NotAProxyRequest);
        }
        let host = request.fields.first("host").unwrap_or_default();
        let host = str::from_utf8(host).ok().and_then(Authority::of_host);
        let host = host.filter(|host| pac::is_here(host, own));
        let host = host.ok_or(ProxyRefusal::AnotherHost)?;
        let script = pac::script(&host, &self.door.overlay.proxied());
        let mut own = Own::text(200, script);
        own.fields.set("Content-Type", pac::CONTENT_TYPE);
        // Networks come and go.
        own.fields.push("Cache-Control", "no-cache");
        Ok(HttpVerdict::Answer(own))
    }
}

impl<O: Overlay> Intermediary for Gate<'_, O> {
    type Client = Client;
    type Upstream = Either<O::Stream, TcpStream>;

    fn judge(&self, request: &HttpRequest) -> HttpVerdict {
        self.decide(request)
            .unwrap_or_else(|refusal| HttpVerdict::Answer(refusal.into_own()))
    }

    async fn reach(&self, place: &NextHop) -> Result<Self::Upstream, Own> {
        let destination = Destination::from_text(&place.host);
        let reached = self.door.reach(&destination, place.port).await;
        reached.map_err(|error| {
            let refusal = ProxyRefusal::NotReached {
                host: place.host.clone(),
                port: place.port,
                next: self
                    .door
                    .overlay
                    .next_step(&destination, place.port, &error),
                error,
            };
            refusal.into_own()
        })
    }

    fn tell(&self, fault: &Fault) -> Own {
        ProxyRefusal::Fault(fault.clone()).into_own()
    }

    fn flow(&self, place: &NextHop) -> Span {
        debug_span!("flow", destination = place.host, port = place.port)
    }

    fn introduce(&self, _: &mut Fields) {}

    fn passes(&self, _: &str) -> bool {
        true
    }

    fn upgrades(&self, _: &str) -> bool {
        true
    }

    fn has_left(&self, client: &Client) -> bool {
        has_left(client)
    }
}

/// The port of `http://host/`.
const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests;
