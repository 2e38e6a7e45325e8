//! The Overlan client: a VPN that needs no root and no TUN device.
//!
//! The modules stand in the order in which a byte passes them, from a program that speaks SOCKS to
//! the local service at the other end:
//!
//! ```text
//! curl → proxy (socks, http_proxy) → names → netstack flow → engine → tunnel (seal) → link → relay
//!      → link → tunnel (open, filter) → engine → netstack flow → serve → 127.0.0.1:8080
//! ```
//!
//! A program that uses the library needs [`Node`] and what it gives; docs/library.md shows it, and
//! `examples/` run it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use overlan::{Node, Secret};
//!
//! let node = Node::builder()
//!     .server("https://controller.example:8443#sha256:…".parse()?)
//!     .auth_key(Secret::new(std::fs::read_to_string("key.txt")?.trim()))
//!     .hostname("reports")
//!     .up()
//!     .await?;
//! let mut stream = node.dial("db.acme:5432").await?;
//! # drop(stream);
//! node.close().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub use overlan_protocol::api::JoinString;
pub use overlan_protocol::key::Secret;
pub use overlan_transport::outgoing::UpstreamProxy;

#[cfg(feature = "http-client")]
pub use crate::device::node::Connector;
pub use crate::device::node::{
    BindUdpError, Builder, CloseError, Closed, ListenError, Listener, Node, PeerAddr, Stream,
    UdpSocket, UpError,
};
pub use crate::doors::serve::service::{OverlayPort, Serve, ServeKind, Target};
pub use crate::names::{
    DialError, Missing, NameError, NotADevice, NotOffered, PeerIdentity, Several,
};

/// Limits the memory of a node; [`Builder::memory`] takes one.
pub mod memory {
    pub use crate::host::memory::{Budget, Origin, TooLittle, cgroup_limit};
}

mod host;

mod names;

mod doors;

mod device;

mod daemon;

/// The parts of the program `overlan`, for its commands alone. None of it is a promise.
#[doc(hidden)]
pub mod program {
    pub use crate::daemon::{carry, perf, socket};
    pub use crate::device::{controller_session, enrol, link, node, state, status};
    pub use crate::doors::serve::service;
    pub use crate::doors::{dns, proxy};
    pub use crate::host::{memory, splice};
    pub use crate::names::in_overlay;
}
