//! Decides, for one peer, when to start a handshake, which keys seal and open, and what a message
//! from the peer means. Holds no socket, no clock and no queue of packets: a packet without a
//! session waits with the caller.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use snow::HandshakeState;
use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::{
    self, INSTANCE_LEN, Message, NOISE_1_LEN, NOISE_2_LEN, Note, TAG_LEN, TRANSPORT_HEADER_LEN,
};
use super::keys::{LONGEST_UNDER_WAY, Role, SessionKeys, SplitKeys};
use super::noise::{self, StaticKey};
use attempt::{Attempt, RETRY_FIRST, prologue};
use limits::{HandshakeLimit, StrayLimit, Unanswered};

mod attempt;
mod limits;

/// The two ends of a session. All of it goes into the handshake, so keys for one network or peer
/// fit no other.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The network's number at the relays.
    pub vni: u32,
    /// This device's id.
    pub local_device: [u8; 16],
    /// The peer's device id. Differs from `local_device`.
    pub remote_device: [u8; 16],
    /// This process of the device: the peer sees by it that the device was started again and does
    /// not know older connections.
    pub local_instance: [u8; INSTANCE_LEN],
    /// This device's tunnel key.
    pub local_static: Arc<StaticKey>,
    /// The peer's public tunnel key, whose signature by the peer's identity the caller has
    /// verified.
    pub remote_static: [u8; 32],
}

/// The end-to-end session with one peer, over any number of handshakes and relays.
///
/// After *every* call that takes `&mut self`, drain [`poll_message`](Self::poll_message) and
/// [`poll_event`](Self::poll_event), and ask [`poll_timeout`](Self::poll_timeout) again.
pub struct PeerSession {
    config: PeerConfig,
    /// The keys in use: they seal and open.
    current: Option<SessionKeys>,
    /// Keys that we answered with and the peer has not used yet: they only open.
    next: Option<SessionKeys>,
    /// Keys that were replaced, newest first: they only open messages that were under way when the
    /// keys changed.
    previous: VecDeque<SessionKeys>,
    attempt: Option<Attempt>,
    /// One allowance for all handshake messages of the peer, since the sender chooses their kind.
    handshakes: HandshakeLimit,
    /// The packets sealed since the peer last proved that it lives.
    unanswered: Option<Unanswered>,
    stray: Option<StrayLimit>,
    /// The process of the peer that proved its keys last.
    instance: Option<[u8; INSTANCE_LEN]>,
    /// The peer proved that it lives since [`PeerSession::take_proof`] was called last.
    proved: bool,
    /// True if the caller last heard `Established`. Looked at when something comes from the peer.
    announced: bool,
    messages: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    /// For indexes and jitter, which need no secrecy.
    random: fastrand::Rng,
}

/// An authentic or at least harmless message.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'m> {
    /// A packet from the peer, in the buffer it came in. Only its origin is proved: parse and
    /// filter it.
    Packet(&'m mut [u8]),
    /// A handshake advanced. `poll_message` and `poll_event` may have something.
    Handshake,
    /// The peer proved that it holds the keys and sent no packet. `poll_event` may have something.
    Keepalive,
}

/// A change that matters to packets and connections that wait for this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets can be sealed from here on. New keys for a session in use are not announced.
    Established,
    /// The peer answered no handshake for 30 s. The next
    /// [`handle_want_send`](PeerSession::handle_want_send) tries again.
    Lost,
    /// Another process of the peer's device proved its keys: it does not know the connections of
    /// the old one. Comes before anything that the new one sends.
    Restarted,
    /// The peer reported that it leaves, and that its connections end.
    Left,
    /// The peer reported that the way to it broke, and that it is reached over this relay.
    Moved([u8; 16]),
}

/// The reason why a packet was not sealed. The buffer is unchanged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// No session: keep the packet, call [`PeerSession::handle_want_send`], wait for
    /// [`Event::Established`].
    #[error("no session with this peer yet")]
    NoSession,
    /// The session has reached its hard limit of messages or bytes. Treat it like `NoSession`; it
    /// is separate because it means that handshakes have failed under load for a long time.
    #[error("the session has sealed as much as its keys allow")]
    Exhausted,
    /// The buffer is too short for header and tag, or longer than a message can be: a mistake of
    /// the caller.
    #[error("the buffer does not fit a tunnel message")]
    Length,
}

