//! Overlan puts a program into a private network, without root and without a TUN device. The
//! program becomes a device of that network: it dials other devices by name, accepts their
//! connections, and knows each of them by its key. All traffic is encrypted from end to end.
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
//! // Dial another device by its name and port …
//! let mut stream = node.dial("db.acme:5432").await?;
//! stream.write_all(b"hello").await?;
//!
//! // … and accept connections, each from a device that has proved its key.
//! let mut listener = node.listen(80)?;
//! let (mut peer, identity) = listener.accept().await?;
//! println!("{} says {}", identity.name, peer.read_u8().await?);
//!
//! node.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The join string and the auth key come from the admin of a controller; `overlan demo` starts one
//! to try it with.
//!
//! # What to use
//!
//! | Task | Use |
//! |---|---|
//! | bring a device up | [`Node::builder`], [`Builder::up`] |
//! | open a connection | [`Node::dial`]: a [`Stream`], or a [`DialError`] with the cause |
//! | accept connections | [`Node::listen`]: a [`Listener`], with a [`PeerIdentity`] for each |
//! | serve a program of this host | [`Node::serve`], [`Serve`] |
//! | exchange datagrams | [`Node::bind_udp`]: a [`UdpSocket`] |
//! | wait for a peer, or name it | [`Node::wait_for`], [`Node::identify`] |
//! | let other libraries dial | [`Node::listen_proxy`]: SOCKS5 and HTTP on loopback |
//! | end in order | [`Node::close`] |
//!
//! The feature `http-client` adds a connector for hyper, and `axum` lets axum serve a [`Listener`].
//! `docs/library.md` explains all of this, and `examples/` has programs to run.
//!
//! # Good to know
//!
//! - A [`Stream`] is `AsyncRead` and `AsyncWrite`, with half-close as in TCP. Dropping it without
//!   `shutdown` resets it, so that cut data never looks whole.
//! - The network's policy decides which peers may open which ports of this device.
//! - Nothing of this host becomes reachable that the program does not listen on or serve, and no
//!   route, interface or DNS setting of the host changes.
//! - Events go to `tracing`; a node in memory, as in the example, is a new device at each start.
//!
//! # The path of a byte
//!
//! ```text
//!  a program ─> doors (SOCKS, HTTP, DNS) ─┐              ┌─> doors (a served port) ─> a service
//!  Node::dial ────────────────────────────┤              ├─> Listener::accept
//!                                         v              │
//!                       names ─> device ─> plane      plane ─> device
//!                                            │           ^
//!                                            └─> relay ──┘
//! ```
//!
//! The module `names` decides what a destination means, `device` owns the tasks of one enrolled
//! device, and `host` deals with the operating system. The crate `overlan-plane` decides everything
//! about packets, and has no socket. The program `overlan` adds `daemon`, `cli` and `demo`.
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
    DialError, Missing, NameError, NoRouteToPort, NotADevice, PeerIdentity, Several,
};

/// Memory limits for [`Builder::memory`].
pub mod memory {
    pub use crate::host::memory::{Budget, Origin, TooLittle, cgroup_limit};
}

mod daemon;
mod device;
mod doors;
mod host;
mod names;

/// The parsers of this crate that take a stranger's bytes, for `fuzz/` and its replay only.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::doors::feed as proxy;
    pub use crate::names::lookup::fuzzing::messages as dns;
}

/// The parts of the program `overlan`, for its commands only. They may change at any time.
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
