//! Decides which peer's packets go next over which link, and which peer sent a packet that came in.
//!
//! It joins the netstacks (one per network), the end-to-end sessions (one per peer) and the links
//! (one per relay), and holds no socket and no task: an [`Attachment`] moves bytes between a link
//! and the engine, and the owner looks at [`Engine::poll_timeout`] and [`Engine::poll_wanted`]
//! whenever the engine wakes it. It decides nothing by a clock of its own. There is no lock around
//! all flows: a packet takes its peer's lock, then its flow's.
//!
//! Here are networks and links that come and go; `turns` has the way of each packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use overlan_netstack as netstack;
use overlan_protocol::frame::Vni;
use overlan_protocol::hello::Welcome;
use overlan_protocol::key::{DeviceId, NetworkId, RelayId};
use overlan_protocol::netmap::Netmap;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::route::{Choice, LinkState};
use crate::tunnel::{self, StaticKey};

mod attachment;
mod counters;
mod links;
mod membership;
mod peer;
mod presence;
mod trust;
mod turns;

pub use attachment::{Attachment, LinkEnd};
pub use counters::{Counters, Delays, QueueDelays, add_stack};
pub use membership::Membership;
pub use peer::Peer;
pub use presence::{Absence, Ends, PATIENCE, Presence};
pub use trust::{Distrust, KnownPeer, KnownPeers, VerifiedPeer};

use attachment::Remains;
use links::{Link, Links};
use peer::PeerKey;
use turns::find_peer;

/// This device, as far as the data plane must know it.
#[derive(Debug, Clone)]
pub struct LocalDevice {
    /// Its id.
    pub device: DeviceId,
    /// Random for each process: peers see by it that the device was started again.
    pub instance: [u8; tunnel::INSTANCE_LEN],
    /// Secret half of its tunnel key.
    pub tunnel: Arc<StaticKey>,
}

/// A peer of the netmap that is not used, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrusted {
    /// Host label.
    pub label: String,
    /// Its device.
    pub device: DeviceId,
    /// The fault.
    pub reason: Distrust,
}

/// The data plane of one client. Shared by its links, its doors and its owner.
pub struct Engine {
    local: LocalDevice,
    config: netstack::Config,
    /// The time that connections wait for a peer that answers nothing.
    patience: Duration,
    seed: [u8; 32],
    /// The controller session is open: its reports about peers are up to date.
    current: AtomicBool,
    /// This device leaves: links end once everything that waits was sent.
    leaving: AtomicBool,
    /// Tells the owner to look at `poll_timeout` and `poll_wanted` again. Called without a lock
    /// held.
    wake: Box<dyn Fn() + Send + Sync>,
    memberships: RwLock<Arc<BTreeMap<NetworkId, Arc<Membership>>>>,
    links: Mutex<Links>,
    /// Per network, the relay over which this device was reached last.
    places: Mutex<BTreeMap<Vni, RelayId>>,
    /// Peers with packets and no link to send them over.
    stranded: Mutex<Vec<Arc<Peer>>>,
    timers: Mutex<BTreeSet<(Instant, PeerKey)>>,
    counters: Counters,
    clock: OnceLock<Clock>,
    /// The round trip of the link that came up last, microseconds; 0 = none did.
    link_round_trip_us: AtomicU64,
}

/// The clock for places to which no caller passes the time.
struct Clock {
    read: Box<dyn Fn() -> Instant + Send + Sync>,
    epoch: Instant,
}