/// The reason why a message was dropped. Nothing but a counter should follow, except for
/// [`UnknownIndex`](Self::UnknownIndex).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// It does not have the form of a tunnel message.
    #[error("not a tunnel message")]
    Malformed,
    /// It is for keys or a handshake that this side does not have: it is late, or both sides came
    /// to hold different keys, because one was restarted or handshakes were lost. In the latter
    /// case a new handshake is under way; late messages cause few of them.
    #[error("the message is for an unknown session")]
    UnknownIndex,
    /// The counter was used before or is older than the window.
    #[error("the message was seen before")]
    Replayed,
    /// The cipher rejects it, or it was made with another key than the peer's.
    #[error("the message is not authentic")]
    Forged,
    /// The peer sent more handshakes per second than it may.
    #[error("the peer sent too many handshakes within a second")]
    RateLimited,
    /// Its keys have reached the end of their age or use.
    #[error("the message is for an expired session")]
    Expired,
}

impl OpenError {
    /// Every reason, for registering one counter each.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::UnknownIndex,
        Self::Replayed,
        Self::Forged,
        Self::RateLimited,
        Self::Expired,
    ];

    /// The name for metrics. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownIndex => "unknown_index",
            Self::Replayed => "replayed",
            Self::Forged => "forged",
            Self::RateLimited => "rate_limited",
            Self::Expired => "expired",
        }
    }
}

