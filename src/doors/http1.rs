//! HTTP/1.1 as an intermediary speaks it (RFC 9112; RFC 9110, section 7), between a client and a
//! service. Decides what passes and how; an [`Intermediary`], which is the proxy or a served port,
//! says where a request leads and who may ask.
//!
//! ```text
//! client ── head ──> message, target, body: is it sound? (pure)
//!                    Intermediary: where to?
//!                    session: exchange (head and body on, 1xx and the answer back)
//!                    ├─> next request
//!                    ├─> CONNECT, 101: a tunnel
//!                    └─> an answer of our own, then a slow goodbye
//! ```
//!
//! hyper does none of it: its server makes and drops 1xx answers by itself, and takes a client that
//! has closed its side either for gone or for one that stays
//! (<https://github.com/hyperium/hyper/pull/1981>).

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
