//! Tickets: the controller's signed statement of which device may attach to which networks, checked
//! offline by relays.
//!
//! The text is a PASETO `v4.public` token: `v4.public.` · base64url(claims ‖ Ed25519 signature) ·
//! `.` · base64url(key id). There is no algorithm field to confuse. A ticket is not a bearer
//! secret: without the device's identity key, which it names, it is worth nothing (see
//! [`crate::hello`]).

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::frame::Vni;
use crate::key::{DeviceId, IdentityKey, IdentitySecret, SIGNATURE_LEN};
use crate::{HostIndex, UnixTime};

/// The claims of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The id of the device.
    #[serde(rename = "dev")]
    pub device: DeviceId,
    /// The key that must sign the HELLO.
    #[serde(rename = "dik")]
    pub identity: IdentityKey,
    /// Networks the device may attach to, with its host index in each; at most [`NETWORKS_MAX`].
    #[serde(rename = "nets")]
    pub networks: Vec<(Vni, HostIndex)>,
    /// Device epoch: a relay whose orders revoke the device at a higher epoch refuses the ticket.
    #[serde(rename = "ep")]
    pub epoch: u64,
    /// The first second at which it is valid.
    #[serde(rename = "nbf")]
    pub not_before: UnixTime,
    /// The first second at which it is no longer valid.
    #[serde(rename = "exp")]
    pub expires: UnixTime,
}

/// Names one of the controller's ticket-signing keys; travels in a ticket's footer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

/// The public ticket-signing keys that a verifier trusts.
pub type TicketKeys = BTreeMap<KeyId, IdentityKey>;

/// The reason why a ticket is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is not a `v4.public` token of this form, or is over a limit.
    #[error("the ticket is malformed")]
    Malformed,
    /// Signed by a key this verifier does not know.
    #[error("the ticket was signed by a key that this relay does not know")]
    UnknownKey,
    /// The signature is not that of the named key.
    #[error("the ticket's signature is wrong")]
    Forged,
    /// Before its time; the clocks may differ.
    #[error("the ticket is not valid yet; compare the clocks of the controller and the relay")]
    NotYet,
    /// Past its time.
    #[error(
        "the ticket has expired; if a new one has too, \
         compare the clocks of the controller and the relay"
    )]
    Expired,
}

impl Ticket {
    /// The ticket's text, signed. The caller keeps [`NETWORKS_MAX`].
    pub fn sign(&self, key_id: &KeyId, key: &IdentitySecret) -> String {
        let claims = serde_json::to_vec(self).expect("a struct of plain fields serialises");
        seal_public(&claims, key_id.0.as_bytes(), b"", key)
    }

    /// Reads and verifies a ticket at `now`. Parsing and verifying
    /// are one step: there is no unverified ticket to mistake for a verified one.
    pub fn verify(text: &str, keys: &TicketKeys, now: UnixTime) -> Result<Self, TicketError> {
        if text.len() > TICKET_MAX {
            return Err(TicketError::Malformed);
        }
        let token = Token::split(text).ok_or(TicketError::Malformed)?;
        let key_id =
            KeyId(String::from_utf8(token.footer.clone()).map_err(|_| TicketError::Malformed)?);
        let key = keys.get(&key_id).ok_or(TicketError::UnknownKey)?;
        if !token.verifies(key, b"") {
            return Err(TicketError::Forged);
        }
        let ticket: Self =
            serde_json::from_slice(&token.message).map_err(|_| TicketError::Malformed)?;
        if ticket.networks.len() > NETWORKS_MAX {
            return Err(TicketError::Malformed);
        }
        if now < ticket.not_before {
            return Err(TicketError::NotYet);
        }
        if now >= ticket.expires {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }
}

/// The parts of a PASETO `v4.public` token.
struct Token {
    message: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
    footer: Vec<u8>,
}

impl Token {
    fn split(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PASETO_HEADER)?;
        let (body, footer) = rest.split_once('.').unwrap_or((rest, ""));
        let body = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
        let (message, signature) = body.split_last_chunk::<SIGNATURE_LEN>()?;
        Some(Self {
            message: message.to_vec(),
            signature: *signature,
            footer: BASE64URL_NOPAD.decode(footer.as_bytes()).ok()?,
        })
    }

    fn verifies(&self, key: &IdentityKey, implicit: &[u8]) -> bool {
        let signed = pre_authentication_encoding(&[
            PASETO_HEADER.as_bytes(),
            &self.message,
            &self.footer,
            implicit,
        ]);
        key.verifies(&signed, &self.signature)
    }
}

fn seal_public(message: &[u8], footer: &[u8], implicit: &[u8], key: &IdentitySecret) -> String {
    let signed =
        pre_authentication_encoding(&[PASETO_HEADER.as_bytes(), message, footer, implicit]);
    let body = [message, &key.sign(&signed)].concat();
    let mut text = format!("{PASETO_HEADER}{}", BASE64URL_NOPAD.encode(&body));
    if !footer.is_empty() {
        text.push('.');
        text.push_str(&BASE64URL_NOPAD.encode(footer));
    }
    text
}

/// PASETO's PAE: no two different lists of pieces give the same bytes.
fn pre_authentication_encoding(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = (pieces.len() as u64).to_le_bytes().to_vec();
    for piece in pieces {
        out.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out
}

const PASETO_HEADER: &str = "v4.public.";

/// Longest ticket text, bytes: it must fit the frame budget of a client that has not yet proved its
/// identity.
pub const TICKET_MAX: usize = 1_024;

/// Most networks in one ticket; with the longest numbers the text stays under [`TICKET_MAX`].
pub const NETWORKS_MAX: usize = 16;

/// The time for which a ticket is valid, seconds. Refreshed at half of it, so that an outage of up
/// to 12 hours is not noticed.
pub const TICKET_LIFE_SECS: u64 = 24 * 3_600;

/// Seconds before its signing from which a ticket is valid: room for clocks that differ.
pub const CLOCK_SKEW_SECS: u64 = 300;

#[cfg(test)]
mod tests;
