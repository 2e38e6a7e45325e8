//! A device that is up: owns the tasks of its controller session, links, timers and served ports,
//! and dials. Decides nothing about packets or routes: it gives the engine a clock, sockets and
//! tasks, and waits for all of them at the end.
//!
//! ```text
//! controller session ── netmap, ticket ──> supervisor ── timers, wanted relays ──> a task per link
//! doors, library ── dial ──> netstack flow ── packets ready ──> the link's task pulls them
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use overlan_netstack as netstack;
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::{NetworkId, RelayId, random_bytes};
use overlan_protocol::netmap::Netmap;
use overlan_transport::clock::now;
use overlan_transport::outgoing::Outgoing;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::device::controller_session::{ControllerSession, Health};
use crate::device::state::{Device, StateDir, StateError};
use crate::device::status::Status;
use crate::doors::dns::Resolver;
use crate::doors::serve::service::{OverlayPort, Serve};
use crate::host::accept::Vacancies;
use crate::host::dial_times::NODE_DIAL;
use crate::host::memory::Budget;
use crate::host::splice::Patience;
use crate::names::Destination;
use crate::names::DialError;
use overlan_plane::engine::{Engine, KnownPeers, LocalDevice, Membership, PATIENCE};
use overlan_plane::tunnel::StaticKey;

/// Settings of a node that few people change.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Longest time of a dial, from the resolved name to the accepted connection.
    pub dial_timeout: Duration,
    /// The time for which connections wait for a peer that does not answer, or that the controller
    /// reports as offline.
    pub patience: Duration,
    /// Label of the network that a bare overlay address means where the device is in several.
    pub address_network: Option<String>,
    /// Resolvers of this host's network to which foreign names are forwarded, the preferred one
    /// first; at most [`DNS_FORWARDS_MAX`]. Without any, foreign names are refused.
    pub dns_forwards: Vec<SocketAddr>,
    /// The way to controller and relays.
    pub outgoing: Outgoing,
    /// Memory limit of the process; `None` for no limit.
    pub memory: Option<Budget>,
    /// Longest time without a byte for connections of served ports and forwards.
    pub silence: Patience,
    /// Sizes and limits of the netstack of each network.
    pub netstack: netstack::Config,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            dial_timeout: NODE_DIAL,
            patience: PATIENCE,
            address_network: None,
            dns_forwards: Vec::new(),
            outgoing: Outgoing::direct(),
            memory: None,
            silence: Patience::default(),
            netstack: netstack::Config::default(),
        }
    }
}

/// The reason why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Something in the state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A handle on a device that is up. All clones are the same node.
///
/// [`Node::close`] ends it in order, and [`Node::shutdown`] at once. It also ends, in the
/// background, when the last of its clones, [`Stream`]s, [`Listener`]s and [`UdpSocket`]s is
/// dropped. Two nodes of one process share nothing.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    alive: Arc<Alive>,
}

#[cfg(feature = "axum")]
mod axum;
mod builder;
mod by_gateway;
mod certify;
mod close;
mod confirm;
#[cfg(feature = "http-client")]
mod connector;
mod datagrams;
mod dialling;
mod identity;
mod links;
mod listener;
mod overlay;
mod ping;
mod reach;
mod readiness;
mod resolving;
pub mod routes;
mod serving;
mod status;
mod stream;
mod supervisor;

pub use builder::{Builder, UpError};
pub use close::CloseError;
pub use confirm::CONFIRM_WITHIN;
#[cfg(feature = "http-client")]
pub use connector::{Connected, Connector};
pub use datagrams::{BindUdpError, UdpSocket};
pub use identity::PeerAddr;
pub use listener::{Closed, ListenError, Listener};
pub use overlay::{BoundPort, NodeDatagrams, NodeOverlay};
pub use ping::{Pong, Whois};
pub use readiness::NotReady;
pub use resolving::DNS_FORWARDS_MAX;
pub use stream::Stream;

use certify::Certificates;
use close::{Alive, Owned};
use serving::OpenPort;

struct Inner {
    /// Names this device in every line of its tasks.
    span: Span,
    options: NodeOptions,
    state: Arc<StateDir>,
    device: Device,
    engine: Arc<Engine>,
    control: ControllerSession,
    /// Wakes the supervisor: the engine's deadlines or wishes changed.
    wake: Arc<Notify>,
    /// Cancelled when the end begins: no new dial, no new connection.
    closing: CancellationToken,
    /// The doors and their free places.
    vacancies: Vacancies,
    /// Cancelled when every task has to end; cancels `closing`, too.
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The listeners of served ports, and their connections.
    serving: TaskTracker,
    /// The things that the node returns or removes at its end.
    owned: Mutex<Owned>,
    serves: Mutex<BTreeMap<OverlayPort, Serve>>,
    /// The routes that this device serves as a gateway; `None` if it never had any.
    routes: Mutex<Option<Vec<OfferedRoute>>>,
    /// The routes that were reported to the controller, with the networks of that time.
    reported_routes: Mutex<Option<routes::ReportedRoutes>>,
    /// The listeners where peers ask this gateway for hosts.
    route_listeners: Mutex<BTreeMap<NetworkId, routes::RouteListener>>,
    served_ports: Mutex<BTreeMap<(NetworkId, OverlayPort), OpenPort>>,
    certificates: Certificates,
    /// The identities of peers that are to be stored.
    known: watch::Sender<Arc<KnownPeers>>,
    /// The answers and failures of other resolvers.
    resolver: Resolver,
    link_notes: Mutex<BTreeMap<RelayId, LinkNote>>,
    /// Counts the links that came or went, for tasks that wait for readiness.
    links_changed: watch::Sender<u64>,
    /// Counts the supervisor's turns, for tasks that wait for a change of the engine.
    turns: watch::Sender<u64>,
    attach_sequence: AtomicU64,
    /// The log has the warning that another process uses this device's keys.
    superseded_logged: AtomicBool,
}

