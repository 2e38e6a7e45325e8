//! The relay: accepts TLS tunnels, forwards sealed frames between members of a network, reads none
//! of them.
//!
//! The path of a frame: `stranger` reads it from a client's socket, `conn` finds the receiver by
//! the `switch`, `intake` puts it together with others for the same receiver into a buffer of the
//! `pool`, `memory` charges it to its network and sender, and `client` takes it under the
//! receiver's lock: it waits in the receiver's `egress`, against the sender's credit in the
//! sender's `ledger`, until the receiver's own `conn` writes it. `slow` decides when a receiver
//! takes too long. The session cipher is not linked here, so a relay cannot read the frames that it
//! forwards.
//!
//! Nothing is process-wide; several relays can run in one process.

#![forbid(unsafe_code)]

mod admit;
mod client;
mod conn;
mod egress;
mod forwarder;
mod hub;
mod intake;
mod ledger;
mod limits;
mod memory;
mod metrics;
mod ops;
mod pool;
mod register;
mod slow;
mod state;
mod stranger;
mod switch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use overlan_protocol::ALPN_RELAY;
use overlan_protocol::api::{JoinString, RelayRegisterResponse};
use overlan_protocol::hello::{Reject, RejectCode};
use overlan_protocol::key::{Fingerprint, RelayId, Secret};
use overlan_transport::accept::Incoming;
use overlan_transport::clock;
use overlan_transport::https::HttpsError;
use overlan_transport::outgoing::Outgoing;
use overlan_transport::tls;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use crate::forwarder::{Forwarder, Forwarding};
pub use crate::state::StateError;

use crate::hub::{Hub, Settings};
use crate::register::{RegisterError, Session};
use crate::state::{Registration, StateDir};

/// The settings of a relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address that clients connect to. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Addresses that clients learn, each `host:port`, at most 8; empty = the address of `listen`,
    /// which then must not be a wildcard.
    pub addresses: Vec<String>,
    /// The controller.
    pub join: JoinString,
    /// The way to the controller, directly or through a proxy.
    pub outgoing: Outgoing,
    /// Registers this relay at its first start; ignored when the state directory holds a
    /// registration.
    pub token: Option<Secret>,
    /// Directory for keys and orders; made with mode 0700 if it does not exist.
    pub state_dir: PathBuf,
    /// Address of `/metrics` and `/healthz`, which ask for no authentication: a loopback address.
    /// `None` = they are not served.
    pub metrics: Option<SocketAddr>,
}

/// The reason why a relay does not start. One variant per thing that a person does differently.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program, or this one a second time, has the port.
    #[error("{addr} is in use by another program; stop that program, or choose another address")]
    PortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Reason.
        source: io::Error,
    },
    /// There is no address that clients could learn.
    #[error(
        "{listen} is not an address that clients can reach; name the host and port that they must \
         use"
    )]
    AddressNeeded {
        /// The address that the relay listens on.
        listen: SocketAddr,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Never registered, and nothing to register with.
    #[error("this relay is not registered and has no relay token")]
    NeedsToken,
    /// The controller does not take the relay.
    #[error("the controller at {controller} refused to register this relay: {problem}")]
    TokenRefused {
        /// `host:port`.
        controller: String,
        /// Its answer.
        problem: HttpsError,
    },
    /// The controller cannot be reached; a registered relay starts without it.
    #[error(
        "the controller at {controller} did not register this relay within {} s: {last}",
        tried.as_secs()
    )]
    Controller {
        /// `host:port`.
        controller: String,
        /// The time that was spent on attempts.
        tried: Duration,
        /// Result of the last attempt.
        last: HttpsError,
    },
}

/// A relay that has its ports, its identity and its orders.
pub struct Relay {
    hub: Arc<Hub>,
    acceptor: TlsAcceptor,
    listener: TcpListener,
    local_addr: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    session: Session,
    state: StateDir,
    registration: Registration,
}

