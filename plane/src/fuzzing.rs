//! Feeds a stranger's bytes to the tunnel and to everything after it: `fuzz/` runs this with bytes
//! that it makes up, and a test with those that it kept. Panics if one of them breaks its promise.
//!
//! Keys cannot be guessed, so the bytes are a script: they say which message is sent, what is
//! changed in it, and when.

mod messages;
mod script;
mod session;

pub use messages::messages;
pub use session::session;
