//! Decides everything about packets between devices: whose packet goes next, how two devices talk
//! end to end, and which relay a frame takes. It takes `now`, bytes and events, returns bytes,
//! events and deadlines, and holds no socket, task, clock or file: the client drives it, and so
//! does the simulation in `tests/sim`.
//!
//! ```text
//!  netstack flow ──> engine: whose turn, over which link ──> tunnel: seal ──> DATA frame of a link
//!
//!  DATA frame of a link ──> engine ──> tunnel: open, check the source ──> policy ──> netstack flow
//! ```
//!
//! [`engine::Engine`] is the whole data plane of one device; [`tunnel`] is a session with one peer,
//! [`route`] the choice of a relay for a peer, [`backoff`] the time until something is tried again.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod engine;
pub mod route;
pub mod tunnel;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
