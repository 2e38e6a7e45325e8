//! Decides what one pair of session keys may still do: seal, open, be renewed, or nothing any more.
//! It holds the keys of both directions and counts their use; the session decides which of several
//! pairs is in use.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, LessSafeKey};
use zeroize::Zeroizing;

use super::envelope::{
    INSTANCE_LEN, MAX_PACKET_LEN, NOISE_1_LEN, TAG_LEN, TRANSPORT_HEADER_LEN, transport_header,
};
use super::noise::{aes_key, aes_nonce};
use super::replay::ReplayWindow;
use super::session::{OpenError, SealError};

/// The two halves of a Noise split.
pub(super) struct SplitKeys {
    /// Initiator to responder.
    pub(super) first: Zeroizing<[u8; 32]>,
    /// Responder to initiator.
    pub(super) second: Zeroizing<[u8; 32]>,
}

/// The part of this side in the handshake that made the keys.
pub(super) enum Role {
    Initiator,
    /// Holds the message 1 that was answered, and the answer: the same message again gets the same
    /// answer, so a duplicate makes no second session.
    Responder {
        asked: Box<[u8; NOISE_1_LEN]>,
        answer: Vec<u8>,
    },
}

/// The keys of one finished handshake.
pub(super) struct SessionKeys {
    role: Role,
    pub(super) local_index: u32,
    remote_index: u32,
    /// The process of the peer that holds them.
    pub(super) instance: [u8; INSTANCE_LEN],
    sealing: LessSafeKey,
    opening: LessSafeKey,
    pub(super) created: Instant,
    next_counter: u64,
    sealed_bytes: u64,
    opened_bytes: u64,
    highest_opened: u64,
    replay: ReplayWindow,
}

impl SessionKeys {
    pub(super) fn new(
        now: Instant,
        role: Role,
        local_index: u32,
        remote_index: u32,
        instance: [u8; INSTANCE_LEN],
        keys: &SplitKeys,
    ) -> Self {
        let (sealing, opening) = match role {
            Role::Initiator => (&keys.first, &keys.second),
            Role::Responder { .. } => (&keys.second, &keys.first),
        };
        Self {
            role,
            local_index,
            remote_index,
            instance,
            sealing: aes_key(sealing),
            opening: aes_key(opening),
            created: now,
            next_counter: 0,
            sealed_bytes: 0,
            opened_bytes: 0,
            highest_opened: 0,
            replay: ReplayWindow::new(),
        }
    }

    /// The answer to message 1 of `sender`, if that is the message these keys came from.
    pub(super) fn answer_to(&self, sender: u32, noise_1: &[u8; NOISE_1_LEN]) -> Option<&[u8]> {
        match &self.role {
            // Nothing authenticates the sender's index: one that was changed on the way must not
            // spoil the true message.
            Role::Responder { asked, answer }
                if self.remote_index == sender && **asked == *noise_1 =>
            {
                Some(answer)
            }
            Role::Responder { .. } | Role::Initiator => None,
        }
    }

    /// Returns the time at which these keys stop working in both directions.
    pub(super) fn expires(&self) -> Instant {
        self.created + REJECT_AFTER_TIME
    }

    /// Returns whether the use of these keys calls for new ones. The responder waits longer, so
    /// that as a rule only one side starts.
    pub(super) fn wants_rekey(&self, now: Instant) -> bool {
        let (time, bytes) = match self.role {
            Role::Initiator => (REKEY_AFTER_TIME, REKEY_AFTER_BYTES),
            Role::Responder { .. } => (
                REKEY_AFTER_TIME + RESPONDER_GRACE_TIME,
                REKEY_AFTER_BYTES + RESPONDER_GRACE_BYTES,
            ),
        };
        now >= self.created + time
            || self.sealed_bytes.max(self.opened_bytes) >= bytes
            || self.next_counter.max(self.highest_opened) >= REKEY_AFTER_MESSAGES
    }

