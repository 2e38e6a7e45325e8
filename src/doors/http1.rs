//! HTTP/1.1 as an intermediary speaks it (RFC 9112; RFC 9110, section 7), between a client and a
//! service. Decides what passes and how; where a request leads and who may ask is said by an
//! [`Intermediary`]: the proxy, or a published service.
//!
//! ```text
//! client ── head ──> message, target, body (pure: is it sound?) ── Intermediary: where to? ──> session
//!                       session: exchange (head and body on, 1xx and the answer back) ─┬─> next request
//!                                                                                      ├─> CONNECT, 101: a tunnel
//!                                                                                      └─> own words, then a slow goodbye
//! ```
//!
//! hyper does none of it, because its server makes and drops 1xx answers by itself and does not
//! notice a client that leaves.

mod body;

mod date;

mod exchange;

mod fields;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

mod message;

mod own;

mod passing;

mod session;

mod target;

mod wire;

pub(crate) use fields::{Fields, folded};
pub(crate) use message::{HttpRequest, Malformed};
pub(crate) use own::{Fault, Own};
pub(crate) use session::{End, HttpPatience, HttpVerdict, Intermediary, NextHop, converse};
pub(crate) use target::{Authority, RequestTarget};

/// Bytes of a head, more than browsers send with all their cookies; a larger one of a request is
/// answered with 431.
pub(crate) const HEAD_MAX: usize = 64 * 1024;

/// Fields of a head, the same as other servers take; more of a request are answered with 431.
pub(crate) const FIELDS_MAX: usize = 100;

/// Bytes that one side keeps of what the other has not taken yet. Not less than a head.
pub(crate) const BUFFER_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests;
