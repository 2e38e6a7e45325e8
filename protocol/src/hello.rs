//! A client's proof of identity to a relay, and the relay's answers. Holds the layouts of the three
//! bodies and the bytes under the signature; the relay decides.

use aws_lc_rs::digest;

use crate::Exporter;
use crate::key::{IdentityKey, IdentitySecret, RelayId, SIGNATURE_LEN};
use crate::ticket::TICKET_MAX;

/// Body of the first frame of a client.
///
/// ```text
/// version_min (8) · version_max (8) · flags (16, zero) · attach sequence (64)
///     · ticket length (16) · ticket · signature (64 bytes)
/// ```
/// Bytes after the signature are ignored, so that later versions can add fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Oldest protocol version the client speaks.
    pub version_min: u8,
    /// Newest protocol version the client speaks.
    pub version_max: u8,
    /// Grows with every attach of this device; of two connections the higher number stays.
    pub attach_sequence: u64,
    /// The ticket's text, as the controller gave it.
    pub ticket: &'a str,
    /// Ed25519 signature by the ticket's identity key over [`proof_message`].
    pub signature: [u8; SIGNATURE_LEN],
}

impl<'a> Hello<'a> {
    /// Signs a hello for one TLS connection to one relay.
    pub fn sign(
        secret: &IdentitySecret,
        exporter: &Exporter,
        relay: RelayId,
        ticket: &'a str,
        attach_sequence: u64,
    ) -> Self {
        Self {
            version_min: crate::PROTOCOL_VERSION_MIN,
            version_max: crate::PROTOCOL_VERSION,
            attach_sequence,
            ticket,
            signature: secret.sign(&proof_message(exporter, relay, ticket, attach_sequence)),
        }
    }

    /// Returns whether `key` made this hello for this very connection and relay.
    #[must_use]
    pub fn is_proved_by(&self, key: &IdentityKey, exporter: &Exporter, relay: RelayId) -> bool {
        let message = proof_message(exporter, relay, self.ticket, self.attach_sequence);
        key.verifies(&message, &self.signature)
    }

    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + self.ticket.len() + SIGNATURE_LEN);
        out.extend_from_slice(&[self.version_min, self.version_max, 0, 0]);
        out.extend_from_slice(&self.attach_sequence.to_be_bytes());
        out.extend_from_slice(&(self.ticket.len() as u16).to_be_bytes());
        out.extend_from_slice(self.ticket.as_bytes());
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads a body; `None` if it is malformed or its ticket longer than [`TICKET_MAX`].
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = body.split_first_chunk::<FIXED_LEN>()?;
        let sequence = fixed[4..12].first_chunk::<8>()?;
        let ticket_len = usize::from(u16::from_be_bytes([fixed[12], fixed[13]]));
        if ticket_len > TICKET_MAX {
            return None;
        }
        let (ticket, rest) = rest.split_at_checked(ticket_len)?;
        Some(Self {
            version_min: fixed[0],
            version_max: fixed[1],
            attach_sequence: u64::from_be_bytes(*sequence),
            ticket: std::str::from_utf8(ticket).ok()?,
            signature: *rest.first_chunk()?,
        })
    }

    /// The newest version both sides speak, if there is one.
    pub fn common_version(&self) -> Option<u8> {
        let newest = self.version_max.min(crate::PROTOCOL_VERSION);
        (newest >= self.version_min.max(crate::PROTOCOL_VERSION_MIN)).then_some(newest)
    }
}

/// The bytes that a hello's signature covers: label, exporter of this TLS connection, SHA-256 of
/// the ticket, relay id, attach sequence. Another connection, relay or ticket gives other bytes, so
/// a captured hello is worth nothing.
pub fn proof_message(
    exporter: &Exporter,
    relay: RelayId,
    ticket: &str,
    attach_sequence: u64,
) -> Vec<u8> {
    let mut message = Vec::with_capacity(PROOF_LABEL.len() + 32 + 32 + 16 + 8);
    message.extend_from_slice(PROOF_LABEL);
    message.extend_from_slice(exporter);
    message.extend_from_slice(digest::digest(&digest::SHA256, ticket.as_bytes()).as_ref());
    message.extend_from_slice(&relay.0);
    message.extend_from_slice(&attach_sequence.to_be_bytes());
    message
}

