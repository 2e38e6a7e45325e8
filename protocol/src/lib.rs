//! The words all Overlan programs share: frames, tickets, the netmap and the API types.
//!
//! Pure data: no I/O, no clock, no logging, no runtime. Every decoder here reads strangers' bytes,
//! so every decoder is bounded by a named limit and returns an error instead of panicking.
//! `docs/protocol.md` describes the same formats for an independent implementer, and golden bytes
//! in this crate's tests hold both to one truth.

#![forbid(unsafe_code)]

pub mod key;

pub mod frame;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub mod hello;

pub mod ticket;

pub mod proof;

pub mod credit;

pub mod exchange;

pub mod liveness;

pub mod address;

pub mod name;

pub mod policy;

pub mod source_range;

pub mod tag;

pub mod dns;

pub mod gateway;

pub mod netmap;

pub mod api;

pub mod host_port;

pub mod time;

#[cfg(feature = "schema")]
mod schema;

pub use address::HostIndex;
pub use host_port::HostPort;
pub use time::{UnixTime, Utc};

/// The newest version of the relay protocol that this crate speaks. Version 0 does not exist.
pub const PROTOCOL_VERSION: u8 = 1;

/// The oldest version of the relay protocol that this crate still speaks.
pub const PROTOCOL_VERSION_MIN: u8 = 1;

/// ALPN of the tunnel between client and relay.
pub const ALPN_RELAY: &[u8] = b"overlan-relay/1";

/// ALPN of the controller's API.
pub const ALPN_CONTROLLER: &[u8] = b"http/1.1";

/// Label of the TLS exporter (RFC 8446, section 7.5) that ties a signature to one TLS connection.
/// No context value.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-overlan-channel";

/// Bytes taken from the TLS exporter.
pub const EXPORTER_LEN: usize = 32;

/// The bytes that one TLS connection's exporter gave; no two connections have the same.
pub type Exporter = [u8; EXPORTER_LEN];

/// Largest TLS plaintext record (RFC 8446). A frame that fits one record is never split over two by
/// a sender.
pub const TLS_RECORD_MAX: usize = 16_384;

/// Bytes in front of a packet inside a sealed message: type, reserved, session index, counter.
pub const SEAL_HEADER_LEN: usize = 16;

/// Bytes after a packet inside a sealed message: the AEAD's tag.
pub const SEAL_TAG_LEN: usize = 16;

/// MTU of the overlay, bytes of one IP packet: what is left of one TLS record after frame and seal.
pub const OVERLAY_MTU: usize = 16_320;

const _: () = assert!(
    OVERLAY_MTU + SEAL_HEADER_LEN + SEAL_TAG_LEN + frame::DATA_HEADER_LEN <= TLS_RECORD_MAX,
    "a packet of one MTU, sealed and framed, fits one TLS record"
);
