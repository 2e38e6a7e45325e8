//! Decides, for one peer, when to shake hands, which keys seal and open, and what a message from the peer means. Holds
//! no socket, no clock and no queue of packets: a packet without a session waits with the caller.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snow::HandshakeState;
use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::{self, Message, NOISE_1_LEN, NOISE_2_LEN, TAG_LEN, TRANSPORT_HEADER_LEN};
use super::keys::{Role, SessionKeys, SplitKeys};
use super::noise::{self, SUITE, StaticKey};

/// Who the two ends are. All of it goes into the handshake, so keys for one network or peer fit no other.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The network's number at the relays.
    pub vni: u32,
    /// This device's id.
    pub local_device: [u8; 16],
    /// The peer's device id. Differs from `local_device`.
    pub remote_device: [u8; 16],
    /// This device's tunnel key.
    pub local_static: Arc<StaticKey>,
    /// The peer's public tunnel key, whose signature by the peer's identity the caller has verified.
    pub remote_static: [u8; 32],
}

/// The end-to-end session with one peer, over any number of handshakes and relays.
///
/// After *every* call that takes `&mut self`, drain [`poll_message`](Self::poll_message) and
/// [`poll_event`](Self::poll_event), and ask [`poll_timeout`](Self::poll_timeout) again.
pub struct PeerSession {
    config: PeerConfig,
    /// Seals, and opens.
    current: Option<SessionKeys>,
    /// Answered by us, but not yet used by the peer. Opens only.
    next: Option<SessionKeys>,
    /// Newest first. Open only, for what was under way when the keys changed.
    previous: VecDeque<SessionKeys>,
    attempt: Option<Attempt>,
    answers: AnswerLimit,
    /// What was sealed since the peer last proved that it lives.
    unanswered: Option<Unanswered>,
    /// Whether the caller last heard `Established`, and nothing since then took it back.
    announced: bool,
    messages: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    random: SplitMix64,
}

/// What an authentic or at least harmless message was.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'m> {
    /// A packet from the peer, in the buffer it came in. Only its origin is proved: parse and filter it.
    Packet(&'m mut [u8]),
    /// A handshake went on. Something may wait in `poll_message` and `poll_event`.
    Handshake,
    /// The peer proved that it holds the keys, and said nothing else. `poll_event` may have something.
    Keepalive,
}

/// A change that matters to what waits for this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets can be sealed from now on. New keys for a session in use are not announced.
    Established,
    /// The peer answered no handshake for 30 s. What waits for it should fail; the next
    /// [`handle_want_send`](PeerSession::handle_want_send) tries again.
    Lost,
}

/// Why a packet was not sealed. The buffer is unchanged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// No session: keep the packet, call [`PeerSession::handle_want_send`], wait for [`Event::Established`].
    #[error("no session with this peer yet")]
    NoSession,
    /// The session has reached its hard limit of messages or bytes. To be treated like `NoSession`; separate because
    /// it means that handshakes have failed under load for a long time.
    #[error("the session has sealed as much as it may")]
    Exhausted,
    /// The buffer is too short for header and tag, or longer than a message can be: a mistake of the caller.
    #[error("the buffer does not fit a tunnel message")]
    Length,
}

