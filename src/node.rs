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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use overlan_netstack as netstack;
use overlan_protocol::api::DeviceReport;
use overlan_protocol::hello::RejectCode;
use overlan_protocol::key::{NetworkId, RelayId, random_bytes};
use overlan_protocol::netmap::Netmap;
use overlan_protocol::policy::Protocol;
use overlan_transport::pump::{self, Ended, now};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::{Control, Health, unix_time};
use crate::dial::DialError;
use crate::engine::{Engine, KnownPeers, LinkEnd, LocalDevice, Membership};
use crate::expose;
use crate::link::{self, AttachError, Attached, Credentials};
use crate::names::{self, Destination};
use crate::relay::backoff::{Backoff, Limits};
use crate::relay::route::{Choice, LinkState};
use crate::state::{Device, Serve, StateDir, StateError};
use crate::status::{self, Status};
use crate::tunnel::StaticKey;

/// Settings of a node that few people change.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// How long a dial may take in all, from the resolved name to the accepted connection.
    pub dial_timeout: Duration,
    /// Sizes and limits of the netstack of each network.
    pub netstack: netstack::Config,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(30),
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
    /// There is no ticket, so no relay would let this device in.
    #[error("the state directory has no ticket; run `overlan logout` and enrol again")]
    NoTicket,
}

/// Why a node is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The controller removed this device.
    #[error("the controller removed this device; enrol again with `overlan login` or an auth key")]
    Removed,
    /// The controller was not reached, and nothing on disk says where to go.
    #[error("the controller was not reached within {} s: {error}", waited.as_secs())]
    Controller {
        /// How long was waited.
        waited: Duration,
        /// The last attempt's trouble.
        error: String,
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

/// A handle on a device that is up. All clones are the same node; [`Node::shutdown`] ends it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    options: NodeOptions,
    state: Arc<StateDir>,
    device: Device,
    engine: Arc<Engine>,
    control: Control,
    /// Wakes the supervisor: the engine's deadlines or wishes changed.
    wake: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
    serves: Mutex<BTreeMap<u16, Serve>>,
    exposed: Mutex<BTreeMap<(NetworkId, u16), Exposed>>,
    link_notes: Mutex<BTreeMap<RelayId, LinkNote>>,
    /// Says that a link came or went, for those who wait for readiness.
    links_changed: watch::Sender<u64>,
    attach_sequence: AtomicU64,
}

struct Exposed {
    membership: Weak<Membership>,
    serve: Serve,
    stop: CancellationToken,
}

/// What is known about the last link to a relay.
#[derive(Debug, Default, Clone)]
struct LinkNote {
    round_trip: Option<Duration>,
    error: Option<String>,
}

impl Node {
    /// Starts the tasks. The node works from what is on disk until the controller answers.
    pub fn start(state: Arc<StateDir>, device: Device, options: NodeOptions) -> Result<Self, NodeError> {
        let ticket = state.load_ticket()?.ok_or(NodeError::NoTicket)?;
        let netmap = state.load_netmap()?;
        let known = state.load_known_peers()?;
        let serves = state.load_serves()?.into_iter().map(|serve| (serve.port, serve)).collect();
        let wake = Arc::new(Notify::new());
        let engine = Engine::new(
            LocalDevice {
                device: device.device,
                tunnel: Arc::new(StaticKey::from_secret(device.tunnel_secret.clone())),
            },
            options.netstack.clone(),
            random_bytes(),
            Box::new({
                let wake = wake.clone();
                move || wake.notify_one()
            }),
        );
        let inner = Arc::new(Inner {
            options,
            control: Control::new(state.clone(), device.clone(), netmap, ticket),
            state,
            device,
            engine,
            wake,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            serves: Mutex::new(serves),
            exposed: Mutex::default(),
            link_notes: Mutex::default(),
            links_changed: watch::Sender::new(0),
            attach_sequence: AtomicU64::new(0),
        });
        inner.tasks.spawn({
            let inner = inner.clone();
            async move { inner.control.run(inner.stop.clone()).await }
        });
        inner.tasks.spawn(inner.clone().supervise(known));
        Ok(Self { inner })
    }

