//! One network this device is in: its netstack, its peers, its rules. Decides what an inbound
//! packet may open.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use overlan_netstack::{FlowInfo, Protocol, Shell, Stack};
use overlan_protocol::HostIndex;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{NetworkId, RelayId};
use overlan_protocol::netmap::Network;
use overlan_protocol::policy::{self, Filter};
use parking_lot::RwLock;

use super::peer::{Destination, Peer, PeerKey, PeerPlace};
use super::presence::{Absence, Ends};
use super::trust::{KnownPeers, VerifiedPeer};
use super::{Addresses, Distrusted, Engine};

/// One network as this device takes part in it.
pub struct Membership {
    id: NetworkId,
    vni: Vni,
    host: HostIndex,
    addresses: Addresses,
    stack: Stack,
    filter: RwLock<Arc<Filter>>,
    peers: RwLock<BTreeMap<HostIndex, Arc<Peer>>>,
    /// Packets that this device sends to itself are waiting.
    loopback: AtomicBool,
}

impl Membership {
    /// Joins a network.
    pub(super) fn new(
        engine: &Arc<Engine>,
        now: Instant,
        id: NetworkId,
        network: &Network,
    ) -> Arc<Self> {
        let addresses = network.host.addresses();
        let mut seed = engine.seed;
        // Networks must not share sequence numbers, ports and hash keys.
        for (byte, other) in seed.iter_mut().zip(id.0) {
            *byte ^= other;
        }
        Arc::new_cyclic(|membership: &Weak<Self>| {
            let shell = MembershipShell {
                engine: Arc::downgrade(engine),
                membership: membership.clone(),
            };
            Self {
                id,
                vni: network.vni,
                host: network.host,
                addresses,
                stack: Stack::new(
                    engine.config.clone(),
                    &addresses,
                    now,
                    seed,
                    Arc::new(shell),
                ),
                filter: RwLock::new(Arc::new(network.filter.clone())),
                peers: RwLock::default(),
                loopback: AtomicBool::new(false),
            }
        })
    }

    /// Returns whether `network` is this one with the same place in it; otherwise its flows cannot
    /// go on.
    pub(super) fn is_same(&self, network: &Network) -> bool {
        self.vni == network.vni && self.host == network.host
    }

    pub(super) fn apply(
        &self,
        engine: &Arc<Engine>,
        now: Instant,
        network: &Network,
        known: &mut KnownPeers,
    ) -> Vec<Distrusted> {
        let mut distrusted = Vec::new();
        if *self.filter() != network.filter {
            *self.filter.write() = Arc::new(network.filter.clone());
            self.end_forbidden(now);
        }
        let before = self.peers_snapshot();
        for peer in before
            .values()
            .filter(|peer| !network.peers.contains_key(&peer.key.host))
        {
            self.remove(now, peer);
        }
        for (host, entry) in &network.peers {
            if let Some(peer) = before.get(host) {
                if peer.is_same(entry) {
                    if peer.follow(engine, now, entry) {
                        engine.reroute_peer(peer);
                    }
                    if let Some(absence) = peer.absence(engine) {
                        self.end(now, peer, absence);
                    }
                    continue;
                }
                self.remove(now, peer);
            }
            if *host == self.host {
                continue;
            }
            match VerifiedPeer::check(entry, known) {
                Ok(verified) => {
                    let place = PeerPlace {
                        key: PeerKey {
                            network: self.id,
                            host: *host,
                        },
                        vni: self.vni,
                        addresses: host.addresses(),
                    };
                    let peer = Peer::new(engine, now, place, &verified, entry);
                    let peer = Arc::new(peer);
                    peer.follow(engine, now, entry);
                    peer.expect_round_trip(engine, &self.stack);
                    self.peers_mut(|peers| peers.insert(*host, peer));
                }
                Err(reason) => distrusted.push(Distrusted {
                    label: entry.label.clone(),
                    device: entry.device,
                    reason,
                }),
            }
        }
        distrusted
    }

    pub(super) fn leave(&self, now: Instant) {
        for peer in self.peers_snapshot().values() {
            self.remove(now, peer);
        }
    }

    fn remove(&self, now: Instant, peer: &Arc<Peer>) {
        self.peers_mut(|peers| peers.remove(&peer.key.host));
        self.end(now, peer, Absence::Removed);
    }

    /// Ends the connections with `peer` that `absence` ends.
    pub(super) fn end(&self, now: Instant, peer: &Peer, absence: Absence) {
        let why = absence.name();
        peer.span()
            .in_scope(|| tracing::debug!(absence = why, "connections with a peer end"));
        match absence.ends() {
            Ends::All => self.forget_flows(now, peer),
            Ends::Open => {
                for address in peer.addresses {
                    self.stack.reset_remote(now, address);
                    // What is being opened is tried again at once.
                    self.stack.path_restored(now, address);
                }
            }
        }
    }

    /// Returns whether there are connections with `peer`, including those that are being opened.
    pub(super) fn has_connections(&self, peer: &Peer) -> bool {
        let mut addresses = peer.addresses.iter();
        addresses.any(|address| self.stack.has_flows(*address))
    }

    /// Ends everything with a peer, and discards the packets that wait for it.
    pub(super) fn forget_flows(&self, now: Instant, peer: &Peer) {
        let mut discarded = Vec::new();
        for address in peer.addresses {
            self.stack.remote_gone(now, address);
            while self
                .stack
                .poll_packet(now, address, &mut discarded)
                .is_some()
            {
                discarded.clear();
            }
        }
    }

    /// The network's id.
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// The network's number on the wire.
    pub fn vni(&self) -> Vni {
        self.vni
    }

    /// This device's addresses in it, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its netstack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// This device's rules.
    pub fn filter(&self) -> Arc<Filter> {
        self.filter.read().clone()
    }

