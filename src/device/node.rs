//! One device that is up: owns the tasks of control session, links, timers and published services, and offers dialing.
//!
//! It decides nothing about packets or routes; it gives the engine a clock, sockets and tasks, and waits for all of them at the end.
//!
//! ```text
//! control task ── netmap, ticket ──> supervisor task ── engine.apply, timers, wanted relays ──> one task per link
//! doors (SOCKS, DNS, library) ── dial ──> netstack flow ── packets ready ──> the link's task pulls them
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlan_netstack as netstack;
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::{NetworkId, RelayId, random_bytes};
use overlan_protocol::netmap::Netmap;
use overlan_protocol::policy::Protocol;
use overlan_transport::clock::now;
use overlan_transport::outgoing::Outgoing;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::device::controller_session::{Control, Health, blocking, unix_time};
use crate::device::state::{Device, StateDir, StateError};
use crate::device::status::Status;
use crate::doors::dns::Resolver;
use crate::doors::serve::service::{OverlayPort, Serve};
use crate::host::accept::Vacancies;
use crate::host::dial_times::NODE_DIAL;
use crate::host::memory::Budget;
use crate::host::splice::Patience;
use crate::names::DialError;
use crate::names::{Destination, Resolved, Way};
use overlan_plane::engine::{
    Engine, KnownPeers, LocalDevice, Membership, PATIENCE, Peer, Presence,
};
use overlan_plane::route::Choice;
use overlan_plane::tunnel::StaticKey;

/// Settings of a node that few people change.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// How long a dial may take in all, from the resolved name to the accepted connection.
    pub dial_timeout: Duration,
    /// How long connections wait for a peer that answers nothing, or that the controller does not see.
    pub patience: Duration,
    /// Network that a bare overlay address means where the device is in several, by label.
    pub address_network: Option<String>,
    /// Resolvers of this host's network that names outside the overlay are handed on to, the first one preferred; at most
    /// [`DNS_FORWARDS_MAX`]. Such names are refused if there are none.
    pub dns_forwards: Vec<SocketAddr>,
    /// How controller and relays are reached.
    pub outgoing: Outgoing,
    /// Memory that the process may take; `None` = as much as there is.
    pub memory: Option<Budget>,
    /// How long connections of published ports and forwards may go without a byte.
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

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Something in the state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a node is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The controller removed this device.
    #[error("the controller removed this device; enrol again with `overlan login` or an auth key")]
    Removed,
    /// The controller does not know this device: it was restored from an older backup, or removed it long ago.
    #[error(
        "{}. Its keys are kept aside, and it comes back if the controller knows it again",
        crate::device::controller_session::UNKNOWN
    )]
    Unknown,
    /// The controller was not reached, and nothing on disk says where to go.
    #[error("the controller was not reached within {} s: {error}", waited.as_secs())]
    Controller {
        /// How long was waited.
        waited: Duration,
        /// The last attempt's trouble.
        error: String,
    },
    /// An admin has not let it into any network yet, or took it out of its last one.
    #[error("this device waits for the approval of an admin; it was not given within {} s", waited.as_secs())]
    Approval {
        /// How long was waited.
        waited: Duration,
    },
    /// No relay was reached.
    #[error("no relay was reached within {} s: {error}", waited.as_secs())]
    Relay {
        /// How long was waited.
        waited: Duration,
        /// The last attempt's trouble, per relay.
        error: String,
    },
    /// The node was shut down.
    #[error("the node was shut down")]
    Stopped,
}

/// A handle on a device that is up. All clones are the same node.
///
/// It ends in order by [`Node::close`], at once by [`Node::shutdown`], and without anybody waiting for it when the last of its
/// clones, [`Stream`]s, [`Listener`]s and [`UdpSocket`]s is dropped. Nothing of it is shared with another node of the same
/// process.
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
mod identity;
mod links;
mod listener;
mod overlay;
mod ping;
mod publish;
mod reach;
mod resolving;
pub mod routes;
mod status;
mod stream;

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
pub use resolving::DNS_FORWARDS_MAX;
pub use stream::Stream;

use certify::Certificates;
use close::{Alive, Owned};
use publish::Exposed;
use reach::Reached;

