//! Feeds a stranger's bytes to the tunnel and to everything after it: what `fuzz/` runs with bytes
//! that it makes up, and a test with those that it kept. Panics where one of them breaks its word.
//!
//! Keys cannot be guessed, so the bytes are a script: they say which message is sent, what is
//! changed in it, and when.

mod messages;
mod script;
mod session;

pub use messages::messages;
pub use session::session;
