//! Overlan puts a program into a private network, without root and without a TUN device. A program
//! that holds a [`Node`] dials other devices by name, accepts connections from them, and exchanges
//! datagrams with them; all of it is encrypted from end to end.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use overlan::{Node, Secret};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let node = Node::builder()
//!     .server("https://controller.example:8443#sha256:…".parse()?)
//!     .auth_key(Secret::new(std::fs::read_to_string("key.txt")?.trim()))
//!     .hostname("reports")
//!     .up()
//!     .await?;
//!
//! // To another device, by its name and port in the network …
//! let mut stream = node.dial("db.acme:5432").await?;
//! stream.write_all(b"hello").await?;
//!
//! // … and from other devices, each known by its key.
//! let mut listener = node.listen(80)?;
//! let (mut peer, identity) = listener.accept().await?;
//! println!("{} says {}", identity.name, peer.read_u8().await?);
//!
//! node.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | To | Use |
//! |---|---|
//! | bring a device up | [`Node::builder`], [`Builder`] |
//! | open a connection | [`Node::dial`], which gives a [`Stream`] or says by [`DialError`] why not |
//! | accept connections | [`Node::listen`], [`Listener`]; each comes with a [`PeerIdentity`] |
//! | serve a program of this host | [`Node::serve`], [`Serve`] |
//! | send datagrams | [`Node::bind_udp`], [`UdpSocket`] |
//! | know who is there | [`Node::wait_for`], [`Node::identify`] |
//! | end in order | [`Node::close`] |
//!
//! With the feature `http-client` there is a connector for hyper, with `axum` a listener for axum.
//! `docs/library.md` goes through all of it, and `examples/` has programs that run.
//!
//! # Where a byte passes
//!
//! ```text
//!  a program ─> doors (SOCKS, HTTP, DNS) ─┐                       ┌─> doors (a served port) ─> a service
//!  Node::dial ────────────────────────────┤                       ├─> Listener::accept
//!                                         v                       │
//!                 names ─> device ─> plane: engine, tunnel ─> link ~~ relay ~~ link ─> plane ─> device
//! ```
//!
//! `names` decides where a destination leads; `device` owns the tasks of one enrolled device; the
//! crate `overlan-plane` decides everything about packets and holds no socket; `host` has what the
//! operating system has to say. The program `overlan` adds `daemon`, `cli` and `demo`.
#![forbid(unsafe_code)]

pub use overlan_protocol::api::JoinString;
pub use overlan_protocol::key::Secret;
pub use overlan_transport::outgoing::UpstreamProxy;

#[cfg(feature = "http-client")]
pub use crate::device::node::Connector;
pub use crate::device::node::{
    BindUdpError, Builder, CloseError, Closed, ListenError, Listener, Node, PeerAddr, Pong, Stream,
    UdpSocket, UpError, Whois,
};
pub use crate::doors::serve::service::{OverlayPort, Serve, ServeKind, Target};
pub use crate::names::{
    DialError, Missing, NameError, NotADevice, NotOffered, PeerIdentity, Several,
};

/// Limits the memory of a node; [`Builder::memory`] takes one.
pub mod memory {
    pub use crate::host::memory::{Budget, Origin, TooLittle, cgroup_limit};
}

mod daemon;
mod device;
mod doors;
mod host;
mod names;

/// The parsers of this crate that take a stranger's bytes, for `fuzz/` and its replay alone.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::doors::feed as proxy;
    pub use crate::names::lookup::fuzzing::messages as dns;
}

/// The parts of the program `overlan`, for its commands alone. None of it is a promise.
#[doc(hidden)]
pub mod program {
    pub use crate::daemon::{
        Daemon, answers, carry, listeners, notify, perf, reload, serve_list, socket,
    };
    pub use crate::device::{controller_session, enrol, link, node, right, state, status};
    pub use crate::doors::serve::service;
    pub use crate::doors::{dns, proxy};
    pub use crate::host::{memory, splice};
}