/// Makes the engine of a device, which calls `wake` when its deadlines or wishes change.
fn engine(device: &Device, options: &NodeOptions, wake: Arc<Notify>) -> Arc<Engine> {
    let tunnel = StaticKey::from_secret(device.tunnel_secret.clone());
    let engine = Engine::new(
        LocalDevice {
            device: device.device,
            instance: random_bytes(),
            tunnel: Arc::new(tunnel),
        },
        match options.memory {
            Some(budget) => budget.within(options.netstack.clone()),
            None => options.netstack.clone(),
        },
        options.patience,
        random_bytes(),
        Box::new(move || wake.notify_one()),
    );
    engine.measure_by(now);
    engine
}

impl Inner {
    /// Starts the tasks that run as long as the node.
    fn spawn_tasks(self: &Arc<Self>, known: KnownPeers) {
        let (inner, span) = (self.clone(), self.span.clone());
        let session = async move { inner.control.run(inner.stop.clone()).await };
        self.tasks.spawn(session.instrument(span.clone()));
        let keeping = self.clone().keep_known_peers();
        self.tasks.spawn(keeping.instrument(span.clone()));
        self.tasks.spawn(self.clone().supervise(known));
        self.tasks.spawn(self.clone().certify().instrument(span));
    }
}

/// Notes about the last link to a relay.
#[derive(Debug, Default, Clone)]
struct LinkNote {
    round_trip: Option<Duration>,
    error: Option<String>,
}

impl Node {
    /// Starts the tasks. The node works from the netmap and ticket on disk until the controller
    /// answers. Programs use [`Node::builder`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        state: Arc<StateDir>,
        device: Device,
        options: NodeOptions,
    ) -> Result<Self, NodeError> {
        let ticket = state.load_ticket()?;
        let netmap = state.load_netmap()?;
        let known = KnownPeers::from_stored(state.load_known_peers()?);
        let serves = state
            .load_serves()?
            .into_iter()
            .map(|serve| (serve.overlay_port(), serve))
            .collect();
        let routes = state.load_routes()?;
        let wake = Arc::new(Notify::new());
        let engine = engine(&device, &options, wake.clone());
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            span: tracing::error_span!("device", name = device.label),
            control: ControllerSession::new(
                state.clone(),
                device.clone(),
                netmap,
                ticket,
                options.outgoing.clone(),
            ),
            resolver: Resolver::new(options.dns_forwards.clone()),
            options,
            state,
            device,
            engine,
            wake,
            closing: stop.child_token(),
            vacancies: Vacancies::default(),
            stop,
            tasks: TaskTracker::new(),
            serving: TaskTracker::new(),
            owned: Mutex::default(),
            serves: Mutex::new(serves),
            routes: Mutex::new(routes),
            reported_routes: Mutex::default(),
            route_listeners: Mutex::default(),
            served_ports: Mutex::default(),
            certificates: Certificates::new(),
            known: watch::Sender::default(),
            link_notes: Mutex::default(),
            links_changed: watch::Sender::new(0),
            turns: watch::Sender::new(0),
            attach_sequence: AtomicU64::new(0),
            superseded_logged: AtomicBool::new(false),
        });
        inner.spawn_tasks(known);
        let alive = Arc::new(Alive::new(&inner));
        Ok(Self { inner, alive })
    }

    /// Opens a TCP connection to a destination. The stream does not keep this node up, and moves no
    /// byte after the node has ended. Programs use [`Node::dial`].
    pub async fn dial_to(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        self.inner.dial(destination, port).await
    }

    /// Returns the newest netmap.
    pub fn netmap(&self) -> watch::Receiver<Arc<Netmap>> {
        self.inner.control.netmap()
    }

    /// Returns the health of the controller session.
    pub fn control_health(&self) -> watch::Receiver<Health> {
        self.inner.control.health()
    }

    /// Returns the status. The caller adds the places of its doors.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Returns the counters of [`Node::status`], without the rest of it.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.inner.counters(&self.inner.engine.memberships())
    }

    /// Listens on an overlay port of every network that this device is in now. The port closes when
    /// the listeners are dropped. Programs use [`Node::listen`].
    ///
    /// # Errors
    /// The port is served, or has another listener in this process.
    pub fn listen_each(
        &self,
        port: u16,
    ) -> Result<Vec<netstack::TcpListener>, netstack::ListenError> {
        let memberships = self.inner.engine.memberships();
        let listen = |membership: &Arc<Membership>| membership.stack().listen(port);
        memberships.values().map(listen).collect()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("device", &self.device.device)
            .finish_non_exhaustive()
    }
}
