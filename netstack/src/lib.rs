//! IP packets to byte streams and back: a userspace TCP/IP stack of independent flows over smoltcp.
//!
//! The crate decides what one end of a virtual network does with IP packets: which flow a packet
//! belongs to, which packet leaves next, when a flow has to be looked at again. It holds no clock,
//! no socket, no task and no key, and it knows nothing of peers or tunnels: a remote is an IP
//! address.
//!
//! # The call contract
//!
//! A *shell* owns the clock and the wire. It feeds [`Stack::handle_packet`], drains
//! [`Stack::poll_packet`] for each remote that [`Shell::packets_ready`] named, and calls
//! [`Stack::handle_timeout`] when [`Stack::poll_timeout`] says so. Programs use [`TcpStream`],
//! [`TcpListener`], [`UdpSocket`] and [`Ping`]; none of them needs a clock. All calls may come from
//! any thread; nothing here blocks for longer than one copy into or out of a flow's ring.
//!
//! # How it is organised
//!
//! Every TCP connection is a flow of its own with a private smoltcp interface, found through one
//! sharded hash map. There is no lock around all flows and no task that serves them: the thread
//! that brings a packet or reads a stream runs that one flow. A flow that is busy takes packets
//! into a bounded inbox, so the reader of the tunnel never waits.
//!
//! The rooms, each of which knows only those before it: `arena` (the memory of rings), `clock`,
//! `error`, `key`, `packet`, `shell` and `stats` (words and numbers), `config`, `device` (the wire
//! of one flow); `flow` (one connection), `path` (all that flows with one remote share), `table`
//! (all flows); `core` (what the handles of a stack share, and what every touch of a flow entails);
//! the handles `datagram`, `ping`, `stream` and `listen`; and `stack`, the owner's view.

mod arena;
mod clock;
mod error;
mod key;
mod packet;
mod shell;
mod stats;

mod config;
mod device;

mod flow;
mod path;
mod table;

mod core;

mod datagram;
mod listen;
mod ping;
mod stream;

mod stack;

pub use arena::{RingArena, RingUsage};
pub use config::{Config, has_share};
pub use core::Pong;
pub use datagram::UdpSocket;
pub use error::{BindError, ConnectError, ListenError, PingError};
pub use listen::{Incoming, TcpListener};
pub use ping::Ping;
pub use shell::{Emitted, FlowInfo, Protocol, Shell};
pub use stack::Stack;
pub use stats::{Drops, Stats};
pub use stream::{Connecting, TcpStream};
