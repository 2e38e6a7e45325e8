//! Carries bytes between the overlay and sockets that another program of the same user opened, for
//! `nc`, `forward` and `exec`. Decides when each carry ends; the control socket hands the sockets
//! over.
//!
//! ```text
//! nc       stdin, stdout ⇄ one end of a socket pair │ the other end ⇄ a netstack flow
//! forward                       a listener or a UDP socket of this host ⇄ netstack flows
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;

use overlan_netstack as netstack;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::device::node::Node;
use crate::doors::proxy::ProxyConfig;
use crate::host::splice::{SplicedSide, splice};
use crate::names::DialError;

mod datagrams;

mod forward;

mod own_proxy;

pub use own_proxy::OwnProxy;

pub use crate::doors::serve::service::OverlayTransport;

/// A request to carry: the two ends between which bytes travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carry {
    /// One connection to a peer. The socket is one end of a pair of Unix sockets: of the stream
    /// kind for TCP, of the datagram kind for UDP.
    Connect {
        /// The protocol in the overlay.
        transport: OverlayTransport,
        /// Label, full name or address of the peer.
        peer: String,
        /// Port of the peer.
        port: u16,
    },
    /// One connection from the first peer that comes. The socket is as for [`Carry::Connect`].
    Accept {
        /// The protocol in the overlay.
        transport: OverlayTransport,
        /// Port on this device's overlay addresses.
        port: u16,
    },
    /// All connections that come in on sockets of this host: one socket for each forward, in this
    /// order.
    Forward(Vec<Forward>),
    /// A proxy for the programs of the command. The socket listens for TCP on loopback.
    Proxy(OwnProxy),
}

/// The destination of a socket of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The kind of the socket.
    pub from: Door,
    /// Label, full name or address of the peer.
    pub peer: String,
    /// Port of the peer.
    pub port: u16,
    /// True if programs of every user may come in, and of other hosts that reach the socket.
    /// Otherwise, on Linux, only programs of this user and of root may.
    #[serde(default)]
    pub everybody: bool,
}

/// The kind of a socket of this host where programs come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// It listens for TCP.
    Tcp,
    /// It listens at a path.
    Unix,
    /// It takes datagrams.
    Udp,
}

/// An event of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// It is open for peers, or for programs of this host.
    Listening,
    /// The connection is open: bytes travel from here on.
    Connected {
        /// The peer's end.
        remote: SocketAddr,
        /// Longest datagram, bytes.
        datagram_max: usize,
    },
    /// A connection of a forward was not opened.
    Failed {
        /// The number of the forward, from 0.
        forward: usize,
        /// The reason.
        reason: String,
    },
    /// A program asked the proxy for a destination outside the overlay, and was refused.
    Foreign {
        /// The name or the address.
        host: String,
    },
}

/// The reason why a carry ended early.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The destination was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The overlay port has another listener.
    #[error("overlay port {0} is taken; `overlan serve list` shows the ports that are served")]
    PortTaken(u16),
    /// This device has no network in which it could listen.
    #[error("this device is in no network yet; see `overlan status`")]
    NoNetwork,
    /// The peer ended the connection without closing it.
    #[error("the peer reset the connection")]
    Reset,
    /// This client was asked to stop before both sides had ended.
    #[error("the running `overlan up` is stopping")]
    Stopped,
    /// A socket that was handed over cannot be used.
    #[error("a socket that was handed over cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// Carries until both sides have ended, or until `stop`, and sends events to `events`. A proxy has
/// the settings of `proxy`, except for the users that it admits.
pub async fn run(
    node: &Node,
    carry: Carry,
    proxy: &ProxyConfig,
    sockets: Vec<OwnedFd>,
    events: mpsc::Sender<Happened>,
    stop: CancellationToken,
) -> Result<(), CarryError> {
    // The connections of a proxy get some time after `stop`.
    let stops_itself = matches!(carry, Carry::Proxy(_));
    let carried = async {
        match carry {
            Carry::Connect {
                transport: OverlayTransport::Tcp,
                peer,
                port,
            } => {
                let local = stream(one(sockets)?)?;
                let overlay = node.dial_to(node.find(&peer)?, port).await?;
                copy(local, overlay, &events).await
            }
            Carry::Accept {
                transport: OverlayTransport::Tcp,
                port,
            } => {
                let local = stream(one(sockets)?)?;
                let overlay = accept(node, port, &events).await?;
                copy(local, overlay, &events).await
            }
            Carry::Connect {
                transport: OverlayTransport::Udp,
                peer,
                port,
            } => {
                let local = datagram(one(sockets)?)?;
                let (overlay, remote) = node.datagrams(&node.find(&peer)?, port)?;
                datagrams::copy(&local, &overlay, remote, None, &events).await
            }
            Carry::Accept {
                transport: OverlayTransport::Udp,
                port,
            } => datagrams::accept(node, port, &datagram(one(sockets)?)?, &events).await,
            Carry::Forward(forwards) => {
                for forward in &forwards {
                    node.find(&forward.peer)?;
                }
                forward::run(node, forwards, sockets, events, &stop).await
            }
            Carry::Proxy(own) => {
                own_proxy::run(node, own, proxy, one(sockets)?, events, &stop).await
            }
        }
    };
    if stops_itself {
        return carried.await;
    }
    stop.run_until_cancelled(carried)
        .await
        .unwrap_or(Err(CarryError::Stopped))
}

/// Accepts the first connection from a peer, and closes the port to others.
async fn accept(
    node: &Node,
    port: u16,
    events: &mpsc::Sender<Happened>,
) -> Result<netstack::TcpStream, CarryError> {
    let listeners = node
        .listen_each(port)
        .map_err(|_| CarryError::PortTaken(port))?;
    if listeners.is_empty() {
        return Err(CarryError::NoNetwork);
    }
    tell(events, Happened::Listening).await;
    let incoming = std::future::poll_fn(|cx| {
        let mut polled = listeners.iter().map(|listener| listener.poll_accept(cx));
        polled
            .find(std::task::Poll::is_ready)
            .unwrap_or(std::task::Poll::Pending)
    });
    Ok(incoming.await.accept())
}

async fn copy(
    mut local: UnixStream,
    mut overlay: netstack::TcpStream,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let remote = overlay.peer_addr();
    let peer = tracing::debug_span!("peer", address = %remote);
    let connected = Happened::Connected {
        remote,
        datagram_max: 0,
    };
    tell(events, connected).await;
    let spliced = splice(&mut local, &mut overlay).await;
    peer.in_scope(|| tracing::debug!(?spliced, "a carried connection ended"));
    match spliced.failure {
        Some((SplicedSide::Right, _)) if spliced.aborted => Err(CarryError::Reset),
        Some(_) | None => Ok(()),
    }
}

/// Sends an event to the command. If the command is gone, the carry ends in another way.
async fn tell(events: &mpsc::Sender<Happened>, happened: Happened) {
    let _sent = events.send(happened).await;
}

fn one(sockets: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    let none = || io::Error::from(io::ErrorKind::InvalidInput);
    sockets.into_iter().next().ok_or_else(none)
}

fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = unix::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn datagram(socket: OwnedFd) -> io::Result<UnixDatagram> {
    let socket = unix::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// The number of sockets in one request: as many forwards as a person writes into one command.
pub const SOCKETS_MAX: usize = 32;

/// The number of carries at once. Each has two open files here, and may be below an ssh session.
pub const CARRIES_MAX: usize = 256;
