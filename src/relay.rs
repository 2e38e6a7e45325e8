//! Decides which relay a frame goes to, and when to try one again. Holds no socket, clock or RNG.

pub mod backoff;

pub mod route;
