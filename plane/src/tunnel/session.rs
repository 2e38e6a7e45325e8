//! Decides, for one peer, when to start a handshake, which keys seal and open, and what a message
//! from the peer means. Holds no socket, no clock and no queue of packets: a packet without a
//! session waits with the caller.
//!
//! Here are keys in use; `handshake` makes new ones, and `error` has the reasons for failures.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::envelope::{self, INSTANCE_LEN, Message, Note, TAG_LEN, TRANSPORT_HEADER_LEN};
use super::keys::SessionKeys;
use super::noise::StaticKey;
use attempt::Attempt;
use limits::{HandshakeLimit, StrayLimit, Unanswered};

mod attempt;
mod error;
mod handshake;
mod limits;

pub use error::{OpenError, SealError};

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

/// Returns whether `message` begins a handshake.
#[must_use]
pub fn is_init(message: &[u8]) -> bool {
    matches!(envelope::parse(message), Some(Message::Init { .. }))
}

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