impl Engine {
    /// An engine without networks. Connections wait for `patience` for a peer that answers nothing,
    /// [`PATIENCE`] as a rule. `seed` must be unpredictable: sequence numbers, ports and session
    /// indexes come from it.
    pub fn new(
        local: LocalDevice,
        config: netstack::Config,
        patience: Duration,
        seed: [u8; 32],
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            config,
            patience,
            seed,
            current: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            wake,
            memberships: RwLock::default(),
            links: Mutex::default(),
            places: Mutex::default(),
            stranded: Mutex::default(),
            timers: Mutex::default(),
            counters: Counters::default(),
            clock: OnceLock::new(),
            link_round_trip_us: AtomicU64::new(0),
        })
    }

    /// Gives the engine a clock by which it measures how long peers wait for their turn to send; it
    /// decides nothing by it. Only the first one counts, and without one these waits are not
    /// counted.
    pub fn measure_by(&self, read: impl Fn() -> Instant + Send + Sync + 'static) {
        let epoch = read();
        let read = Box::new(read);
        self.clock.get_or_init(|| Clock { read, epoch });
    }

    /// Takes note of the time that a relay takes to answer. Until a peer's own answer was timed, we
    /// assume that it is as far away from its relay as we are from ours.
    pub fn handle_link_round_trip(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.link_round_trip_us.store(micros.max(1), Relaxed);
        for membership in self.memberships().values() {
            membership.expect_round_trips(self);
        }
    }

    /// Returns the time that a peer is expected to take to answer, guessed before it has.
    fn expected_round_trip(&self) -> Option<Duration> {
        let micros = self.link_round_trip_us.load(Relaxed);
        (micros > 0).then(|| 2 * Duration::from_micros(micros))
    }

    /// Takes note of whether the controller session is open. While it is, netmaps decide which
    /// peers are online, from the next [`Engine::apply`] on.
    pub fn handle_controller(&self, is_current: bool) {
        self.current.store(is_current, Relaxed);
    }

    fn is_current(&self) -> bool {
        self.current.load(Relaxed)
    }

    /// Returns whether `peer` is online, as far as is known.
    pub fn presence(&self, now: Instant, peer: &Peer) -> Presence {
        peer.presence(self, now)
    }

    /// This device leaves: every connection is reset, peers are informed, and links end once that
    /// was sent.
    pub fn leave(&self, now: Instant) {
        let memberships = self.memberships();
        for membership in memberships.values() {
            membership.stack().reset_flows(now);
            for peer in membership.peers_snapshot().values() {
                peer.say_farewell(self, now);
            }
        }
        self.leaving.store(true, Relaxed);
        self.links().wake_all();
    }

    /// Returns whether this device leaves; then no link is opened any more.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Follows the netmap: joins and leaves networks, learns peers, their relays and the rules.
    /// Peers whose keys fail the check are left out and returned. New peers are added to `known`.
    pub fn apply(
        self: &Arc<Self>,
        now: Instant,
        netmap: &Netmap,
        known: &mut KnownPeers,
    ) -> Vec<Distrusted> {
        let mut distrusted = Vec::new();
        let before = self.memberships();
        let mut after = BTreeMap::new();
        for (id, network) in &netmap.networks {
            let kept = before
                .get(id)
                .filter(|membership| membership.is_same(network));
            let membership = match kept {
                Some(membership) => membership.clone(),
                None => Membership::new(self, now, *id, network),
            };
            let span = tracing::error_span!("network", name = network.name);
            distrusted.extend(span.in_scope(|| membership.apply(self, now, network, known)));
            after.insert(*id, membership);
        }
        for (id, membership) in before.iter() {
            if !after
                .get(id)
                .is_some_and(|kept| Arc::ptr_eq(kept, membership))
            {
                membership.leave(now);
            }
        }
        let homes = netmap
            .networks
            .values()
            .map(|network| (network.vni, network.relays.clone()));
        self.links().set_homes(homes.collect());
        *self.memberships.write() = Arc::new(after);
        self.reroute(now);
        (self.wake)();
        distrusted
    }

    /// The networks that this device is in.
    pub fn memberships(&self) -> Arc<BTreeMap<NetworkId, Arc<Membership>>> {
        self.memberships.read().clone()
    }

    /// Relays to which a link should be opened; each is returned once until its link ended or
    /// failed.
    #[must_use]
    pub fn poll_wanted(&self) -> Vec<RelayId> {
        self.links().take_wanted()
    }

    /// A link to `relay` is up, by a ticket for `networks`; none = for all that this device is in.
    /// Its bytes go through the attachment until it ends, and then [`Engine::handle_detached`] is
    /// called.
    pub fn handle_attached(
        self: &Arc<Self>,
        now: Instant,
        relay: RelayId,
        welcome: &Welcome,
        networks: &[Vni],
        seed: u64,
    ) -> Attachment {
        let link = self.links().attach(relay, networks);
        let attachment = Attachment::new(self.clone(), link, now, welcome, seed);
        self.reroute(now);
        self.announce_moved(now);
        (self.wake)();
        attachment
    }

    /// `relay` will stop: this device attaches to a backup first.
    fn handle_drain(&self, relay: RelayId) {
        self.links().drain(relay);
        (self.wake)();
    }

    /// Peers that were reached over `link`, and those that waited for credit there, are reached
    /// over other links from here on.
    fn leave_link(&self, now: Instant, link: &Link, waiting: Vec<Arc<Peer>>) {
        self.links().leave(link.relay());
        for peer in waiting.into_iter().chain(link.close()) {
            peer.queued.store(false, Relaxed);
            self.enqueue(&peer);
        }
        self.reroute(now);
        (self.wake)();
    }

    /// The link of `attachment` ended.
    pub fn handle_detached(&self, now: Instant, attachment: Attachment) {
        let Remains {
            link,
            waiting,
            lost,
        } = attachment.into_parts();
        self.links().detach(link.relay());
        let memberships = self.memberships();
        for membership in memberships.values() {
            membership.path_stalled(now, link.relay(), &lost);
        }
        for peer in waiting.into_iter().chain(link.close()) {
            peer.queued.store(false, Relaxed);
            self.enqueue(&peer);
        }
        self.reroute(now);
        self.announce_moved(now);
        (self.wake)();
    }

    /// An attempt to open a link to `relay` failed.
    pub fn handle_attach_failed(&self, now: Instant, relay: RelayId) {
        self.links().fail(relay);
        self.reroute(now);
        (self.wake)();
    }

    /// Returns whether a link to `relay` is still wanted; if not, it is forgotten and its owner
    /// stops trying.
    pub fn keep_trying(&self, relay: RelayId) -> bool {
        self.links().keep_trying(relay)
    }

    /// The state of each link, for people.
    pub fn link_states(&self) -> BTreeMap<RelayId, LinkState> {
        self.links().states()
    }

    /// Returns whether every network's home, or a backup of it, is attached, so that peers reach
    /// this device.
    pub fn is_attached(&self) -> bool {
        self.links().homes_attached()
    }

    /// [`Engine::is_attached`] for one network, whose relays are `relays`.
    pub fn is_attached_to(&self, network: Vni, relays: &[RelayId]) -> bool {
        let links = self.links();
        let up = |relay: &RelayId| links.state_for(*relay, network) == LinkState::Up;
        relays.iter().any(up)
    }

    /// Does what is due: handshakes, retransmissions, a second look for absent peers, packets to
    /// this very device.
    pub fn handle_timeout(&self, now: Instant) {
        let memberships = self.memberships();
        for membership in memberships.values() {
            membership.stack().handle_timeout(now);
            membership.run_loopback(now);
        }
        loop {
            let due = {
                let mut timers = self.timers.lock();
                match timers.first() {
                    Some((at, _)) if *at <= now => timers.pop_first(),
                    _ => break,
                }
            };
            let Some((_, key)) = due else { break };
            if let Some(peer) = find_peer(&memberships, key) {
                peer.handle_timeout(self, now);
            }
        }
    }

    /// Returns the time at which [`Engine::handle_timeout`] is due. Ask again after every wake.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.timers.lock().first().map(|(at, _)| *at);
        let memberships = self.memberships();
        let stacks = memberships
            .values()
            .filter_map(|membership| membership.stack().poll_timeout());
        stacks.chain(peers).min()
    }

    /// The counters of this engine.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the way that frames for `peer` take. The links' lock is always taken before a
    /// peer's.
    pub fn way_to(&self, peer: &Peer) -> Choice {
        let links = self.links();
        peer.choose(|relay| links.state_for(relay, peer.vni))
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("device", &self.local.device)
            .finish_non_exhaustive()
    }
}

/// Both overlay addresses of a host, IPv4 first.
type Addresses = [IpAddr; 2];

#[cfg(test)]
mod tests;
