//! Decides which relay a frame goes to, when a relay is dead and when to try one again. Holds no socket, clock or RNG.

pub mod backoff;

pub mod liveness;

pub mod route;