    /// The peer with this host index.
    pub fn peer(&self, host: HostIndex) -> Option<Arc<Peer>> {
        self.peers.read().get(&host).cloned()
    }

    /// The peer with the host number of a frame.
    pub(super) fn peer_of_frame(&self, host: u32) -> Option<Arc<Peer>> {
        self.peers.read().get(&host).cloned()
    }

    /// All peers by host index.
    pub fn peers_snapshot(&self) -> BTreeMap<HostIndex, Arc<Peer>> {
        self.peers.read().clone()
    }

    fn peers_mut<R>(&self, change: impl FnOnce(&mut BTreeMap<HostIndex, Arc<Peer>>) -> R) -> R {
        change(&mut self.peers.write())
    }

    pub(super) fn handle_packet(&self, now: Instant, host: HostIndex, packet: &[u8]) {
        let filter = self.filter();
        self.stack
            .handle_packet(now, packet, &|protocol, _remote, local: SocketAddr| {
                filter.allows_inbound(host, policy_protocol(protocol), local.port())
            });
    }

    /// Ends everything, whichever side opened it, that the rules do not allow any more.
    fn end_forbidden(&self, now: Instant) {
        let filter = self.filter();
        self.stack
            .retain_flows(now, &|flow| self.allows(&filter, flow));
    }

    /// Returns whether the rules allow `flow`. They are not about what this device sends to itself.
    fn allows(&self, filter: &Filter, flow: FlowInfo) -> bool {
        let Some(peer) = HostIndex::of_address(flow.remote.ip()) else {
            return false;
        };
        let protocol = policy_protocol(flow.protocol);
        peer == self.host
            || match flow.inbound {
                true => filter.allows_inbound(peer, protocol, flow.local.port()),
                false => filter.allows_outbound(peer, protocol, flow.remote.port()),
            }
    }

    /// Delivers packets that this device sends to itself, without relay and seal.
    pub(super) fn run_loopback(&self, now: Instant) {
        if !self.loopback.swap(false, Relaxed) {
            return;
        }
        let mut packet = Vec::new();
        for address in self.addresses {
            while self.stack.poll_packet(now, address, &mut packet).is_some() {
                self.stack.handle_packet(now, &packet, &|_, _, _| true);
                packet.clear();
            }
        }
    }

    /// The link to `relay` broke. Peers that were reached over it, or have frames in `lost`, make
    /// no progress; their clocks stand still until there is another way.
    pub(super) fn path_stalled(&self, now: Instant, relay: RelayId, lost: &[Destination]) {
        for peer in self.peers_snapshot().values() {
            if peer.via() == Some(relay) || lost.contains(&peer.destination()) {
                self.stall(now, peer);
            }
        }
    }

    pub(super) fn stall(&self, now: Instant, peer: &Peer) {
        peer.stalled.store(true, Relaxed);
        for address in peer.addresses {
            self.stack.path_stalled(now, address);
        }
        // Another link's task may have restored the path between the two steps. Nobody would start
        // its clock again.
        if !peer.stalled.load(Relaxed) {
            for address in peer.addresses {
                self.stack.path_restored(now, address);
            }
        }
    }

    /// Gives the flows with every peer that has not answered yet an expected round trip.
    pub(super) fn expect_round_trips(&self, engine: &Engine) {
        for peer in self.peers_snapshot().values() {
            peer.expect_round_trip(engine, &self.stack);
        }
    }

    /// Sends again what a lost link had in flight, to all peers that can be reached.
    pub(super) fn restore_paths(&self, engine: &Engine, now: Instant) {
        for peer in self
            .peers_snapshot()
            .values()
            .filter(|peer| peer.stalled.load(Relaxed))
        {
            self.restore_path(engine, now, peer);
        }
    }

    pub(super) fn restore_path(&self, engine: &Engine, now: Instant, peer: &Arc<Peer>) {
        let Some(relay) = engine.seek_way(peer) else {
            return;
        };
        peer.set_via(Some(relay));
        peer.stalled.store(false, Relaxed);
        for address in peer.addresses {
            self.stack.path_restored(now, address);
        }
        // It may stand among those without a link, where nothing but another change of links would
        // find it.
        engine.reroute_peer(peer);
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("id", &self.id)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

fn policy_protocol(protocol: Protocol) -> policy::Protocol {
    match protocol {
        Protocol::Tcp => policy::Protocol::Tcp,
        Protocol::Udp => policy::Protocol::Udp,
        Protocol::Icmp => policy::Protocol::Icmp,
    }
}

/// Receives a netstack's packets and wakes. It holds its membership weakly, or neither would ever
/// be dropped.
struct MembershipShell {
    engine: Weak<Engine>,
    membership: Weak<Membership>,
}

impl Shell for MembershipShell {
    fn packets_ready(&self, remote: IpAddr) {
        let (Some(engine), Some(membership)) = (self.engine.upgrade(), self.membership.upgrade())
        else {
            return;
        };
        if membership.addresses.contains(&remote) {
            membership.loopback.store(true, Relaxed);
            (engine.wake)();
        } else if let Some(peer) =
            HostIndex::of_address(remote).and_then(|host| membership.peer(host))
        {
            engine.enqueue(&peer);
        }
    }

    fn timer_changed(&self) {
        if let Some(engine) = self.engine.upgrade() {
            (engine.wake)();
        }
    }

    fn may_send(&self, local: u16, remote: SocketAddr) -> bool {
        let Some(membership) = self.membership.upgrade() else {
            return false;
        };
        let flow = FlowInfo {
            protocol: Protocol::Udp,
            inbound: false,
            remote,
            local: SocketAddr::new(membership.addresses[0], local),
        };
        membership.allows(&membership.filter(), flow)
    }
}
