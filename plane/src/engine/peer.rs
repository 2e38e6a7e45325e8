//! One peer: its session, its way, and the messages that wait for a session. Decides when
//! handshakes and absences need a timer.
//!
//! `turn` appends its next frame, `settle` follows what its session says, and `way` follows what
//! is known of its relays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use overlan_netstack::Stack;
use overlan_protocol::HostIndex;
use overlan_protocol::frame::{Address, Vni};
use overlan_protocol::key::{DeviceId, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap;
use parking_lot::Mutex;

use super::presence::{Absence, Action, Presence, Standing, Word};
use super::trust::VerifiedPeer;
use super::{Addresses, Engine};
use crate::route::PeerRoute;
use crate::tunnel::{OpenError, Opened, PeerConfig, PeerSession};

mod settle;
mod turn;
mod way;

pub(super) use turn::Turn;

use way::Way;

/// The name of a peer: its network and its host index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey {
    pub(super) network: NetworkId,
    pub(super) host: HostIndex,
}

/// The destination of frames, by which a relay gives credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) vni: u32,
    pub(super) host: u32,
}

impl From<Address> for Destination {
    fn from(address: Address) -> Self {
        let Address { vni, host, .. } = address;
        Self { vni, host }
    }
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
    question: Question,
    /// Packets wait until there is a session.
    waiting: bool,
    armed: Option<Instant>,
}

/// A handshake message that went out and was not answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    /// It went out once, at this time.
    Once(Instant),
    /// More than one went out, so an answer cannot be timed.
    Repeated,
}

impl Question {
    fn ask(&mut self, now: Instant) {
        *self = match self {
            Self::None => Self::Once(now),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn is_open(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Takes an answer. Returns the time of the question, if only one can be meant.
    fn take_answered(&mut self) -> Option<Instant> {
        match std::mem::take(self) {
            Self::Once(at) => Some(at),
            Self::None | Self::Repeated => None,
        }
    }
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
                question: Question::default(),
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

    /// The destination of frames for this peer.
    pub(super) fn destination(&self) -> Destination {
        Destination {
            vni: self.vni.get(),
            host: self.key.host.get(),
        }
    }

    /// The span of log lines about this peer. Made where a line is written, never for a packet.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::debug_span!("peer", device = %self.device, host = %self.key.host)
    }

    /// The device whose keys the session was made with.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Returns whether packets can be sealed for it at `now`.
    pub fn has_session(&self, now: Instant) -> bool {
        self.sealing.lock().session.can_seal(now)
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
        if sealing.question.is_open() && opened.is_ok() && sealing.session.can_seal(now) {
            asked = sealing.question.take_answered();
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
    let mut seed = u64::from(key.host.get());
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
