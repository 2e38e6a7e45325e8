//! The Overlan client: a VPN that needs no root and no TUN device.
//!
//! The modules stand in the order in which a byte passes them, from a program that speaks SOCKS to the local service at the
//! other end:
//!
//! ```text
//! curl → proxy (socks, http_proxy) → names → (policy) → netstack flow → engine → tunnel (seal) → link (frame, TLS) → relay
//!      → link → tunnel (open, filter) → engine → netstack flow → expose → 127.0.0.1:8080
//! ```
//!
//! A program that uses the library needs [`Node`] and what it gives; docs/library.md shows it, and `examples/` run it:
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

pub use crate::dial::DialError;
#[cfg(feature = "http-client")]
pub use crate::node::Connector;
pub use crate::node::{
    BindUdpError, Builder, CloseError, Closed, ListenError, Listener, Node, PeerAddr, PeerIdentity,
    Stream, UdpSocket, UpError,
};

mod accept;

mod host;

mod reminder;

#[cfg(target_os = "linux")]
mod same_user;
#[cfg(not(target_os = "linux"))]
#[path = "same_user/elsewhere.rs"]
mod same_user;

pub mod proxy;

mod socks;

mod http1;

mod http_proxy;

pub mod dns;

pub mod names;

pub mod memory;

pub mod dial;

pub mod splice;

pub mod engine;

pub mod tunnel;

pub mod link;

pub mod relay;

pub mod expose;

mod certificate;

mod gateway;

pub mod carry;

pub mod control;

pub mod enrol;

pub mod node;

pub mod state;

pub mod local;

pub mod status;

pub mod perf;
