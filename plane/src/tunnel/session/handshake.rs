//! The handshakes of a session: starts them, answers the peer's, and puts the keys of a finished
//! one in their place.

use std::time::Instant;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::attempt::{Attempt, RETRY_FIRST, prologue};
use super::{Event, OpenError, PREVIOUS_MAX, PeerSession, is_init};
use crate::tunnel::envelope::{
    self, INSTANCE_LEN, NOISE_1_LEN, NOISE_2_LEN, TAG_LEN, TRANSPORT_HEADER_LEN,
};
use crate::tunnel::keys::{LONGEST_UNDER_WAY, Role, SessionKeys, SplitKeys};
use crate::tunnel::noise;

impl PeerSession {
    pub(super) fn open_init(
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

    pub(super) fn open_response(
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
    pub(super) fn promote_next(&mut self, now: Instant) {
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

    fn retire(&mut self, keys: Option<SessionKeys>) {
        if let Some(keys) = keys {
            self.previous.push_front(keys);
            self.previous.truncate(PREVIOUS_MAX);
        }
    }

    pub(super) fn start_attempt(&mut self, now: Instant) {
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

    pub(super) fn transmit(&mut self, now: Instant) {
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
}

fn split(handshake: &mut HandshakeState) -> SplitKeys {
    let (first, second) = handshake.dangerously_get_raw_split();
    SplitKeys {
        first: Zeroizing::new(first),
        second: Zeroizing::new(second),
    }
}

/// Answers that do not open after which a handshake is started again: an honest peer sends none,
/// and a broken path rarely damages one.
const FORGED_MAX: u32 = 3;
