//! One peer: its session, its way, and the messages that wait for a session. Decides when
//! handshakes and absences need a timer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use overlan_netstack::Stack;
use overlan_protocol::frame::{self, Address, DATA_HEADER_LEN, Vni};
use overlan_protocol::key::{DeviceId, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap;
use overlan_protocol::{SEAL_HEADER_LEN, SEAL_TAG_LEN};
use parking_lot::{Mutex, MutexGuard};

use super::membership::Membership;
use super::presence::{Absence, Action, Presence, Standing, Word};
use super::trust::VerifiedPeer;
use super::{Addresses, Engine};
use crate::route::{Choice, LinkState, PeerRoute};
use crate::tunnel::{Event, OpenError, Opened, PeerConfig, PeerSession, is_init};

/// The name of a peer: its network and its host index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey {
    pub(super) network: NetworkId,
    pub(super) host: u32,
}

/// The place of a peer: its network, on the wire too, and its addresses there.
pub(super) struct PeerPlace {
    pub(super) key: PeerKey,
    pub(super) vni: Vni,
    pub(super) addresses: Addresses,
}

/// Another device of one network.
pub struct Peer {
    pub(super) key: PeerKey,
    pub(super) addresses: Addresses,
    pub(super) vni: Vni,
    device: DeviceId,
    tunnel: TunnelKey,
    /// It stands in a link's ready queue, waits there for credit, or is stranded: the next one to
    /// poll it is already known.
    pub(super) queued: AtomicBool,
    /// The time since which it waits for its turn to send, nanoseconds by the engine's clock; 0 =
    /// it does not wait.
    pub(super) ready_at: AtomicU64,
    /// A link over which it was reached broke, and what was in flight may be lost.
    pub(super) stalled: AtomicBool,
    /// It is owed a farewell from this device, once everything else was sent.
    farewell: AtomicBool,
    /// `way` remembers relays at which it was not found.
    sought: AtomicBool,
    /// Its round trip was measured, not guessed from the link's.
    timed: AtomicBool,
    sealing: Mutex<Sealing>,
    way: Mutex<Way>,
}

struct Sealing {
    session: PeerSession,
    standing: Standing,
    /// The time at which `standing` is looked at again; nothing is due sooner.
    watch: Option<Instant>,
    /// `standing` may have become due sooner.
    look: bool,
    /// Handshake messages to send; a session makes one or two at a time.
    outbox: VecDeque<Vec<u8>>,
    /// The last handshake message that went out, until a packet shows that it arrived.
    handshake: Option<Vec<u8>>,
    /// The time until which it may be sent again over another relay; later it is worth nothing.
    handshake_until: Instant,
    /// The time at which the handshake message went out that was not answered yet.
    asked: Option<Instant>,
    /// More than one went out, so an answer cannot be timed.
    asked_again: bool,
    /// Packets wait until there is a session.
    waiting: bool,
    armed: Option<Instant>,
}

struct Way {
    route: PeerRoute,
    via: Option<RelayId>,
    armed: Option<Instant>,
}

/// The outcome of a peer's turn to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A frame of this many bytes was appended; there may be more.
    Sent(usize),
    /// There is nothing to send, or nothing that can be sealed yet.
    Done,
}

impl Peer {
    pub(super) fn new(
        engine: &Engine,
        now: Instant,
        place: PeerPlace,
        verified: &VerifiedPeer,
        entry: &netmap::Peer,
    ) -> Self {
        let PeerPlace {
            key,
            vni,
            addresses,
        } = place;
        let config = PeerConfig {
            vni: vni.get(),
            local_device: engine.local.device.0,
            remote_device: verified.device().0,
            local_instance: engine.local.instance,
            local_static: engine.local.tunnel.clone(),
            remote_static: verified.tunnel().0,
        };
        Self {
            key,
            addresses,
            vni,
            device: verified.device(),
            tunnel: verified.tunnel(),
            queued: AtomicBool::new(false),
            ready_at: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            farewell: AtomicBool::new(false),
            sought: AtomicBool::new(false),
            timed: AtomicBool::new(false),
            sealing: Mutex::new(Sealing {
                session: PeerSession::new(config, now, session_seed(engine, key)),
                standing: Standing::new(now, engine.patience),
                watch: None,
                look: false,
                outbox: VecDeque::new(),
                handshake: None,
                handshake_until: now,
                asked: None,
                asked_again: false,
                waiting: false,
                armed: None,
            }),
            way: Mutex::new(Way {
                route: PeerRoute::new(entry.relays.clone()),
                via: None,
                armed: None,
            }),
        }
    }

