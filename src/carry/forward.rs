//! Ports and paths of this host that lead to a peer. Decides what a program meets there when the peer does not answer.

use std::io;
use std::net::{self as host, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;
use std::sync::Arc;

use overlan_netstack as netstack;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{CarryError, Door, Forward, Happened, datagrams, tell};
use crate::accept::{self, connections_max};
use crate::node::Node;
use crate::splice::{Abort, HostSocket, splice};

/// Serves every forward until `stop`; then all their connections end.
pub(super) async fn run(
    node: &Node,
    forwards: Vec<Forward>,
    sockets: Vec<OwnedFd>,
    events: mpsc::Sender<Happened>,
    stop: &CancellationToken,
) -> Result<(), CarryError> {
    let doors: Vec<Listening> = forwards
        .iter()
        .zip(sockets)
        .map(|(forward, socket)| Listening::new(forward.from, socket))
        .collect::<io::Result<_>>()?;
    let mut tasks = JoinSet::new();
    for (index, (forward, door)) in forwards.into_iter().zip(doors).enumerate() {
        let way = Arc::new(Way {
            node: node.clone(),
            forward,
            index,
            events: events.clone(),
        });
        tasks.spawn(serve(door, way, stop.clone()));
    }
    tell(&events, Happened::Listening).await;
    while let Some(ended) = tasks.join_next().await {
        accept::report(ended);
    }
    Err(CarryError::Stopped)
}

/// A socket of this host where programs come in.
enum Listening {
    Streams(Listener),
    Datagrams(UdpSocket),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A program that came in.
enum Program {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where they go.
struct Way {
    node: Node,
    forward: Forward,
    index: usize,
    events: mpsc::Sender<Happened>,
}

impl Listening {
    fn new(door: Door, socket: OwnedFd) -> io::Result<Self> {
        Ok(match door {
            Door::Tcp => {
                let listener = host::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Self::Streams(Listener::Tcp(TcpListener::from_std(listener)?))
            }
            Door::Unix => {
                let listener = unix::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                Self::Streams(Listener::Unix(UnixListener::from_std(listener)?))
            }
            Door::Udp => {
                let socket = host::UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Self::Datagrams(UdpSocket::from_std(socket)?)
            }
        })
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Program> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Program::Tcp(stream)
            }
            Self::Unix(listener) => Program::Unix(listener.accept().await?.0),
        })
    }
}

async fn serve(door: Listening, way: Arc<Way>, stop: CancellationToken) {
    match door {
        Listening::Streams(listener) => streams(&listener, &way, &stop).await,
        Listening::Datagrams(socket) => {
            let open = move || {
                way.datagrams()
                    .inspect_err(|error| way.tell_failed(error))
                    .ok()
            };
            stop.run_until_cancelled(datagrams::forward(socket, open))
                .await;
        }
    }
}

async fn streams(listener: &Listener, way: &Arc<Way>, stop: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => accept::report(ended),
            program = listener.accept(), if connections.len() < connections_max() => match program {
                Ok(program) => {
                    let (way, stop) = (Arc::clone(way), stop.clone());
                    connections.spawn(async move {
                        stop.run_until_cancelled(way.carry(program)).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection failed");
                    tokio::time::sleep(accept::PAUSE).await;
                }
            },
        }
    }
    while let Some(ended) = connections.join_next().await {
        accept::report(ended);
    }
}

impl Way {
    fn datagrams(&self) -> Result<(netstack::UdpSocket, SocketAddr), CarryError> {
        let destination = self.node.find(&self.forward.peer)?;
        Ok(self.node.datagrams(&destination, self.forward.port)?)
    }

    async fn carry(&self, program: Program) {
        match program {
            Program::Tcp(stream) => self.connect(stream).await,
            Program::Unix(stream) => self.connect(stream).await,
        }
    }

    async fn connect<S: HostSocket + Abort>(&self, mut program: S) {
        let dialed = async {
            let destination = self.node.find(&self.forward.peer)?;
            Ok(self.node.dial_to(destination, self.forward.port).await?)
        };
        match dialed.await {
            Ok(mut overlay) => {
                let spliced = splice(&mut program, &mut overlay).await;
                tracing::debug!(?spliced, "a forwarded connection ended");
            }
            Err(error) => {
                self.tell_failed(&error);
                // It was taken before anybody could know: a reset is the nearest to "connection refused".
                program.abort();
            }
        }
    }

    fn tell_failed(&self, error: &CarryError) {
        let failed = Happened::Failed {
            forward: self.index,
            reason: error.to_string(),
        };
        // Many fail at once when a peer goes away; a few lines say it as well.
        let _told = self.events.try_send(failed);
    }
}
