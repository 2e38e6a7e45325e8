//! Decides when a handshake is sent, sent again and given up. Holds the one handshake this side has
//! started, and no keys that are in use.

use std::time::{Duration, Instant};

use snow::HandshakeState;

use super::PeerConfig;
use crate::tunnel::envelope::{self, NOISE_1_LEN};
use crate::tunnel::noise::{self, SUITE};

/// The attempt to get a session.
pub(super) struct Attempt {
    /// `None` while an answered handshake of the peer goes first.
    pub(super) flight: Option<Flight>,
    /// True if the peer proved during the attempt that it lives.
    pub(super) heard: bool,
    retry_at: Instant,
    give_up_at: Instant,
    backoff: Duration,
}

/// A message 1 that was sent and not answered.
pub(super) struct Flight {
    pub(super) local_index: u32,
    pub(super) handshake: HandshakeState,
    /// Answers that did not open.
    pub(super) forged: u32,
    message: Vec<u8>,
    sent_at: Instant,
}

impl Attempt {
    /// An attempt that waits until `start` before it sends anything.
    pub(super) fn new(now: Instant, start: Instant) -> Self {
        Self {
            flight: None,
            heard: false,
            retry_at: start,
            give_up_at: now + GIVE_UP_AFTER,
            backoff: REPEAT_FIRST,
        }
    }

    /// Returns the time at which the attempt next has something to do.
    pub(super) fn due(&self) -> Instant {
        self.retry_at.min(self.give_up_at)
    }

    /// Returns whether the attempt has failed for so long that it ends.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.give_up_at
    }

    /// Returns whether message 1 is due, again or for the first time.
    pub(super) fn wants_transmit(&self, now: Instant) -> bool {
        now >= self.retry_at
    }

    /// Returns the message 1 to send. Every retry sends the same bytes, so an answer to any of them
    /// counts, and the peer recognises copies. `None` without randomness or with an impossible peer
    /// key: then the attempt runs out.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        unused_index: u32,
        random: u64,
    ) -> Option<Vec<u8>> {
        self.retry_at = now + self.backoff + jitter(self.backoff, random);
        self.backoff = (self.backoff * 2).min(RETRY_MAX);
        if self.flight.is_none() {
            self.flight = Flight::start(config, unused_index, now);
        }
        let flight = self.flight.as_mut()?;
        flight.sent_at = now;
        Some(flight.message.clone())
    }

    /// Lets the peer's own handshake go first for a moment. Ours still counts if it is answered.
    pub(super) fn yield_to_peer(&mut self, now: Instant) {
        self.retry_at = self.retry_at.max(now + RETRY_FIRST);
    }
}

impl Flight {
    fn start(config: &PeerConfig, local_index: u32, now: Instant) -> Option<Self> {
        let prologue = prologue(config, &config.local_device, &config.remote_device);
        let mut handshake =
            noise::initiator(&prologue, &config.local_static, &config.remote_static).ok()?;
        let mut noise_1 = [0; NOISE_1_LEN];
        handshake
            .write_message(&config.local_instance, &mut noise_1)
            .ok()?;
        Some(Self {
            local_index,
            handshake,
            forged: 0,
            message: envelope::init(local_index, &noise_1),
            sent_at: now,
        })
    }

    /// Returns whether the last copy has been under way for longer than an answer usually takes.
    pub(super) fn may_be_lost(&self, now: Instant) -> bool {
        now >= self.sent_at + RETRY_FIRST
    }
}

/// The bytes that both sides hash into the handshake first: keys for one network, pair and
/// direction fit no other.
pub(super) fn prologue(config: &PeerConfig, initiator: &[u8; 16], responder: &[u8; 16]) -> Vec<u8> {
    [
        PROLOGUE_LABEL,
        SUITE.as_bytes(),
        &config.vni.to_be_bytes(),
        initiator,
        responder,
    ]
    .concat()
}

/// Up to a quarter of `backoff`, so that many peers of one lost relay do not come back together.
fn jitter(backoff: Duration, random: u64) -> Duration {
    backoff / 4 * (random % 1024) as u32 / 1024
}

const PROLOGUE_LABEL: &[u8] = b"overlan-e2e-1";
/// The wait before the first repetition. Peers learn of a device that has just joined a moment
/// later: messages that came to them before that were lost, and are repeated before a person
/// notices. On a path that takes longer than this a few copies are wasted, 100 bytes each.
const REPEAT_FIRST: Duration = Duration::from_millis(250);
/// One round trip through a distant relay, with room for a busy machine: an answer has come by
/// then, or is lost.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest time that a peer that has come back waits for us, without the jitter.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// The time for which a handshake is tried before packets that wait for it are given up. Longer
/// than the loss of a relay takes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