    /// Waits until other devices can reach this one: it knows its networks and is attached to a relay of each.
    pub async fn ready(&self, within: Option<Duration>) -> Result<(), NotReady> {
        let inner = &self.inner;
        let mut links = inner.links_changed.subscribe();
        let mut netmap = inner.control.netmap();
        let mut health = inner.control.health();
        let wait = async {
            loop {
                if *health.borrow() == Health::Removed {
                    return Err(NotReady::Removed);
                }
                if netmap.borrow().version > 0 && inner.engine.is_attached() {
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
            Some(within) => timeout(within, wait).await.unwrap_or_else(|_| Err(inner.explain(within))),
        }
    }

    /// Opens a TCP connection to a device of a network, by name or address.
    pub async fn dial(&self, destination: Destination, port: u16) -> Result<netstack::TcpStream, DialError> {
        let inner = &self.inner;
        let netmap = inner.control.netmap().borrow().clone();
        let resolved = names::resolve(&netmap, &destination)?;
        let memberships = inner.engine.memberships();
        let membership = memberships.get(&resolved.network).ok_or(DialError::UnknownName)?;
        if !resolved.own {
            if !membership.filter().allows_outbound(resolved.host, Protocol::Tcp, port) {
                return Err(DialError::DeniedByPolicy);
            }
            let is_current = matches!(*inner.control.health().borrow(), Health::Connected { .. });
            if !resolved.online && is_current {
                return Err(DialError::Offline);
            }
        }
        let address = inner.address(resolved.host, &destination)?;
        let connecting = membership.stack().connect(now(), SocketAddr::new(address, port));
        let mut connecting = connecting.map_err(|error| dial_error(&error))?;
        if let Ok(result) = timeout(NO_RELAY_AFTER.min(inner.options.dial_timeout), &mut connecting).await {
            return result.map_err(|error| dial_error(&error));
        }
        if membership.peer(resolved.host).is_some_and(|peer| inner.engine.way_to(&peer) == Choice::Nowhere) {
            return Err(DialError::NoRelay);
        }
        let rest = inner.options.dial_timeout.saturating_sub(NO_RELAY_AFTER);
        match timeout(rest, connecting).await {
            Ok(result) => result.map_err(|error| dial_error(&error)),
            Err(_) => Err(DialError::TimedOut),
        }
    }

    /// Publishes a local service in every network, now and at later starts.
    pub fn serve(&self, serve: Serve) -> Result<(), StateError> {
        self.change_serves(|serves| {
            serves.insert(serve.port, serve);
        })
    }

    /// Stops publishing. Returns whether the port was published.
    pub fn unserve(&self, port: u16) -> Result<bool, StateError> {
        let mut was_there = false;
        self.change_serves(|serves| was_there = serves.remove(&port).is_some())?;
        Ok(was_there)
    }

    /// What is published.
    pub fn serves(&self) -> Vec<Serve> {
        lock(&self.inner.serves).values().copied().collect()
    }

    fn change_serves(&self, change: impl FnOnce(&mut BTreeMap<u16, Serve>)) -> Result<(), StateError> {
        let all: Vec<Serve> = {
            let mut serves = lock(&self.inner.serves);
            change(&mut serves);
            serves.values().copied().collect()
        };
        self.inner.expose();
        self.inner.state.save_serves(&all)
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

    /// Ends everything and waits for it.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("device", &self.inner.device.device).finish_non_exhaustive()
    }
}

impl Inner {
    /// Gives the engine its clock, its netmaps and its links.
    async fn supervise(self: Arc<Self>, mut known: KnownPeers) {
        let mut netmap = self.control.netmap();
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
                changed = netmap.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
                }
            }
            self.engine.handle_timeout(now());
        }
    }

    fn follow_netmap(&self, netmap: &Netmap, known: &mut KnownPeers) {
        let before = known.len();
        for refused in self.engine.apply(now(), netmap, known) {
            tracing::warn!(label = %refused.label, device = %refused.device, reason = %refused.reason, "a peer is not used");
        }
        if known.len() > before
            && let Err(error) = self.state.save_known_peers(known)
        {
            tracing::warn!(%error, "the identities of peers could not be kept");
        }
        self.expose();
        self.links_changed.send_modify(|count| *count += 1);
    }

    /// Keeps a link to `relay` for as long as somebody wants one.
    async fn run_link(self: Arc<Self>, relay: RelayId) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.try_link(relay) => {}
        }
    }

    async fn try_link(self: &Arc<Self>, relay: RelayId) {
        let mut backoff = Backoff::new(Limits::LINK, u64::from_le_bytes(random_bytes()));
        loop {
            let spread = match self.attach(relay).await {
                Ok(attached) => {
                    backoff.handle_success(now());
                    self.use_link(relay, attached).await
                }
                Err(error) => {
                    tracing::debug!(%relay, %error, "no link");
                    if let AttachError::Rejected(reject) = &error {
                        self.handle_reject(reject.code);
                    }
                    self.note(relay, |note| note.error = Some(error.to_string()));
                    self.engine.handle_attach_failed(now(), relay);
                    None
                }
            };
            self.links_changed.send_modify(|count| *count += 1);
            if !self.engine.keep_trying(relay) {
                return;
            }
            let pause = backoff.handle_failure(now());
            sleep(spread.map_or(pause, |spread| spread.min(pause))).await;
        }
    }

    async fn attach(&self, id: RelayId) -> Result<Attached, AttachError> {
        let netmap = self.control.netmap().borrow().clone();
        let relay = netmap.relays.get(&id).ok_or_else(|| AttachError::NoAddress(id.to_string()))?;
        let ticket = self.control.ticket().borrow().ticket.clone();
        let wall = unix_time().saturating_mul(1_000);
        let next = |last: u64| Some(wall.max(last + 1));
        let last = self.attach_sequence.fetch_update(Relaxed, Relaxed, next).unwrap_or(wall);
        let credentials = Credentials {
            identity: &self.device.identity,
            ticket: &ticket,
            attach_sequence: wall.max(last + 1),
        };
        link::attach(id, relay, &credentials).await
    }

    /// Runs a link to its end. Returns how long to wait at most before the first attempt to open it again.
    async fn use_link(self: &Arc<Self>, relay: RelayId, attached: Attached) -> Option<Duration> {
        let Attached {
            mut stream,
            welcome,
            round_trip,
        } = attached;
        tracing::info!(%relay, round_trip_ms = round_trip.as_millis() as u64, "attached to a relay");
        self.note(relay, |note| {
            *note = LinkNote {
                round_trip: Some(round_trip),
                error: None,
            };
        });
        let mut attachment = self.engine.handle_attached(now(), relay, &welcome, u64::from_le_bytes(random_bytes()));
        self.links_changed.send_modify(|count| *count += 1);
        self.report();
        let ended = pump::run(&mut stream, &mut attachment).await;
        self.engine.handle_detached(now(), attachment);
        let reason = match &ended {
            Ended::Closed => "the relay closed the link".to_owned(),
            Ended::Broken(error) => error.to_string(),
            Ended::Stalled => "the relay took nothing for 10 s".to_owned(),
            Ended::Peer(end) => end.to_string(),
        };
        tracing::info!(%relay, reason, "detached from a relay");
        match &ended {
            Ended::Peer(LinkEnd::Idle) => {}
            Ended::Peer(LinkEnd::Rejected(reject)) => {
                self.handle_reject(reject.code);
                self.note(relay, |note| note.error = Some(reason));
                // It will say no again at once: a backup comes first.
                self.engine.handle_attach_failed(now(), relay);
            }
            Ended::Peer(LinkEnd::Drained) => {
                self.note(relay, |note| note.error = Some(reason));
                self.engine.handle_attach_failed(now(), relay);
            }
            _ => self.note(relay, |note| note.error = Some(reason)),
        }
        let fraction = f64::from(random_bytes::<1>()[0]) / 256.0;
        Some(Duration::from_millis(u64::from(welcome.reconnect_spread_ms)).mul_f64(fraction))
    }

    fn handle_reject(&self, code: RejectCode) {
        if matches!(code, RejectCode::TicketExpired | RejectCode::TicketInvalid) {
            self.control.handle_ticket_refused();
        }
    }

    /// Tells the controller where this device is attached; in a task of its own, since nothing waits for it.
    fn report(self: &Arc<Self>) {
        let states = self.engine.link_states();
        let attached = states.iter().filter(|(_, state)| **state == LinkState::Up);
        let notes = lock(&self.link_notes);
        let round_trips = notes.iter().filter_map(|(relay, note)| Some((*relay, note.round_trip?.as_millis() as u32)));
        let report = DeviceReport {
            attached: attached.map(|(relay, _)| *relay).collect(),
            round_trips_ms: round_trips.take(ROUND_TRIPS_MAX).collect(),
        };
        drop(notes);
        let inner = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = inner.control.report(&report) => {}
            }
        });
    }

    /// Opens what is published in every network, and closes what no longer is.
    fn expose(&self) {
        let serves = lock(&self.serves).clone();
        let memberships = self.engine.memberships();
        let mut exposed = lock(&self.exposed);
        exposed.retain(|(network, port), entry| {
            let is_current = memberships
                .get(network)
                .is_some_and(|membership| entry.membership.upgrade().is_some_and(|known| Arc::ptr_eq(&known, membership)));
            let keep = is_current && serves.get(port) == Some(&entry.serve);
            if !keep {
                entry.stop.cancel();
            }
            keep
        });
        for (id, membership) in memberships.iter() {
            for (port, serve) in &serves {
                if exposed.contains_key(&(*id, *port)) {
                    continue;
                }
                match membership.stack().listen(*port) {
                    Ok(listener) => {
                        let stop = self.stop.child_token();
                        self.tasks.spawn(expose::run(listener, serve.target, stop.clone()));
                        let membership = Arc::downgrade(membership);
                        let serve = *serve;
                        exposed.insert((*id, *port), Exposed { membership, serve, stop });
                    }
                    Err(error) => tracing::warn!(port, %error, "cannot publish"),
                }
            }
        }
    }

    /// The address of a host in the family that the destination asks for; names mean IPv4.
    fn address(&self, host: u32, destination: &Destination) -> Result<IpAddr, DialError> {
        match destination {
            Destination::Address(address) => Ok(*address),
            Destination::Name(_) => {
                let address = overlan_protocol::address::v4(host);
                address.map(IpAddr::V4).ok_or(DialError::UnknownName)
            }
        }
    }

    fn explain(&self, waited: Duration) -> NotReady {
        let health = self.control.health().borrow().clone();
        if self.control.netmap().borrow().version == 0 {
            let error = match health {
                Health::Unreachable { error } => error,
                _ => "it did not answer yet".to_owned(),
            };
            return NotReady::Controller { waited, error };
        }
        let notes = lock(&self.link_notes);
        let errors: Vec<&str> = notes.iter().filter_map(|(_, note)| note.error.as_deref()).collect();
        let error = if errors.is_empty() {
            "no relay is registered, or none answered yet".to_owned()
        } else {
            errors.join("; ")
        };
        NotReady::Relay { waited, error }
    }

    fn status(&self) -> Status {
        let netmap = self.control.netmap().borrow().clone();
        let health = self.control.health().borrow().clone();
        let memberships = self.engine.memberships();
        let states = self.engine.link_states();
        let at: Instant = now();
        let relay_name = |id: RelayId| netmap.relays.get(&id).map(|relay| relay.name.clone());

        let networks = netmap.networks.iter().map(|(id, network)| {
            let membership = memberships.get(id);
            let peers = network.peers.iter().map(|(host, told)| {
                let peer = membership.and_then(|membership| membership.peer(*host));
                status::PeerStatus {
                    name: format!("{}.{}.{}", told.label, network.name, netmap.domain),
                    label: told.label.clone(),
                    addresses: overlan_protocol::address::both(*host).map(Vec::from).unwrap_or_default(),
                    online: told.online,
                    relay: told.relays.first().and_then(|relay| relay_name(*relay)),
                    sessions: u32::from(peer.is_some_and(|peer| peer.has_session(at))),
                }
            });
            status::NetworkStatus {
                name: network.name.clone(),
                vni: network.vni,
                peers: peers.collect(),
            }
        });
        let first = netmap.networks.values().next();
        let homes: Vec<RelayId> = netmap.networks.values().filter_map(|network| network.relays.first()).copied().collect();
        let notes = lock(&self.link_notes).clone();
        let relays = netmap.relays.iter().map(|(id, relay)| status::RelayStatus {
            name: relay.name.clone(),
            id: *id,
            state: match states.get(id) {
                None => status::LinkState::Idle,
                Some(LinkState::Up) => status::LinkState::Connected,
                Some(LinkState::Pending) => status::LinkState::Connecting,
                Some(LinkState::Failed) => status::LinkState::Waiting,
            },
            round_trip_ms: notes.get(id).and_then(|note| note.round_trip).map(|time| time.as_millis() as u32),
            home: homes.contains(id),
        });
        let removed = health == Health::Removed;
        Status {
            state: if removed {
                status::State::NeedsLogin
            } else if self.stop.is_cancelled() {
                status::State::Stopped
            } else if self.engine.is_attached() {
                status::State::Running
            } else {
                status::State::Connecting
            },
            device: Some(status::DeviceStatus {
                id: self.device.device,
                label: first.map_or(&self.device.label, |network| &network.label).clone(),
                name: match first {
                    Some(network) => format!("{}.{}.{}", network.label, network.name, netmap.domain),
                    None => format!("{}.{}.{}", self.device.label, self.device.network, self.device.domain),
                },
                addresses: first
                    .and_then(|network| overlan_protocol::address::both(network.host))
                    .map(Vec::from)
                    .unwrap_or_default(),
            }),
            domain: Some(netmap.domain.clone()),
            networks: networks.collect(),
            relays: relays.collect(),
            control: match health {
                Health::Connecting => control_status(status::LinkState::Connecting, None, None),
                Health::Connected { since } => control_status(status::LinkState::Connected, Some(since), None),
                Health::Unreachable { error } => control_status(status::LinkState::Waiting, None, Some(error)),
                Health::Removed => control_status(status::LinkState::Idle, None, Some("the device was removed".to_owned())),
            },
            serves: lock(&self.serves).values().copied().collect(),
            counters: self.counters(&memberships),
            ..Status::starting()
        }
    }

    fn counters(&self, memberships: &BTreeMap<NetworkId, Arc<Membership>>) -> BTreeMap<String, u64> {
        let mut counters = self.engine.counters().snapshot();
        let flows: usize = memberships.values().map(|membership| membership.stack().stats().flows).sum();
        counters.insert("flows".to_owned(), flows as u64);
        counters
    }

    fn note(&self, relay: RelayId, change: impl FnOnce(&mut LinkNote)) {
        change(lock(&self.link_notes).entry(relay).or_default());
    }
}

fn control_status(state: status::LinkState, since: Option<u64>, last_error: Option<String>) -> status::ControlStatus {
    status::ControlStatus {
        state,
        since,
        last_error,
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

/// A dial without any relay in sight fails after this: time for one attempt at each of a few.
const NO_RELAY_AFTER: Duration = Duration::from_secs(5);

/// Round trips that one report holds; the controller takes no more.
const ROUND_TRIPS_MAX: usize = 64;