struct Inner {
    options: NodeOptions,
    state: Arc<StateDir>,
    device: Device,
    engine: Arc<Engine>,
    control: Control,
    /// Wakes the supervisor: the engine's deadlines or wishes changed.
    wake: Arc<Notify>,
    /// Nothing new begins.
    closing: CancellationToken,
    /// Which doors have places.
    vacancies: Vacancies,
    /// Everything ends. Cancels `closing`, too.
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Connections that came in by published ports, and their listeners.
    serving: TaskTracker,
    /// What the node has to give back or undo at its end.
    owned: Mutex<Owned>,
    serves: Mutex<BTreeMap<OverlayPort, Serve>>,
    /// What this device offers to lead to; `None` if it never offered anything.
    routes: Mutex<Option<Vec<OfferedRoute>>>,
    /// What the controller was told of it, and for which networks.
    offered: Mutex<Option<routes::Offered>>,
    /// Where peers ask for it.
    leading: Mutex<BTreeMap<NetworkId, routes::Leading>>,
    exposed: Mutex<BTreeMap<(NetworkId, OverlayPort), Exposed>>,
    certificates: Certificates,
    /// The identities of peers, as they are to be kept.
    known: watch::Sender<Arc<KnownPeers>>,
    /// What it knows of other resolvers.
    resolver: Resolver,
    link_notes: Mutex<BTreeMap<RelayId, LinkNote>>,
    /// Says that a link came or went, for those who wait for readiness.
    links_changed: watch::Sender<u64>,
    /// Says that something was due, or changed, that somebody may wait for.
    turns: watch::Sender<u64>,
    attach_sequence: AtomicU64,
    /// It was said that another process has this device's keys.
    superseded_told: AtomicBool,
}

/// What is known about the last link to a relay.
#[derive(Debug, Default, Clone)]
struct LinkNote {
    round_trip: Option<Duration>,
    error: Option<String>,
}

impl Node {
    /// Starts the tasks. The node works from what is on disk until the controller answers. [`Node::builder`] is for programs.
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
        let engine = Engine::new(
            LocalDevice {
                device: device.device,
                instance: random_bytes(),
                tunnel: Arc::new(StaticKey::from_secret(device.tunnel_secret.clone())),
            },
            match options.memory {
                Some(budget) => budget.within(options.netstack.clone()),
                None => options.netstack.clone(),
            },
            options.patience,
            random_bytes(),
            Box::new({
                let wake = wake.clone();
                move || wake.notify_one()
            }),
        );
        engine.measure_by(now);
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            control: Control::new(
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
            offered: Mutex::default(),
            leading: Mutex::default(),
            exposed: Mutex::default(),
            certificates: Certificates::new(),
            known: watch::Sender::default(),
            link_notes: Mutex::default(),
            links_changed: watch::Sender::new(0),
            turns: watch::Sender::new(0),
            attach_sequence: AtomicU64::new(0),
            superseded_told: AtomicBool::new(false),
        });
        inner.tasks.spawn({
            let inner = inner.clone();
            async move { inner.control.run(inner.stop.clone()).await }
        });
        inner.tasks.spawn(inner.clone().keep_known_peers());
        inner.tasks.spawn(inner.clone().supervise(known));
        inner.tasks.spawn(inner.clone().certify());
        let alive = Arc::new(Alive::new(&inner));
        Ok(Self { inner, alive })
    }

    /// Waits until other devices can reach this one: it knows its networks and is attached to a relay of each.
    pub async fn ready(&self, within: Option<Duration>) -> Result<(), NotReady> {
        let inner = &self.inner;
        let mut links = inner.links_changed.subscribe();
        let mut netmap = inner.control.netmap();
        let mut health = inner.control.health();
        let wait = async {
            loop {
                let heard = match *health.borrow() {
                    Health::Removed => return Err(NotReady::Removed),
                    Health::Unknown => return Err(NotReady::Unknown),
                    Health::Connecting => !inner.control.began_aside(),
                    Health::Connected { .. } | Health::Unreachable { .. } => true,
                };
                if heard && netmap.borrow().version > 0 && inner.engine.is_attached() {
                    return Ok(());
                }
                tokio::select! {
                    _ = links.changed() => {}
                    _ = netmap.changed() => {}
                    _ = health.changed() => {}
                    () = inner.stop.cancelled() => return Err(NotReady::Stopped),
                }
            }
        };
        match within {
            None => wait.await,
            Some(within) => timeout(within, wait)
                .await
                .unwrap_or_else(|_| Err(inner.explain(within))),
        }
    }

    /// Waits until the controller says that this device is in no network, so that an admin has to let it in.
    pub async fn awaits_approval(&self) {
        let mut netmap = self.inner.control.netmap();
        // Without the session nobody says so.
        if netmap
            .wait_for(|netmap| netmap.version > 0 && netmap.networks.is_empty())
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Opens a TCP connection to a device of a network, by full name or address. What it gives knows nothing of this node: it
    /// moves nothing any more once the node has ended. [`Node::dial`] is for programs.
    pub async fn dial_to(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        self.inner.dial(destination, port).await
    }

    /// The newest netmap, for resolvers.
    pub fn netmap(&self) -> watch::Receiver<Arc<Netmap>> {
        self.inner.control.netmap()
    }

    /// How the control session does.
    pub fn control_health(&self) -> watch::Receiver<Health> {
        self.inner.control.health()
    }

    /// What it does now. The caller adds where its doors listen.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Counters by name since the start, those of [`Node::status`], without the rest of it.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.inner.counters(&self.inner.engine.memberships())
    }

    /// Listens on an overlay port of every network that this device is in now. Dropping the listeners closes the port.
    /// [`Node::listen`] is for programs.
    ///
    /// # Errors
    /// The port is published, or listened on elsewhere in this process.
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