    /// Returns whether the session can go on: the netmap names the same device and key.
    pub(super) fn is_same(&self, entry: &netmap::Peer) -> bool {
        self.device == entry.device && self.tunnel == entry.tunnel
    }

    /// Takes over what may change in the netmap. Returns whether the way changed.
    pub(super) fn follow(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        entry: &netmap::Peer,
    ) -> bool {
        let came = engine.is_current() && {
            let mut sealing = self.sealing.lock();
            let came = sealing.standing.handle_reported(now, entry.online);
            if came && sealing.standing.is_watched() {
                // It may have been started again; connections that only wait would learn of it a
                // minute later.
                sealing.session.ask(now);
            }
            sealing.look = true;
            self.settle(engine, now, sealing);
            came
        };
        let mut way = self.way.lock();
        if way.route.relays() == entry.relays && !came {
            return false;
        }
        way.route.replace(entry.relays.clone());
        way.via = None;
        self.sought.store(false, Relaxed);
        true
    }

    /// The absence that follows from the reports of controller and relays, if it ends every
    /// connection at once.
    pub(super) fn absence(&self, engine: &Engine) -> Option<Absence> {
        let word = self.word(engine);
        self.sealing.lock().standing.absence(word)
    }

    /// Returns whether it is online, as far as is known.
    pub(super) fn presence(&self, engine: &Engine, now: Instant) -> Presence {
        let word = self.word(engine);
        self.sealing.lock().standing.presence(now, word)
    }

    fn word(&self, engine: &Engine) -> Word {
        Word {
            is_current: engine.is_current(),
            is_nowhere: self.way.lock().route.is_absent_everywhere(),
        }
    }

    /// Queues a farewell to it, after all that is sent before. Returns whether it has a session in
    /// which the farewell can be sent.
    pub(super) fn say_farewell(self: &Arc<Self>, engine: &Engine, now: Instant) -> bool {
        if !self.has_session(now) {
            return false;
        }
        self.farewell.store(true, Relaxed);
        engine.enqueue(self);
        true
    }

    /// The device whose keys the session was made with.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Returns whether packets can be sealed for it at `now`.
    pub fn has_session(&self, now: Instant) -> bool {
        self.sealing.lock().session.can_seal(now)
    }

    /// The relay over which it is reached, if a frame went to it.
    pub fn via(&self) -> Option<RelayId> {
        self.way.lock().via
    }

    pub(super) fn set_via(&self, relay: Option<RelayId>) {
        self.way.lock().via = relay;
    }

    pub(super) fn choose(&self, state: impl Fn(RelayId) -> LinkState) -> Choice {
        self.way.lock().route.choose(state)
    }

    pub(super) fn with_relays(&self, mut each: impl FnMut(RelayId)) {
        for relay in self.way.lock().route.relays() {
            each(*relay);
        }
    }