/// Why a message was dropped. Nothing but a counter should follow, except for [`UnknownIndex`](Self::UnknownIndex).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Not a tunnel message.
    #[error("not a tunnel message")]
    Malformed,
    /// For keys or a handshake this side does not have: late, or this side was restarted while the peer goes on. The
    /// caller should call [`PeerSession::handle_want_send`], which restores such a peer at once and otherwise does
    /// nothing.
    #[error("for an unknown session")]
    UnknownIndex,
    /// The counter was used before or is older than the window.
    #[error("seen before")]
    Replayed,
    /// The cipher rejects it, or it comes from another key than the peer's.
    #[error("not authentic")]
    Forged,
    /// More handshakes per second than this peer may have.
    #[error("too many handshakes")]
    RateLimited,
    /// Its keys are past their age or use.
    #[error("for an expired session")]
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
    /// `seed` gives session indexes and jitter. Keys never come from it.
    #[must_use]
    pub fn new(config: PeerConfig, now: Instant, seed: u64) -> Self {
        Self {
            config,
            current: None,
            next: None,
            previous: VecDeque::new(),
            attempt: None,
            answers: AnswerLimit::new(now),
            unanswered: None,
            announced: false,
            messages: VecDeque::new(),
            events: VecDeque::new(),
            random: SplitMix64(seed),
        }
    }

    /// Whether [`seal`](Self::seal) would seal.
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

    /// Seals the packet in `message`, which is [`TRANSPORT_HEADER_LEN`] bytes free, the packet, [`TAG_LEN`] bytes
    /// free. In place, without allocation. May put a handshake into `poll_message` when the keys get old.
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
    /// See [`OpenError`]; a message that fails changes nothing, except that a message 1 uses up a little of the
    /// peer's allowance of handshakes.
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

    /// A handshake message to send now.
    #[must_use]
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Something the caller should know.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. `None` for a peer that was idle for three minutes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiries = self.all_keys().map(SessionKeys::expires);
        let attempt = self.attempt.iter().map(|a| a.retry_at.min(a.give_up_at));
        expiries.chain(attempt).min()
    }

    /// Sends a handshake again, gives it up, or erases old keys, whatever is due. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let expired = |keys: &mut SessionKeys| now >= keys.expires();
        self.previous.retain_mut(|keys| !expired(keys));
        self.next.take_if(expired);
        if self.current.take_if(expired).is_some() {
            // An idle session ends in silence; the next one is announced again.
            self.announced = false;
        }
        let Some(attempt) = &self.attempt else {
            return;
        };
        if now >= attempt.give_up_at {
            let peer_lives = attempt.heard && self.can_seal(now);
            self.attempt = None;
            if !peer_lives {
                self.announced = false;
                self.push_event(Event::Lost);
            }
        } else if now >= attempt.retry_at {
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
            return Err(OpenError::UnknownIndex);
        };
        self.heard(now);
        if packet.is_empty() {
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
        // Before the expensive part, because that is what the limit is for.
        if !self.answers.allow(now) {
            return Err(OpenError::RateLimited);
        }
        let known = self.all_keys().find_map(|keys| keys.answer_to(noise_1));
        if let Some(answer) = known {
            let answer = answer.to_vec();
            self.push_message(answer);
            return Ok(());
        }
        let mut handshake =
            noise::responder(&self.prologue(Side::Remote), &self.config.local_static)
                .map_err(|_| OpenError::Forged)?;
        handshake
            .read_message(noise_1, &mut [])
            .map_err(|_| OpenError::Forged)?;
        if handshake.get_remote_static() != Some(&self.config.remote_static[..]) {
            return Err(OpenError::Forged);
        }

        if let Some(attempt) = &mut self.attempt
            && let Some(flight) = &attempt.flight
        {
            if self.config.local_device < self.config.remote_device {
                // Both started, and ours goes on. If ours may have been lost, the peer gets it again now.
                if now >= flight.sent_at + RETRY_FIRST {
                    self.transmit(now);
                }
                return Ok(());
            }
            // Both started, and theirs goes on. Ours still counts if it is answered after all, because this message 1
            // may be an old copy, but it waits before it is sent again.
            attempt.retry_at = attempt.retry_at.max(now + RETRY_FIRST);
        }

        let mut noise_2 = [0; NOISE_2_LEN];
        handshake
            .write_message(&[], &mut noise_2)
            .map_err(|_| OpenError::Forged)?;
        let local_index = self.unused_index();
        let answer = envelope::response(local_index, sender, &noise_2);
        let role = Role::Responder {
            asked: Box::new(*noise_1),
            answer: answer.clone(),
        };
        let keys = SessionKeys::new(now, role, local_index, sender, &split(&mut handshake));
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
        // A failed read leaves the handshake as it was, ready for the true message 2.
        flight
            .handshake
            .read_message(noise_2, &mut [])
            .map_err(|_| OpenError::Forged)?;
        let keys = split(&mut flight.handshake);
        let mut keys = SessionKeys::new(now, Role::Initiator, receiver, sender, &keys);

        // The responder seals nothing under the new keys before it has seen this.
        let mut confirm = vec![0; TRANSPORT_HEADER_LEN + TAG_LEN];
        let confirmed = keys.seal(now, &mut confirm);
        debug_assert_eq!(confirmed, Ok(()), "fresh keys seal an empty packet");
        self.messages.retain(|message| !is_init(message));
        self.push_message(confirm);

        let usable_before = self.can_seal(now);
        let unconfirmed = self.next.take();
        let replaced = self.current.replace(keys);
        // What we answered before may be in use by the peer already. It is older than the new keys on both sides.
        self.retire(replaced);
        self.retire(unconfirmed);
        self.attempt = None;
        self.announced &= usable_before;
        self.heard(now);
        Ok(())
    }

    /// The peer uses the keys we answered with: now we may.
    fn promote_next(&mut self, now: Instant) {
        let usable_before = self.can_seal(now);
        let confirmed = self.next.take();
        let replaced = std::mem::replace(&mut self.current, confirmed);
        self.retire(replaced);
        self.attempt = None;
        self.messages.retain(|message| !is_init(message));
        self.announced &= usable_before;
    }

    fn retire(&mut self, keys: Option<SessionKeys>) {
        if let Some(keys) = keys {
            self.previous.push_front(keys);
            self.previous.truncate(PREVIOUS_MAX);
        }
    }

    /// Something authentic and new came from the peer.
    fn heard(&mut self, now: Instant) {
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
        let answered_until = self.next.as_ref().map(|keys| keys.created + RETRY_FIRST);
        self.attempt = Some(Attempt {
            flight: None,
            retry_at: answered_until.map_or(now, |until| until.max(now)),
            give_up_at: now + GIVE_UP_AFTER,
            backoff: RETRY_FIRST,
            heard: false,
        });
        if answered_until.is_none_or(|until| now >= until) {
            self.transmit(now);
        }
    }

    /// Sends message 1. Every retry sends the same bytes, so an answer to any of them counts, and the peer recognises
    /// copies.
    fn transmit(&mut self, now: Instant) {
        let local_index = self.unused_index();
        let prologue = self.prologue(Side::Local);
        let jitter = self.random.next();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.retry_at = now + attempt.backoff + jittered(attempt.backoff, jitter);
        attempt.backoff = (attempt.backoff * 2).min(RETRY_MAX);
        if attempt.flight.is_none() {
            attempt.flight = Flight::start(&self.config, &prologue, local_index, now);
        }
        // Without randomness, or with an impossible peer key, there is nothing to send: the attempt runs out.
        let Some(flight) = &mut attempt.flight else {
            return;
        };
        flight.sent_at = now;
        let message = flight.message.clone();
        self.messages.retain(|message| !is_init(message));
        self.push_message(message);
    }

    fn prologue(&self, initiator: Side) -> Vec<u8> {
        let (local, remote) = (&self.config.local_device, &self.config.remote_device);
        let (initiator, responder) = match initiator {
            Side::Local => (local, remote),
            Side::Remote => (remote, local),
        };
        [
            PROLOGUE_LABEL,
            SUITE.as_bytes(),
            &self.config.vni.to_be_bytes(),
            initiator,
            responder,
        ]
        .concat()
    }

    /// A random index that no live keys or handshake of this peer use.
    fn unused_index(&mut self) -> u32 {
        loop {
            // The upper half of a good 64-bit number.
            let index = (self.random.next() >> 32) as u32;
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

/// A wish for a session that is not fulfilled yet.
struct Attempt {
    /// `None` while an answered handshake of the peer goes first.
    flight: Option<Flight>,
    retry_at: Instant,
    give_up_at: Instant,
    backoff: Duration,
    /// Whether the peer proved during the attempt that it lives.
    heard: bool,
}

/// A message 1 that was sent and not answered.
struct Flight {
    local_index: u32,
    handshake: HandshakeState,
    message: Vec<u8>,
    sent_at: Instant,
}

impl Flight {
    fn start(config: &PeerConfig, prologue: &[u8], local_index: u32, now: Instant) -> Option<Self> {
        let mut handshake =
            noise::initiator(prologue, &config.local_static, &config.remote_static).ok()?;
        let mut noise_1 = [0; NOISE_1_LEN];
        handshake.write_message(&[], &mut noise_1).ok()?;
        Some(Self {
            local_index,
            handshake,
            message: envelope::init(local_index, &noise_1),
            sent_at: now,
        })
    }
}

/// A run of sealed messages without any sign of the peer.
#[derive(Clone, Copy)]
struct Unanswered {
    first: Instant,
    last: Instant,
}

impl Unanswered {
    /// Notes a sealed message and says whether the silence has become suspicious. The last message before a pause
    /// rarely needs an answer, so the pause itself does not count.
    fn note(run: &mut Option<Self>, now: Instant) -> bool {
        let first = run
            .filter(|run| now < run.last + SUSPECT_AFTER_SILENCE)
            .map_or(now, |run| run.first);
        *run = Some(Self { first, last: now });
        now >= first + SUSPECT_AFTER_SILENCE
    }
}

#[derive(Clone, Copy)]
enum Side {
    Local,
    Remote,
}

/// Limits how often message 1 of this peer is worked on, in whole answers.
struct AnswerLimit {
    left: u32,
    refilled: Instant,
}

impl AnswerLimit {
    fn new(now: Instant) -> Self {
        Self {
            left: ANSWERS_PER_SECOND,
            refilled: now,
        }
    }

    fn allow(&mut self, now: Instant) -> bool {
        while self.left < ANSWERS_PER_SECOND && now >= self.refilled + ANSWER_EVERY {
            self.refilled += ANSWER_EVERY;
            self.left += 1;
        }
        if self.left == ANSWERS_PER_SECOND {
            self.refilled = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// The generator of Steele, Lea and Flood: for indexes and jitter, which need no secrecy.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn split(handshake: &mut HandshakeState) -> SplitKeys {
    let (first, second) = handshake.dangerously_get_raw_split();
    SplitKeys {
        first: Zeroizing::new(first),
        second: Zeroizing::new(second),
    }
}

fn is_init(message: &[u8]) -> bool {
    matches!(envelope::parse(message), Some(Message::Init { .. }))
}

/// Up to a quarter of `backoff`, so that many peers of one lost relay do not knock together.
fn jittered(backoff: Duration, random: u64) -> Duration {
    backoff / 4 * (random % 1024) as u32 / 1024
}

const PROLOGUE_LABEL: &[u8] = b"overlan-e2e-1";
/// One round trip through a distant relay, with room for a busy machine.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest a peer that has come back waits for us.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// How long a handshake is tried before what waits for it should fail. Longer than the loss of a relay takes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// A peer that answers nothing for so long may have lost its keys: sending then also tries a new handshake.
const SUSPECT_AFTER_SILENCE: Duration = Duration::from_secs(15);
/// Handshakes of one peer worked on per second, and at once after a pause.
const ANSWERS_PER_SECOND: u32 = 10;
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// Old keys that still open: those just replaced, and those the peer may have taken up while we replaced them.
const PREVIOUS_MAX: usize = 2;
/// Handshake messages kept for a caller that does not drain. At most one message 1, an answer and a confirmation are
/// of use at a time.
const MESSAGES_MAX: usize = 4;
/// Events kept for a caller that does not drain; only the latest matter.
const EVENTS_MAX: usize = 4;

#[cfg(test)]
mod tests;
