//! Decides how two devices talk end to end through relays that can read nothing: handshake, keys,
//! replay, and which opened packets may pass. It holds no socket, no clock, no relay and no policy.
//!
//! A [`PeerSession`] belongs to a pair of devices in one network, not to a connection, so it lives
//! through every change of relay. Inside it, keys move through these places, as in WireGuard:
//!
//! ```text
//!   initiator:  handle_want_send / rekey ── message 1 ──> (attempt)
//!                   (attempt) ── message 2 opens ──> current, confirm sent
//!   responder:  message 1 opens ── message 2 ──> next
//!                   next ── first transport message under it opens ──> current
//!
//!               next ──> current ──> previous ──> dropped
//!             (open)  (seal, open)    (open)      at the latest 180 s after the handshake
//! ```
//!
//! - The responder seals under its old keys until the initiator has proved, with a transport
//!   message, that it holds the new ones. A replayed message 1 therefore costs one answer and
//!   changes no session in use.
//! - When both sides start at once, the lower device id goes on and the other side answers, so both
//!   end with one session.
//! - Nothing here runs by itself while a peer is idle: keys age out once, and the next packet
//!   starts a new handshake.
//!
//! Packets that [`PeerSession::open`] returns go through [`Packet::parse`] and [`check_source`]
//! before anything trusts them.

mod envelope;
mod filter;
mod keys;
mod noise;
mod packet;
mod replay;
mod session;

pub use envelope::{INSTANCE_LEN, MAX_PACKET_LEN, TAG_LEN, TRANSPORT_HEADER_LEN};
pub use filter::{Drop, check_source};
pub use noise::{SUITE, StaticKey};
pub use packet::{IcmpKind, Packet, Protocol, Reject, TcpFlags, Transport, Version};
pub use session::{Event, OpenError, Opened, PeerConfig, PeerSession, SealError, is_init};
