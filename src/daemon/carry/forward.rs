//! Forwards: ports and paths of this host that lead to a peer. Decides which programs may use them,
//! and how a connection ends when the peer does not answer.

use std::io;
use std::net::{self as host, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_transport::clock::now;
use overlan_transport::reminder::Reminder;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{CarryError, Door, Forward, Happened, datagrams, tell};
use crate::device::node::Node;
use crate::host::accept::{self, Until};
use crate::host::same_user::{self, Stranger};
use crate::host::shares::{SharePermit, Shares};
use crate::host::splice::{Abort, HostSocket, ResetOnDrop, splice_within};

/// Serves every forward until `stop`, when all their connections end. A device that is ending takes
/// no new connection.
pub(super) async fn run(
    node: &Node,
    forwards: Vec<Forward>,
    sockets: Vec<OwnedFd>,
    events: mpsc::Sender<Happened>,
    stop: &CancellationToken,
) -> Result<(), CarryError> {
    let doors: Vec<ForwardSocket> = forwards
        .iter()
        .zip(sockets)
        .map(|(forward, socket)| ForwardSocket::new(forward.from, socket))
        .collect::<io::Result<_>>()?;
    let until = Until {
        closed: node.closing(),
        ended: stop.clone(),
    };
    let mut tasks = JoinSet::new();
    for (index, (forward, door)) in forwards.into_iter().zip(doors).enumerate() {
        let span = tracing::info_span!("peer", name = forward.peer, port = forward.port);
        let way = Arc::new(ForwardTarget {
            node: node.clone(),
            span,
            forward,
            index,
            events: events.clone(),
            strangers: Reminder::default(),
            shares: Shares::halves(node.connections_of_a_door()),
        });
        tasks.spawn(serve(door, way, until.clone()));
    }
    tell(&events, Happened::Listening).await;
    while let Some(ended) = tasks.join_next().await {
        accept::report(ended);
    }
    Err(CarryError::Stopped)
}

/// A socket of this host where programs come in.
enum ForwardSocket {
    Streams(StreamListener),
    Datagrams(UdpSocket),
}

enum StreamListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A program that came in.
enum LocalProgram {
    Tcp(ResetOnDrop<TcpStream>),
    Unix(UnixStream),
}

/// The destination of a forward's connections.
struct ForwardTarget {
    node: Node,
    forward: Forward,
    index: usize,
    events: mpsc::Sender<Happened>,
    strangers: Reminder,
    /// Names the peer in every line about the forward. It is entered for the line alone, so that
    /// bytes do not pay for it.
    span: Span,
    /// Shares of the connections, where everybody may come in.
    shares: Arc<Shares>,
}

impl ForwardSocket {
    fn new(door: Door, socket: OwnedFd) -> io::Result<Self> {
        Ok(match door {
            Door::Tcp => {
                let listener = host::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Self::Streams(StreamListener::Tcp(TcpListener::from_std(listener)?))
            }
            Door::Unix => {
                let listener = unix::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                Self::Streams(StreamListener::Unix(UnixListener::from_std(listener)?))
            }
            Door::Udp => {
                let socket = host::UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Self::Datagrams(UdpSocket::from_std(socket)?)
            }
        })
    }
}

impl accept::AcceptFrom for StreamListener {
    type Stream = LocalProgram;
    type Client = ();

    async fn next(&self) -> io::Result<(LocalProgram, ())> {
        let program = match self {
            Self::Tcp(listener) => LocalProgram::Tcp(ResetOnDrop::new(listener.next().await?.0)),
            Self::Unix(listener) => LocalProgram::Unix(listener.next().await?.0),
        };
        Ok((program, ()))
    }
}

async fn serve(door: ForwardSocket, way: Arc<ForwardTarget>, until: Until) {
    match door {
        ForwardSocket::Streams(listener) => streams(listener, &way, &until).await,
        ForwardSocket::Datagrams(socket) => {
            let everybody = way.forward.everybody;
            let (door, opens) = (Arc::clone(&way), way);
            let open = move || {
                let opened = opens.datagrams();
                opened.inspect_err(|error| opens.tell_failed(error)).ok()
            };
            let admits = move |from| {
                let door = Arc::clone(&door);
                async move { door.admits_sender(from).await }
            };
            datagrams::forward(socket, everybody, admits, open, &until).await;
        }
    }
}

async fn streams(listener: StreamListener, way: &Arc<ForwardTarget>, until: &Until) {
    let Forward { peer, port, .. } = &way.forward;
    let vacancy = way
        .node
        .open_door(format!("the forward to {peer} port {port}"));
    let room = Arc::new(Semaphore::new(vacancy.max()));
    accept::run(listener, room, &vacancy, until, |program, ()| {
        let way = Arc::clone(way);
        async move { way.carry(program).await }
    })
    .await;
}

impl ForwardTarget {
    fn datagrams(&self) -> Result<(netstack::UdpSocket, SocketAddr), CarryError> {
        let destination = self.node.find(&self.forward.peer)?;
        Ok(self.node.datagrams(&destination, self.forward.port)?)
    }

    async fn carry(&self, program: LocalProgram) {
        match program {
            LocalProgram::Tcp(stream) => match self.admits(stream.get()).await {
                // A forward has no protocol in which it could give the reason.
                Ok(None) => drop(stream),
                Ok(Some(_place)) => self.connect(stream).await,
                Err(error) => self.span.in_scope(|| {
                    tracing::debug!(%error, "a program left at once");
                }),
            },
            // The permissions of its file decide which users may come in.
            LocalProgram::Unix(stream) => self.connect(stream).await,
        }
    }

    /// Decides whether a program may come in, and takes a place for it where sources share them.
    async fn admits(&self, stream: &TcpStream) -> io::Result<Option<Option<SharePermit>>> {
        let (client, own) = (stream.peer_addr()?, stream.local_addr()?);
        if self.forward.everybody {
            let source = same_user::source_of(client, own).await;
            let place = self.shares.take(source);
            if place.is_none() {
                let _peer = self.span.enter();
                tracing::debug!(%client, "a forward refused a program: its source has its share");
            }
            return Ok(place.map(Some));
        }
        let admitted = same_user::admit_connection(client, own).await;
        Ok(admitted
            .inspect_err(|why| self.note(*why))
            .ok()
            .map(|_| None))
    }

    async fn admits_sender(&self, from: SocketAddr) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.forward.everybody
            || same_user::admit_sender(from, own)
                .await
                .inspect_err(|why| self.note(*why))
                .is_ok()
    }

    /// Reports from time to time that a program was refused, in the log and to the command.
    fn note(&self, why: Stranger) {
        let Some(times) = self.strangers.due(now()) else {
            return;
        };
        self.span.in_scope(|| {
            tracing::info!(%why, times, "a forward turned away a program of another user");
        });
        let failed = Happened::Failed {
            forward: self.index,
            reason: format!("a program was turned away: {why}; --all-users lets it in"),
        };
        let _sent = self.events.try_send(failed);
    }

    async fn connect<S: HostSocket + Abort>(&self, mut program: S) {
        let dialed = async {
            let destination = self.node.find(&self.forward.peer)?;
            Ok(self.node.dial_to(destination, self.forward.port).await?)
        };
        match dialed.await {
            Ok(mut overlay) => {
                let patience = self.node.patience();
                let spliced = splice_within(&mut program, &mut overlay, patience).await;
                self.span.in_scope(|| {
                    tracing::debug!(?spliced, "a forwarded connection ended");
                });
            }
            Err(error) => {
                self.tell_failed(&error);
                // It was accepted before that was known. Dropped, it ends with a reset, which is
                // the nearest to "connection refused".
                drop(program);
            }
        }
    }

    fn next_step(&self, error: &CarryError) -> Option<String> {
        let Forward { peer, port, .. } = &self.forward;
        let CarryError::Dial(error) = error else {
            return None;
        };
        self.node.next_step(peer, *port, error)
    }

    fn tell_failed(&self, error: &CarryError) {
        let failed = Happened::Failed {
            forward: self.index,
            reason: match self.next_step(error) {
                Some(next) => format!("{error}. {next}"),
                None => error.to_string(),
            },
        };
        // Many fail at once when a peer goes away, and a few lines are enough.
        let _sent = self.events.try_send(failed);
    }
}