impl Relay {
    /// Takes the ports, then loads the state; at the first start registers with the controller.
    /// Clients are served from [`Relay::run`] on.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let settings = Settings {
            budget: limits::Budget::of_files(files),
            ..Settings::default()
        };
        Self::bind_with(config, settings).await
    }

    async fn bind_with(config: Config, settings: Settings) -> Result<Self, StartError> {
        let (listener, local_addr) = listen(config.listen).await?;
        let metrics = match config.metrics {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let addresses = advertised(config.addresses, local_addr)?;
        let state = StateDir::open(&config.state_dir)?;
        let identity = state.identity()?;
        let tls = state.tls()?;
        let known = identity.public();
        let kept = state.registration(known)?;
        // An old join string still means a controller whose CA was rotated since.
        let learnt = kept.as_ref().and_then(|kept| kept.join.clone());
        let learnt = learnt.filter(|learnt| learnt.is_known_as(&config.join));
        let session = Session {
            join: learnt.unwrap_or(config.join).into(),
            outgoing: config.outgoing,
            identity,
            addresses,
            pins: vec![tls.pin],
        };
        let registration = match (kept, config.token) {
            (Some(registration), _) => registration,
            (None, None) => return Err(StartError::NeedsToken),
            (None, Some(token)) => {
                let answer = register(&session, &token, settings.register_within).await?;
                let registration = session.registered(answer);
                state.store_registration(known, &registration)?;
                registration
            }
        };
        let server = tls::server_config(vec![tls.certificate], tls.key, ALPN_RELAY)
            .expect("a certificate made around the key fits the key");
        let answer = &registration.answer;
        let hub = Hub::new(answer.relay, settings, answer.orders.clone());
        Ok(Self {
            hub,
            acceptor: server.into(),
            listener,
            local_addr,
            metrics,
            session,
            state,
            registration,
        })
    }

    /// The address that accepts clients.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address that serves metrics.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, addr)| *addr)
    }

    /// The relay's id.
    pub fn id(&self) -> RelayId {
        self.hub.id
    }

    /// The name that the relay token gave it.
    pub fn name(&self) -> &str {
        &self.registration.answer.name
    }

    /// The fingerprints of the keys by which clients know it.
    pub fn pins(&self) -> &[Fingerprint] {
        &self.session.pins
    }

    /// The addresses that clients learn, each `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.session.addresses
    }

    /// Serves until `stop`. Then clients get a moment to attach to another relay, the rest hear
    /// that this one drains, and all tasks have ended when this returns.
    pub async fn run(self, stop: CancellationToken) {
        let span = tracing::error_span!("relay", id = %self.id(), name = self.name());
        self.serve(stop).instrument(span).await;
    }

    /// Boxes what [`Relay::run`] does: an async function is compiled where it is polled, and a
    /// program's own crate may be compiled with less effort than this one, which moves packets.
    fn serve(self, stop: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.serve_until(stop))
    }

    async fn serve_until(self, stop: CancellationToken) {
        let Self {
            hub,
            acceptor,
            listener,
            metrics,
            session,
            state,
            registration,
            ..
        } = self;
        // The operator's door and the heartbeat outlive the clients: both report the drain.
        let after_clients = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some((listener, _)) = metrics {
            let serving = ops::serve(hub.clone(), listener, after_clients.clone());
            tasks.spawn(serving.in_current_span());
        }
        let (beating, beating_until) = (hub.clone(), after_clients.clone());
        let heartbeats = async move {
            session
                .run(beating, state, registration, beating_until)
                .await;
        };
        tasks.spawn(heartbeats.in_current_span());
        let mut clients = JoinSet::new();
        hub.serving.store(true, Ordering::Relaxed);
        tracing::info!("serving clients");
        accept(&hub, &acceptor, listener, &mut clients, &stop).await;
        hub.serving.store(false, Ordering::Relaxed);
        tracing::info!(clients = hub.switch.attached(), "draining");
        drain(&hub, clients).await;
        after_clients.cancel();
        while tasks.join_next().await.is_some() {}
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(addr).await?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    bound.await.map_err(|source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortInUse { addr }
        } else {
            StartError::Listen { addr, source }
        }
    })
}

fn advertised(addresses: Vec<String>, local: SocketAddr) -> Result<Vec<String>, StartError> {
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    if local.ip().is_unspecified() {
        return Err(StartError::AddressNeeded { listen: local });
    }
    Ok(vec![local.to_string()])
}

async fn register(
    session: &Session,
    token: &Secret,
    within: Duration,
) -> Result<RelayRegisterResponse, StartError> {
    let controller = session.join.lock().server.to_string();
    session
        .register(token, within)
        .await
        .map_err(|error| match error {
            RegisterError::Refused(problem) => StartError::TokenRefused {
                controller,
                problem,
            },
            RegisterError::Unreachable { last, tried } => StartError::Controller {
                controller,
                tried,
                last,
            },
        })
}

/// Accepts clients until `stop`.
async fn accept(
    hub: &Arc<Hub>,
    acceptor: &TlsAcceptor,
    listener: TcpListener,
    clients: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let incoming = Incoming::new(listener, "clients");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = clients.join_next(), if !clients.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(
                        %error,
                        "the task of a connection failed; only that client was disconnected"
                    );
                }
            }
            (tcp, from) = incoming.next() => take(hub, acceptor, tcp, from, clients),
        }
    }
}

fn take(
    hub: &Arc<Hub>,
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    from: SocketAddr,
    clients: &mut JoinSet<()>,
) {
    let seat = match hub.admit(clock::now(), from.ip()) {
        Ok(seat) => seat,
        Err(refusal) => return hub.metrics.count_refused(refusal),
    };
    hub.metrics.accepted.inc();
    if let Err(error) = tls::set_up(&tcp) {
        tracing::debug!(%error, "cannot set up the socket of a new connection");
        return;
    }
    let served = stranger::serve(hub.clone(), acceptor.clone(), tcp, from, seat);
    clients.spawn(served);
}

/// Lets clients leave, then ends the rest and waits for their tasks.
async fn drain(hub: &Hub, mut clients: JoinSet<()>) {
    let within_ms = hub.settings.drain.as_millis();
    for client in hub.switch.handles() {
        client.drain(u32::try_from(within_ms).unwrap_or(u32::MAX));
    }
    let left = async { while hub.switch.attached() > 0 && clients.join_next().await.is_some() {} };
    let _ = timeout(hub.settings.drain, left).await;
    for client in hub.switch.handles() {
        client.end(Reject::new(RejectCode::Draining, "the relay stops"));
    }
    let ended = async { while clients.join_next().await.is_some() {} };
    if timeout(GOODBYE, ended).await.is_err() {
        clients.shutdown().await;
    }
}

/// Time for the last words to all clients that are still here.
const GOODBYE: Duration = Duration::from_secs(2);
#[cfg(test)]
mod tests;