/// Body of the relay's yes.
///
/// ```text
/// version (8) · zero (24) · credit window (32) · keepalive ms (32) · reconnect spread ms (32)
/// ```
/// Bytes after these are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The version both sides speak from here on.
    pub version: u8,
    /// Bytes of DATA frames that may be outstanding per destination, until a CREDIT frame says
    /// otherwise.
    pub credit_window: u32,
    /// The relay ends a connection that was silent for three times this long, milliseconds.
    pub keepalive_ms: u32,
    /// After losing this relay, wait a random time up to this before the first attempt elsewhere,
    /// milliseconds.
    pub reconnect_spread_ms: u32,
}

impl Welcome {
    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.version, 0, 0, 0];
        out.extend_from_slice(&self.credit_window.to_be_bytes());
        out.extend_from_slice(&self.keepalive_ms.to_be_bytes());
        out.extend_from_slice(&self.reconnect_spread_ms.to_be_bytes());
        out
    }

    /// Reads a body; `None` if it is too short.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let fixed = body.first_chunk::<16>()?;
        let field = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        Some(Self {
            version: fixed[0],
            credit_window: field(4),
            keepalive_ms: field(8),
            reconnect_spread_ms: field(12),
        })
    }
}

/// Body of the relay's no: code (8), zero (24), retry after ms (32), text length (8), text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The reason, for the program.
    pub code: RejectCode,
    /// The time before which the client must not come back, milliseconds; 0 = it may at once.
    pub retry_after_ms: u32,
    /// The reason, for a person; at most 255 bytes.
    pub text: String,
}

impl Reject {
    /// A reject without a wish for the time of the next attempt.
    pub fn new(code: RejectCode, text: impl Into<String>) -> Self {
        Self {
            code,
            retry_after_ms: 0,
            text: text.into(),
        }
    }

    /// The body's bytes; a text over 255 bytes is cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut end = self.text.len().min(255);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let mut out = vec![self.code.number(), 0, 0, 0];
        out.extend_from_slice(&self.retry_after_ms.to_be_bytes());
        out.push(end as u8);
        out.extend_from_slice(&self.text.as_bytes()[..end]);
        out
    }

    /// Reads a body; `None` if it is too short. Control characters in the text become spaces: it
    /// may reach a terminal.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (fixed, rest) = body.split_first_chunk::<9>()?;
        let text = rest.get(..usize::from(fixed[8]))?;
        Some(Self {
            code: RejectCode::from_number(fixed[0]),
            retry_after_ms: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            text: String::from_utf8_lossy(text).replace(|c: char| c.is_control(), " "),
        })
    }
}

/// The reason why a relay refuses or ends a connection. One variant per thing the client does
/// differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectCode {
    /// No common protocol version: the client must be updated.
    Version,
    /// The ticket has expired: get a new one from the controller.
    TicketExpired,
    /// The ticket is malformed, of an unknown signer or for another relay group: get a new one.
    TicketInvalid,
    /// The signature does not fit ticket, relay and connection: a proxy may stand between.
    ProofInvalid,
    /// The device was removed: enrol again.
    Revoked,
    /// Too many connections: come back after the time given.
    Overloaded,
    /// The relay is about to stop: use the next one.
    Draining,
    /// A newer connection of the same device replaced this one.
    Superseded,
    /// The peer broke the protocol.
    Protocol,
    /// Nothing was heard for too long.
    Silent,
    /// The controller gave every address of the ticket to other devices: ask it for a new ticket.
    HeldByOthers,
    /// A number from a later version.
    Other(u8),
}

impl RejectCode {
    const KNOWN: [(u8, Self); 11] = [
        (1, Self::Version),
        (2, Self::TicketExpired),
        (3, Self::TicketInvalid),
        (4, Self::ProofInvalid),
        (5, Self::Revoked),
        (6, Self::Overloaded),
        (7, Self::Draining),
        (8, Self::Superseded),
        (9, Self::Protocol),
        (10, Self::Silent),
        (11, Self::HeldByOthers),
    ];

    /// The number on the wire.
    pub fn number(self) -> u8 {
        if let Self::Other(number) = self {
            return number;
        }
        Self::KNOWN
            .iter()
            .find(|(_, code)| *code == self)
            .map_or(0, |(number, _)| *number)
    }

    /// The code of a number.
    pub fn from_number(number: u8) -> Self {
        Self::KNOWN
            .iter()
            .find(|(known, _)| *known == number)
            .map_or(Self::Other(number), |(_, code)| *code)
    }
}

const PROOF_LABEL: &[u8] = b"overlan relay hello 1\0";

/// Versions, flags, attach sequence, ticket length.
const FIXED_LEN: usize = 14;

#[cfg(test)]
mod tests;