    /// Checks whether these keys may seal; the error says why not.
    pub(super) fn check_seal(&self, now: Instant) -> Result<(), SealError> {
        if now >= self.created + SEAL_UNTIL {
            return Err(SealError::NoSession);
        }
        if self.next_counter >= REJECT_AFTER_MESSAGES || self.sealed_bytes >= REJECT_AFTER_BYTES {
            return Err(SealError::Exhausted);
        }
        Ok(())
    }

    /// Pretends that everything that these keys may seal has been sealed.
    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        self.sealed_bytes = REJECT_AFTER_BYTES;
    }

    /// Seals in place: header space, packet, tag space.
    pub(super) fn seal(&mut self, now: Instant, message: &mut [u8]) -> Result<(), SealError> {
        self.check_seal(now)?;
        let (header, body) = message
            .split_first_chunk_mut::<TRANSPORT_HEADER_LEN>()
            .ok_or(SealError::Length)?;
        let (packet, tag) = body
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(SealError::Length)?;
        if packet.len() > MAX_PACKET_LEN {
            return Err(SealError::Length);
        }
        let counter = self.next_counter;
        // Counted before the cipher runs: no path leads back to a counter that was used.
        self.next_counter += 1;
        self.sealed_bytes += (packet.len() + TAG_LEN) as u64;
        *header = transport_header(self.remote_index, counter);
        let sealed = self
            .sealing
            .seal_in_place_separate_tag(aes_nonce(counter), Aad::empty(), packet)
            .map_err(|_| SealError::Length)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    /// Opens in place and returns the packet, which lies after the header. An error changes nothing
    /// here, but the bytes of `message` are lost.
    pub(super) fn open<'m>(
        &mut self,
        now: Instant,
        counter: u64,
        message: &'m mut [u8],
    ) -> Result<&'m mut [u8], OpenError> {
        if now >= self.expires()
            || counter >= REJECT_AFTER_MESSAGES
            || self.opened_bytes >= REJECT_AFTER_BYTES
        {
            return Err(OpenError::Expired);
        }
        if !self.replay.is_new(counter) {
            return Err(OpenError::Replayed);
        }
        let (_, body) = message
            .split_first_chunk_mut::<TRANSPORT_HEADER_LEN>()
            .ok_or(OpenError::Malformed)?;
        let (packet, tag) = body
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(OpenError::Malformed)?;
        // Tag and text stay apart: the combined call would move the text onto itself, a pass over
        // memory for nothing.
        let packet = self
            .opening
            .open_in_place_separate_tag(aes_nonce(counter), Aad::empty(), tag, packet)
            .map_err(|_| OpenError::Forged)?;
        self.replay.accept(counter);
        self.highest_opened = self.highest_opened.max(counter);
        self.opened_bytes += (packet.len() + TAG_LEN) as u64;
        Ok(packet)
    }
}

/// Age at which use starts a new handshake.
const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// The responder leaves the initiator this long to renew keys first.
const RESPONDER_GRACE_TIME: Duration = Duration::from_secs(10);
/// Age at which keys are erased, used or not.
const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Age from which nothing is sealed any more, so that the last packet can still be opened when it
/// arrives: 170 s.
const SEAL_UNTIL: Duration = REJECT_AFTER_TIME.saturating_sub(LONGEST_UNDER_WAY);
/// The time for which a message may be under way without being lost to a change of keys: the loss
/// of a relay takes less.
pub(super) const LONGEST_UNDER_WAY: Duration = Duration::from_secs(10);
/// Bytes under one key at which use starts a new handshake.
const REKEY_AFTER_BYTES: u64 = 1 << 37;
/// See [`RESPONDER_GRACE_TIME`]; half of the way to the hard limit.
const RESPONDER_GRACE_BYTES: u64 = 1 << 36;
/// Bytes under one key after which it does nothing any more: within the confidentiality budget of
/// AES-GCM that RFC 8446, section 5.5 derives.
const REJECT_AFTER_BYTES: u64 = 1 << 38;
/// Messages under one key at which use starts a new handshake.
const REKEY_AFTER_MESSAGES: u64 = 1 << 48;
/// Messages under one key after which it does nothing any more; far below the end of the 64-bit
/// counter.
const REJECT_AFTER_MESSAGES: u64 = 1 << 60;

#[cfg(test)]
mod tests;