impl PeerSession {
    /// A peer without a session. Nothing happens until a packet goes out or a message comes in.
    ///
    /// Session indexes and jitter come from `seed`; keys never do. Every deciding type takes the
    /// time here; this one has nothing due yet.
    #[must_use]
    pub fn new(config: PeerConfig, _now: Instant, seed: u64) -> Self {
        Self {
            config,
            current: None,
            next: None,
            previous: VecDeque::new(),
            attempt: None,
            handshakes: HandshakeLimit::default(),
            unanswered: None,
            stray: None,
            instance: None,
            proved: false,
            announced: false,
            messages: VecDeque::new(),
            events: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Returns whether [`seal`](Self::seal) would seal.
    #[must_use]
    pub fn can_seal(&self, now: Instant) -> bool {
        self.current
            .as_ref()
            .is_some_and(|keys| keys.check_seal(now).is_ok())
    }

    /// Starts a handshake if there is no usable session and none is under way.
    pub fn handle_want_send(&mut self, now: Instant) {
        if !self.can_seal(now) {
            self.start_attempt(now);
        }
    }

    /// Asks the peer whether it is there; without keys, a handshake asks the same.
    pub fn ask(&mut self, now: Instant) {
        if !self.push_note(now, Note::Ask) {
            self.start_attempt(now);
        }
    }

    /// Tells the peer that this device leaves. A peer without a session has no connections either.
    pub fn say_farewell(&mut self, now: Instant) {
        self.push_note(now, Note::Leaving);
    }

    /// Tells the peer over which relay it reaches this device, since the way to it broke. Returns
    /// whether there are keys to seal the note.
    pub fn say_moved(&mut self, now: Instant, place: [u8; 16]) -> bool {
        self.push_note(now, Note::Moved(place))
    }

    /// Seals the packet in `message`, which is [`TRANSPORT_HEADER_LEN`] bytes free, the packet,
    /// [`TAG_LEN`] bytes free. In place, without allocation. May put a handshake into
    /// `poll_message` when the keys get old.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(&mut self, now: Instant, message: &mut [u8]) -> Result<(), SealError> {
        let keys = self.current.as_mut().ok_or(SealError::NoSession)?;
        keys.seal(now, message)?;
        let wants_rekey = keys.wants_rekey(now);
        let suspect = Unanswered::note(&mut self.unanswered, now);
        if wants_rekey || suspect {
            self.start_attempt(now);
        }
        Ok(())
    }

    /// Takes one message that came from this peer's place in the network, and opens it in place.
    ///
    /// # Errors
    /// See [`OpenError`]; a message that fails changes nothing, except that a message 1 uses up a
    /// little of the peer's allowance of handshakes.
    pub fn open<'m>(
        &mut self,
        now: Instant,
        message: &'m mut [u8],
    ) -> Result<Opened<'m>, OpenError> {
        match envelope::parse(message).ok_or(OpenError::Malformed)? {
            Message::Transport { receiver, counter } => {
                self.open_transport(now, receiver, counter, message)
            }
            Message::Init { sender, noise } => self
                .open_init(now, sender, noise)
                .map(|()| Opened::Handshake),
            Message::Response {
                sender,
                receiver,
                noise,
            } => self
                .open_response(now, sender, receiver, noise)
                .map(|()| Opened::Handshake),
        }
    }

    /// Returns a message to send at once.
    #[must_use]
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Returns something that the caller should know.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns whether the peer proved since the last call that it lives. A first message of a
    /// handshake proves nothing: it may be a copy.
    #[must_use]
    pub fn take_proof(&mut self) -> bool {
        std::mem::take(&mut self.proved)
    }

    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) is due. `None` for a peer
    /// that was idle for three minutes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiries = self.all_keys().map(SessionKeys::expires);
        let attempt = self.attempt.iter().map(Attempt::due);
        expiries.chain(attempt).min()
    }

    /// Sends a handshake again, gives it up, or erases old keys, whatever is due. Early calls do
    /// nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let expired = |keys: &mut SessionKeys| now >= keys.expires();
        self.previous.retain_mut(|keys| !expired(keys));
        self.next.take_if(expired);
        // An idle session ends without an event; the next one is announced again.
        self.current.take_if(expired);
        let Some(attempt) = &self.attempt else {
            return;
        };
        if attempt.is_over(now) {
            let peer_lives = attempt.heard && self.can_seal(now);
            self.attempt = None;
            if !peer_lives {
                self.announced = false;
                self.push_event(Event::Lost);
            }
        } else if attempt.wants_transmit(now) {
            self.transmit(now);
        }
    }

    fn open_transport<'m>(
        &mut self,
        now: Instant,
        receiver: u32,
        counter: u64,
        message: &'m mut [u8],
    ) -> Result<Opened<'m>, OpenError> {
        let opened_by = |keys: &&mut SessionKeys| keys.local_index == receiver;
        let packet = if let Some(keys) = self.current.as_mut().filter(opened_by) {
            keys.open(now, counter, message)?
        } else if let Some(keys) = self.next.as_mut().filter(opened_by) {
            let packet = keys.open(now, counter, message)?;
            self.promote_next(now);
            packet
        } else if let Some(keys) = self.previous.iter_mut().find(opened_by) {
            keys.open(now, counter, message)?
        } else {
            if StrayLimit::heed(&mut self.stray, now) {
                self.start_attempt(now);
            }
            return Err(OpenError::UnknownIndex);
        };
        self.heard(now);
        if packet.is_empty() {
            return Ok(Opened::Keepalive);
        }
        if let Some(note) = Note::parse(packet) {
            match note {
                Some(Note::Ask) => drop(self.push_note(now, Note::Here)),
                Some(Note::Leaving) => self.push_event(Event::Left),
                Some(Note::Moved(place)) => self.push_event(Event::Moved(place)),
                Some(Note::Here) | None => {}
            }
            return Ok(Opened::Keepalive);
        }
        if self
            .current
            .as_ref()
            .is_some_and(|keys| keys.wants_rekey(now))
        {
            self.start_attempt(now);
        }
        Ok(Opened::Packet(packet))
    }

    fn open_init(
        &mut self,
        now: Instant,
        sender: u32,
        noise_1: &[u8; NOISE_1_LEN],
    ) -> Result<(), OpenError> {
        // Before the expensive part, which is what the limit protects.
        if !self.handshakes.allow(now) {
            return Err(OpenError::RateLimited);
        }
        let known = self
            .all_keys()
            .find_map(|keys| keys.answer_to(sender, noise_1));
        if let Some(answer) = known {
            let answer = answer.to_vec();
            self.push_message(answer);
            return Ok(());
        }
        let config = &self.config;
        let prologue = prologue(config, &config.remote_device, &config.local_device);
        let mut handshake =
            noise::responder(&prologue, &config.local_static).map_err(|_| OpenError::Forged)?;
        let mut instance = [0; INSTANCE_LEN];
        handshake
            .read_message(noise_1, &mut instance)
            .map_err(|_| OpenError::Forged)?;
        if handshake.get_remote_static() != Some(&self.config.remote_static[..]) {
            return Err(OpenError::Forged);
        }

        if let Some(attempt) = &mut self.attempt
            && let Some(flight) = &attempt.flight
        {
            if self.config.local_device < self.config.remote_device {
                // Both started, and ours goes on. If it may have been lost, the peer gets it again.
                if flight.may_be_lost(now) {
                    self.transmit(now);
                }
                return Ok(());
            }
            // Both started, and the peer's goes on. Ours is kept: this message 1 may be an old
            // copy.
            attempt.yield_to_peer(now);
        }

        let mut noise_2 = [0; NOISE_2_LEN];
        handshake
            .write_message(&self.config.local_instance, &mut noise_2)
            .map_err(|_| OpenError::Forged)?;
        let local_index = self.unused_index();
        let answer = envelope::response(local_index, sender, &noise_2);
        let role = Role::Responder {
            asked: Box::new(*noise_1),
            answer: answer.clone(),
        };
        let split = split(&mut handshake);
        let keys = SessionKeys::new(now, role, local_index, sender, instance, &split);
        self.next = Some(keys);
        self.push_message(answer);
        Ok(())
    }

    fn open_response(
        &mut self,
        now: Instant,
        sender: u32,
        receiver: u32,
        noise_2: &[u8; NOISE_2_LEN],
    ) -> Result<(), OpenError> {
        let flight = self
            .attempt
            .as_mut()
            .and_then(|attempt| attempt.flight.as_mut())
            .filter(|flight| flight.local_index == receiver)
            .ok_or(OpenError::UnknownIndex)?;
        // Before the expensive part, and only for messages that get there.
        if !self.handshakes.allow(now) {
            return Err(OpenError::RateLimited);
        }
        let mut instance = [0; INSTANCE_LEN];
        // A failed read leaves the handshake as it was, ready for the true message 2, for a few
        // times.
        if flight
            .handshake
            .read_message(noise_2, &mut instance)
            .is_err()
        {
            flight.forged += 1;
            if flight.forged >= FORGED_MAX
                && let Some(attempt) = &mut self.attempt
            {
                // A forger knows its index. The next flight, when it is due, has another one.
                attempt.flight = None;
            }
            return Err(OpenError::Forged);
        }
        let keys = split(&mut flight.handshake);
        let mut keys = SessionKeys::new(now, Role::Initiator, receiver, sender, instance, &keys);

        // The responder seals nothing under the new keys before it has seen this.
        let mut confirm = vec![0; TRANSPORT_HEADER_LEN + TAG_LEN];
        let confirmed = keys.seal(now, &mut confirm);
        debug_assert_eq!(confirmed, Ok(()), "fresh keys seal an empty packet");
        self.messages.retain(|message| !is_init(message));
        self.push_message(confirm);

        let usable_before = self.can_seal(now);
        // The peer may use the keys of our own answer already, unless their confirmation is long
        // overdue. They are older than the new keys on both sides.
        let unconfirmed = self
            .next
            .take()
            .filter(|keys| now < keys.created + LONGEST_UNDER_WAY);
        let replaced = self.current.replace(keys);
        self.retire(replaced);
        self.retire(unconfirmed);
        self.meet(instance);
        self.attempt = None;
        self.announced &= usable_before;
        self.heard(now);
        Ok(())
    }

    /// The peer uses the keys that we answered with, so we may use them too.
    fn promote_next(&mut self, now: Instant) {
        let usable_before = self.can_seal(now);
        let confirmed = self.next.take();
        let instance = confirmed.as_ref().map(|keys| keys.instance);
        let replaced = std::mem::replace(&mut self.current, confirmed);
        self.retire(replaced);
        if let Some(instance) = instance {
            self.meet(instance);
        }
        self.announced &= usable_before;
        // Keys that were confirmed too late cannot seal what waits.
        if self.can_seal(now) {
            self.attempt = None;
            self.messages.retain(|message| !is_init(message));
        }
    }

    /// The process `instance` of the peer proved that it holds the current keys.
    fn meet(&mut self, instance: [u8; INSTANCE_LEN]) {
        if self
            .instance
            .replace(instance)
            .is_some_and(|known| known != instance)
        {
            // The last messages of the old process are about connections that no longer exist.
            self.previous.clear();
            self.push_event(Event::Restarted);
        }
    }

    /// Seals a note under the current keys. Returns whether there are any.
    fn push_note(&mut self, now: Instant, note: Note) -> bool {
        let Some(keys) = self.current.as_mut() else {
            return false;
        };
        let text = note.text();
        let mut message = vec![0; TRANSPORT_HEADER_LEN + text.len() + TAG_LEN];
        message[TRANSPORT_HEADER_LEN..][..text.len()].copy_from_slice(&text);
        if keys.seal(now, &mut message).is_err() {
            return false;
        }
        self.push_message(message);
        true
    }

    fn retire(&mut self, keys: Option<SessionKeys>) {
        if let Some(keys) = keys {
            self.previous.push_front(keys);
            self.previous.truncate(PREVIOUS_MAX);
        }
    }

    /// Something authentic and new came from the peer.
    fn heard(&mut self, now: Instant) {
        self.proved = true;
        self.unanswered = None;
        if let Some(attempt) = &mut self.attempt {
            attempt.heard = true;
        }
        if !self.announced && self.can_seal(now) {
            self.announced = true;
            self.push_event(Event::Established);
        }
    }

    fn start_attempt(&mut self, now: Instant) {
        if self.attempt.is_some() {
            return;
        }
        // If we have just answered the peer's handshake, its confirmation is on the way.
        let answered = self.next.as_ref().map(|keys| keys.created + RETRY_FIRST);
        let start = answered.map_or(now, |until| until.max(now));
        self.attempt = Some(Attempt::new(now, start));
        if start == now {
            self.transmit(now);
        }
    }

    fn transmit(&mut self, now: Instant) {
        let unused_index = self.unused_index();
        let jitter = self.random.u64(..);
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let Some(message) = attempt.transmit(now, &self.config, unused_index, jitter) else {
            return;
        };
        // One copy that waits to be sent is enough.
        self.messages.retain(|message| !is_init(message));
        self.push_message(message);
    }

    /// A random index that no live keys or handshake of this peer use.
    fn unused_index(&mut self) -> u32 {
        loop {
            let index = self.random.u32(..);
            let in_flight = self.attempt.iter().flat_map(|attempt| &attempt.flight);
            let taken = self.all_keys().any(|keys| keys.local_index == index)
                || in_flight
                    .into_iter()
                    .any(|flight| flight.local_index == index);
            if !taken {
                return index;
            }
        }
    }

    fn all_keys(&self) -> impl Iterator<Item = &SessionKeys> {
        self.current.iter().chain(&self.next).chain(&self.previous)
    }

    fn push_message(&mut self, message: Vec<u8>) {
        if self.messages.len() == MESSAGES_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl fmt::Debug for PeerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSession")
            .field("config", &self.config)
            .field("current", &self.current.is_some())
            .field("next", &self.next.is_some())
            .field("previous", &self.previous.len())
            .field("attempt", &self.attempt.is_some())
            .finish_non_exhaustive()
    }
}

fn split(handshake: &mut HandshakeState) -> SplitKeys {
    let (first, second) = handshake.dangerously_get_raw_split();
    SplitKeys {
        first: Zeroizing::new(first),
        second: Zeroizing::new(second),
    }
}

/// Returns whether `message` begins a handshake.
#[must_use]
pub fn is_init(message: &[u8]) -> bool {
    matches!(envelope::parse(message), Some(Message::Init { .. }))
}

/// Answers that do not open after which a handshake is started again: an honest peer sends none,
/// and a broken path rarely damages one.
const FORGED_MAX: u32 = 3;
/// Old keys that still open: those just replaced, and those that the peer may have started to use
/// while we replaced them.
const PREVIOUS_MAX: usize = 2;
/// Handshake messages kept for a caller that does not drain. At most one message 1, an answer and a
/// confirmation are of use at a time.
const MESSAGES_MAX: usize = 4;
/// Events kept for a caller that does not drain; only the latest matter.
const EVENTS_MAX: usize = 4;

#[cfg(test)]
mod tests;