    /// `relay` reported that this peer is not attached to it: another way is tried, or the same one
    /// a little later.
    pub(super) fn handle_absent(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let is_news = {
            let mut way = self.way.lock();
            way.via = None;
            let is_news = way.route.handle_absent(now, relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            is_news
        };
        if is_news {
            // A handshake that waited for its own timer would always find this absence forgotten,
            // and would never try the backup.
            let mut sealing = self.sealing.lock();
            if sealing.outbox.is_empty()
                && now < sealing.handshake_until
                && let Some(message) = sealing.handshake.take()
            {
                sealing.outbox.push_back(message);
            }
        }
        self.arm_way(engine);
        if let Some(membership) = engine.memberships().get(&self.key.network) {
            // Packets that were sent to the wrong relay are lost.
            membership.stall(now, self);
            membership.restore_path(engine, now, self);
        }
    }

    /// Opens a message from this peer in place, which came over `relay`. `Ok(None)` = it was not a
    /// packet.
    pub(super) fn open<'m>(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        relay: RelayId,
        message: &'m mut [u8],
    ) -> Result<Option<&'m [u8]>, OpenError> {
        let mut sealing = self.sealing.lock();
        let opened = sealing.session.open(now, message);
        if matches!(opened, Ok(Opened::Packet(_) | Opened::Keepalive)) {
            sealing.handshake = None;
        }
        if sealing.session.take_proof() {
            sealing.standing.handle_heard(now);
        }
        let mut asked = None;
        if sealing.asked.is_some() && opened.is_ok() && sealing.session.can_seal(now) {
            asked = sealing.asked.take().filter(|_| !sealing.asked_again);
        }
        self.settle(engine, now, sealing);
        if let Some(asked) = asked {
            self.handle_answered(engine, now.saturating_duration_since(asked));
        }
        if opened.is_ok() && self.sought.load(Relaxed) {
            self.handle_heard(engine, now, relay);
        }
        Ok(match opened? {
            Opened::Packet(packet) => Some(packet),
            Opened::Handshake | Opened::Keepalive => None,
        })
    }

    fn handle_answered(&self, engine: &Engine, answered_in: Duration) {
        let round_trip = match engine.expected_round_trip() {
            Some(expected) if answered_in <= expected + HANDSHAKE_WORK => expected.min(answered_in),
            Some(_) | None => answered_in,
        };
        self.timed.store(true, Relaxed);
        if let Some(membership) = engine.memberships().get(&self.key.network) {
            for address in self.addresses {
                membership.stack().set_round_trip(address, round_trip);
            }
        }
    }

    /// Gives flows that are opened before it has answered an expected round trip.
    pub(super) fn expect_round_trip(&self, engine: &Engine, stack: &Stack) {
        if self.timed.load(Relaxed) {
            return;
        }
        if let Some(round_trip) = engine.expected_round_trip() {
            for address in self.addresses {
                stack.set_round_trip(address, round_trip);
            }
        }
    }

    /// It was not found at some relay, and has since been heard over `relay`.
    fn handle_heard(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let has_changed = {
            let mut way = self.way.lock();
            let has_changed = way.route.handle_heard(relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            has_changed
        };
        if has_changed {
            // The timer of the absence finds nothing to forget any more.
            self.look_again(engine, now);
        }
    }

    /// Appends the next frame for this peer to `out`.
    pub(super) fn emit(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        stack: &Stack,
        out: &mut Vec<u8>,
    ) -> Turn {
        let mut sealing = self.sealing.lock();
        if sealing.outbox.is_empty() && !sealing.session.can_seal(now) {
            let mut addresses = self.addresses.iter();
            sealing.waiting = addresses.any(|address| stack.has_packets(*address));
            if !sealing.waiting {
                // A turn without packets, as after each look for an absent peer, starts no
                // handshake.
                return Turn::Done;
            }
            sealing.session.handle_want_send(now);
            sealing = self.settle_locked(engine, now, sealing);
        }
        let start = out.len();
        if let Some(message) = sealing.outbox.pop_front() {
            let header = frame::data_header(self.address(0), message.len());
            out.extend_from_slice(&header);
            out.extend_from_slice(&message);
            sealing.handshake = Some(message);
            if !sealing.session.can_seal(now) {
                // With a session in use, packets under the old keys would be taken for the answer.
                sealing.asked_again = sealing.asked.replace(now).is_some();
            }
            if sealing.standing.handle_sent(now) {
                sealing.look = true;
                self.settle(engine, now, sealing);
            }
            return Turn::Sent(out.len() - start);
        }
        if !sealing.session.can_seal(now) {
            return Turn::Done;
        }
        drop(sealing);
        // The flow runs without the session's lock: a reader that opens messages from this peer
        // does not wait for it.
        out.resize(start + DATA_HEADER_LEN + SEAL_HEADER_LEN, 0);
        let emitted = self
            .addresses
            .iter()
            .find_map(|address| stack.poll_packet(now, *address, out));
        let Some(emitted) = emitted else {
            out.truncate(start);
            if self.farewell.swap(false, Relaxed) {
                let mut sealing = self.sealing.lock();
                sealing.session.say_farewell(now);
                self.settle(engine, now, sealing);
            }
            return Turn::Done;
        };
        out.resize(out.len() + SEAL_TAG_LEN, 0);
        let mut sealing = self.sealing.lock();
        let sealed = sealing
            .session
            .seal(now, &mut out[start + DATA_HEADER_LEN..]);
        sealing.look |= sealing.standing.handle_sent(now);
        self.settle(engine, now, sealing);
        if let Err(error) = sealed {
            // The keys ran out since the check above; the flow repeats the packet under new ones.
            tracing::debug!(%error, "a packet could not be sealed");
            engine.counters.drops.add("not_sealed");
            out.truncate(start);
            return Turn::Done;
        }
        let header = frame::data_header(
            self.address(emitted.flow_id),
            out.len() - start - DATA_HEADER_LEN,
        );
        out[start..start + DATA_HEADER_LEN].copy_from_slice(&header);
        engine.counters.packets_out.add(1);
        engine.counters.bytes_out.add(emitted.len as u64);
        Turn::Sent(out.len() - start)
    }

    pub(super) fn handle_timeout(self: &Arc<Self>, engine: &Engine, now: Instant) {
        let mut sealing = self.sealing.lock();
        if sealing.armed.is_some_and(|at| at <= now) {
            sealing.armed = None;
        }
        sealing.session.handle_timeout(now);
        let watch_is_due = sealing.watch.take_if(|at| *at <= now).is_some();
        self.settle(engine, now, sealing);
        if watch_is_due {
            self.look_after_connections(engine, now);
        }

        let mut way = self.way.lock();
        if way.armed.is_some_and(|at| at <= now) {
            way.armed = None;
        }
        let was_absent = way.route.poll_timeout().is_some();
        way.route.handle_timeout(now);
        drop(way);
        if was_absent {
            self.arm_way(engine);
            self.look_again(engine, now);
        }
    }

    /// Asks a peer with connections that has been silent for long, and ends them when the patience
    /// is over.
    fn look_after_connections(self: &Arc<Self>, engine: &Engine, now: Instant) {
        let Some(membership) = engine.memberships().get(&self.key.network).cloned() else {
            return;
        };
        let has_connections = membership.has_connections(self);
        let word = self.word(engine);
        let mut sealing = self.sealing.lock();
        let action = sealing.standing.handle_timeout(now, word, has_connections);
        if action == Action::Ask {
            sealing.session.ask(now);
        }
        sealing.look = true;
        self.settle(engine, now, sealing);
        if let Action::End(absence) = action {
            membership.end(now, self, absence);
        }
    }

    /// The belief about this peer's absence changed: there may be a way again.
    fn look_again(self: &Arc<Self>, engine: &Engine, now: Instant) {
        engine.reroute_peer(self);
        if self.stalled.load(Relaxed)
            && let Some(membership) = engine.memberships().get(&self.key.network)
        {
            membership.restore_path(engine, now, self);
        }
    }

    fn address(&self, flow: u8) -> Address {
        Address {
            vni: self.vni.get(),
            flow,
            host: self.key.host,
        }
    }

    /// Moves the session's messages to the outbox, and sets the timers that it asks for.
    fn settle(self: &Arc<Self>, engine: &Engine, now: Instant, sealing: MutexGuard<'_, Sealing>) {
        let outcome = Self::collect(engine, now, sealing);
        self.act(engine, now, &outcome);
    }

    fn settle_locked<'a>(
        self: &'a Arc<Self>,
        engine: &Engine,
        now: Instant,
        sealing: MutexGuard<'_, Sealing>,
    ) -> MutexGuard<'a, Sealing> {
        let outcome = Self::collect(engine, now, sealing);
        for at in outcome.arm.into_iter().chain(outcome.watch) {
            engine.arm(at, self.key);
        }
        self.sealing.lock()
    }

    fn collect(engine: &Engine, now: Instant, mut sealing: MutexGuard<'_, Sealing>) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(message) = sealing.session.poll_message() {
            if is_init(&message) {
                // One copy that waits for a way is enough.
                sealing.outbox.retain(|waiting| !is_init(waiting));
            }
            if sealing.outbox.len() == OUTBOX_MAX {
                sealing.outbox.pop_front();
            }
            sealing.outbox.push_back(message);
            sealing.handshake_until = now + HANDSHAKE_LIVES;
            outcome.has_messages = true;
        }
        while let Some(event) = sealing.session.poll_event() {
            match event {
                Event::Established => outcome.established = std::mem::take(&mut sealing.waiting),
                Event::Lost => {
                    outcome.lost = true;
                    // Nothing waits for the answer any more.
                    sealing.outbox.clear();
                    sealing.handshake = None;
                }
                Event::Restarted => {
                    outcome.absence = Some(sealing.standing.handle_restarted());
                }
                Event::Left => outcome.absence = Some(sealing.standing.handle_left(now)),
                Event::Moved(place) => outcome.moved = Some(RelayId(place)),
            }
        }
        if let Some(due) = sealing.session.poll_timeout()
            && sealing.armed.is_none_or(|armed| due < armed)
        {
            sealing.armed = Some(due);
            outcome.arm = Some(due);
        }
        if std::mem::take(&mut sealing.look)
            && let Some(due) = sealing.standing.poll_timeout(engine.is_current())
            && sealing.watch.is_none_or(|watch| due < watch)
        {
            sealing.watch = Some(due);
            outcome.watch = Some(due);
        }
        outcome
    }

    fn act(self: &Arc<Self>, engine: &Engine, now: Instant, outcome: &Outcome) {
        for at in outcome.arm.into_iter().chain(outcome.watch) {
            engine.arm(at, self.key);
        }
        if (outcome.lost || outcome.absence.is_some())
            && let Some(membership) = engine.memberships().get(&self.key.network)
        {
            if let Some(absence) = outcome.absence {
                membership.end(now, self, absence);
            }
            if outcome.lost {
                self.handle_lost(engine, now, membership);
            }
        }
        if let Some(relay) = outcome.moved {
            self.handle_moved(engine, now, relay);
        }
        if outcome.has_messages || outcome.established {
            engine.enqueue(self);
        }
    }

    /// Tells the peer over which relay this device is reached, if it may have connections with it.
    pub(super) fn say_moved(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let mut sealing = self.sealing.lock();
        if sealing.standing.is_watched() {
            sealing.session.say_moved(now, relay.0);
        }
        self.settle(engine, now, sealing);
    }

    /// It reported that it is reached over `relay`. Packets that went over another one lately are
    /// lost.
    fn handle_moved(self: &Arc<Self>, engine: &Engine, now: Instant, relay: RelayId) {
        let left = {
            let mut way = self.way.lock();
            let is_news = way.via != Some(relay) && way.route.handle_moved(now, relay);
            self.sought.store(way.route.is_absent_somewhere(), Relaxed);
            if !is_news {
                return;
            }
            way.via.take()
        };
        self.arm_way(engine);
        if let Some(left) = left {
            engine.look_through(left);
        }
        if let Some(membership) = engine.memberships().get(&self.key.network) {
            membership.stall(now, self);
            membership.restore_path(engine, now, self);
        }
    }

    /// It answered no handshake for a while. Only connections have more patience.
    fn handle_lost(self: &Arc<Self>, engine: &Engine, now: Instant, membership: &Membership) {
        if membership.has_connections(self) {
            let mut sealing = self.sealing.lock();
            if sealing.waiting {
                sealing.session.handle_want_send(now);
            }
            self.settle(engine, now, sealing);
        } else {
            membership.forget_flows(now, self);
        }
    }

    fn arm_way(&self, engine: &Engine) {
        let mut way = self.way.lock();
        if let Some(due) = way.route.poll_timeout()
            && way.armed.is_none_or(|armed| due < armed)
        {
            way.armed = Some(due);
            drop(way);
            engine.arm(due, self.key);
        }
    }
}

#[derive(Default)]
struct Outcome {
    has_messages: bool,
    established: bool,
    lost: bool,
    absence: Option<Absence>,
    moved: Option<RelayId>,
    /// Timers to set; each by itself, since each was recorded as set.
    arm: Option<Instant>,
    watch: Option<Instant>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("key", &self.key)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// Returns a seed that differs between peers and between runs: no two sessions draw the same
/// indexes.
fn session_seed(engine: &Engine, key: PeerKey) -> u64 {
    let mut seed = u64::from(key.host);
    for chunk in engine.seed.chunks_exact(8) {
        let word = chunk
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        seed = (seed ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    seed
}

/// A first answer that is late by no more than this was held up by busy processors, not by
/// distance. Rings of the wrong size would cost the memory of a hundred flows.
const HANDSHAKE_WORK: Duration = Duration::from_millis(5);

/// The time for which a handshake message is tried at one relay after the other: as long as the
/// handshake itself.
const HANDSHAKE_LIVES: Duration = Duration::from_secs(30);

/// Handshake messages that may wait for a link; older ones are worth nothing.
const OUTBOX_MAX: usize = 4;