impl Inner {
    /// Gives the engine its clock, its netmaps and its links.
    async fn supervise(self: Arc<Self>, mut known: KnownPeers) {
        let mut netmap = self.control.netmap();
        let mut health = self.control.health();
        self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
        loop {
            for relay in self.engine.poll_wanted() {
                self.tasks.spawn(self.clone().run_link(relay));
            }
            let deadline = self.engine.poll_timeout();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = due => {}
                () = self.wake.notified() => {}
                Ok(()) = netmap.changed() => {
                    self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
                }
                Ok(()) = health.changed() => {
                    // The map is told before the session counts, so this one is of the session.
                    let is_current = matches!(*health.borrow_and_update(), Health::Connected { .. });
                    self.engine.handle_controller(is_current);
                    self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
                }
            }
            self.engine.handle_timeout(now());
            self.turns.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
    }

    fn follow_netmap(self: &Arc<Self>, netmap: &Netmap, known: &mut KnownPeers) {
        known.handle_time(unix_time());
        for refused in self.engine.apply(now(), netmap, known) {
            tracing::warn!(label = %refused.label, device = %refused.device, reason = %refused.reason, "a peer is not used");
        }
        if known.take_changed() {
            self.known.send_replace(Arc::new(known.clone()));
        }
        self.expose();
        self.lead();
        self.offer();
        self.links_changed.send_modify(|count| *count += 1);
    }

    /// Writes the identities of peers when there are new ones; nobody waits for the disk.
    async fn keep_known_peers(self: Arc<Self>) {
        let mut changes = self.known.subscribe();
        loop {
            let changed = self.stop.run_until_cancelled(changes.changed()).await;
            let is_over = !matches!(changed, Some(Ok(())));
            if is_over && !changes.has_changed().unwrap_or(false) {
                return;
            }
            let known = changes.borrow_and_update().clone();
            let state = self.state.clone();
            blocking(move || {
                if let Err(error) = state.save_known_peers(known.stored()) {
                    tracing::warn!(%error, "the identities of peers could not be kept");
                }
            })
            .await;
        }
    }

    async fn dial(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let snapshot = self.snapshot();
        match snapshot.way(&destination, Some(port))? {
            Way::Device(device) => self.dial_device(device, &destination, port).await,
            Way::Gateway(hosts) => self.dial_by_gateway(&snapshot, hosts, port).await,
            Way::Zone { name, zone } => {
                let dialled = self.dial_in_zone(&snapshot, name, zone, port);
                timeout(self.options.dial_timeout, dialled)
                    .await
                    .unwrap_or(Err(DialError::TimedOut))
            }
            Way::Foreign(error) => Err(error.into()),
        }
    }

