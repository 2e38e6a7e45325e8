//! The Overlan client: a VPN that needs no root and no TUN device.
//!
//! The modules stand in the order in which a byte passes them, from a program that speaks SOCKS to the local service at the
//! other end:
//!
//! ```text
//! curl → proxy (socks, http_proxy) → names → (policy) → netstack flow → engine → tunnel (seal) → link (frame, TLS) → relay
//!      → link → tunnel (open, filter) → engine → netstack flow → expose → 127.0.0.1:8080
//! ```
#![forbid(unsafe_code)]

mod accept;

pub mod proxy;

mod socks;

mod http_proxy;

pub mod dns;

pub mod names;

pub mod dial;

pub mod splice;

pub mod engine;

pub mod tunnel;

pub mod link;

pub mod relay;

pub mod expose;

pub mod carry;

pub mod control;

pub mod enrol;

pub mod node;

pub mod state;

pub mod local;

pub mod status;

pub mod perf;