    async fn dial_device(
        &self,
        device: Resolved,
        destination: &Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let reached = self.admit(device, destination, Protocol::Tcp, port)?;
        self.open(reached, port).await
    }

    async fn open(&self, reached: Reached, port: u16) -> Result<netstack::TcpStream, DialError> {
        let Reached {
            membership,
            host,
            address,
            ..
        } = reached;
        let connecting = membership
            .stack()
            .connect(now(), SocketAddr::new(address, port));
        let mut connecting = connecting.map_err(|error| dial_error(&error))?;
        let within = self.options.dial_timeout;
        let soon = LOOK_AFTER.min(within);
        if let Ok(result) = timeout(soon, &mut connecting).await {
            return result.map_err(|error| dial_error(&error));
        }
        let peer = membership.peer(host);
        let hopeless = async {
            match &peer {
                Some(peer) => self.hopeless(peer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = timeout(within.saturating_sub(soon), connecting) => match result {
                Ok(result) => result.map_err(|error| dial_error(&error)),
                Err(_) => Err(DialError::TimedOut),
            },
            error = hopeless => Err(error),
        }
    }

    /// Returns when it is known of a peer that a dial under way will not reach it.
    async fn hopeless(&self, peer: &Peer) -> DialError {
        tokio::select! {
            () = self.offline(peer) => DialError::Offline,
            () = async {
                sleep(NO_RELAY_AFTER.saturating_sub(LOOK_AFTER)).await;
                if self.engine.way_to(peer) != Choice::Nowhere {
                    std::future::pending().await
                }
            } => DialError::NoRelay,
        }
    }

    /// Returns when `peer` is known not to be there.
    async fn offline(&self, peer: &Peer) {
        let mut turns = self.turns.subscribe();
        while self.engine.presence(now(), peer) != Presence::Offline {
            if turns.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The address of a host in the family that the destination asks for; names mean IPv4.
    fn address(&self, host: u32, destination: &Destination) -> Result<IpAddr, DialError> {
        match destination {
            Destination::Address(address) | Destination::AddressIn(address, _) => Ok(address.get()),
            Destination::Name(_) => {
                let address = overlan_protocol::address::v4(host);
                address.map(IpAddr::V4).ok_or(DialError::UnknownName)
            }
        }
    }

    fn explain(&self, waited: Duration) -> NotReady {
        let health = self.control.health().borrow().clone();
        let has_ticket = !self.control.ticket().borrow().ticket.is_empty();
        if self.control.netmap().borrow().version == 0 || !has_ticket {
            let error = if let Health::Unreachable { error } = health {
                error
            } else {
                "it did not answer yet".to_owned()
            };
            return NotReady::Controller { waited, error };
        }
        if self.control.netmap().borrow().networks.is_empty() {
            return NotReady::Approval { waited };
        }
        let notes = lock(&self.link_notes);
        let errors: Vec<&str> = notes
            .values()
            .filter_map(|note| note.error.as_deref())
            .collect();
        let error = if errors.is_empty() {
            "no relay is registered, or none answered yet".to_owned()
        } else {
            errors.join("; ")
        };
        NotReady::Relay { waited, error }
    }
}

fn dial_error(error: &netstack::ConnectError) -> DialError {
    match error {
        netstack::ConnectError::Refused => DialError::Refused,
        netstack::ConnectError::TimedOut => DialError::TimedOut,
        netstack::ConnectError::Unreachable => DialError::Offline,
        netstack::ConnectError::NoAddress => DialError::UnknownName,
        netstack::ConnectError::TooManyFlows | netstack::ConnectError::PortsExhausted => {
            DialError::Internal(error.to_string())
        }
    }
}

/// A poisoned lock means that a task panicked between two plain assignments; what it guards is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A dial that takes longer looks what becomes known of the peer; most are over by then.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// A dial without any relay in sight fails after this: time for one attempt at each of a few.
const NO_RELAY_AFTER: Duration = Duration::from_secs(5);
