//! Serves one UDP port: each peer's address and port has a socket of this host, so that answers go
//! back to the right one. Who may ask at all is decided before, where packets come in.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use overlan_netstack as netstack;
use overlan_transport::clock::now;
use tokio::net::UdpSocket;
use tracing::debug;

use crate::doors::serve::service::Target;
use crate::host::accept::Until;
use crate::host::direct;
use crate::host::sessions::{self, Back, Front, SESSIONS_MAX, SessionLimits};
use crate::host::shares::SOURCES_AT_LEAST;
use crate::host::sockets::connections_max;
use crate::names::Destination;

/// Serves the socket: new senders until the port is closed, sessions until they end with `until`,
/// and then returns. The port is free then.
pub(crate) async fn run(socket: netstack::UdpSocket, target: Target, until: impl Into<Until>) {
    // Each session has a file.
    let all = SESSIONS_MAX.min(connections_max());
    let limits = SessionLimits {
        all,
        of_one_address: (all / SOURCES_AT_LEAST).max(1),
    };
    let open = move |_| {
        let target = target.clone();
        async move {
            let dialled = dial(&target).await;
            dialled
                .inspect_err(|error| debug!(%target, %error, "the service is not there"))
                .ok()
        }
    };
    sessions::run(socket, limits, open, &until.into()).await;
}

/// A socket for one peer that hears from the service only.
async fn dial(target: &Target) -> io::Result<UdpSocket> {
    let service = match target {
        Target::Address(address) => *address,
        Target::Host(host) => {
            let name = Destination::Name(host.host().to_owned());
            let found = direct::addresses(name, host.port()).await;
            let found = found.map_err(io::Error::other)?;
            *found.first().ok_or(io::ErrorKind::NotFound)?
        }
        Target::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let any = match service {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(service).await?;
    // A new socket takes nothing before the runtime has heard that it is writable
    // (<https://github.com/tokio-rs/tokio/pull/8032>), and the first datagram waits.
    socket.writable().await?;
    Ok(socket)
}

/// Peers.
impl Front for netstack::UdpSocket {
    async fn recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        netstack::UdpSocket::recv_from(self, data).await
    }

    fn send_to(&self, data: &[u8], to: SocketAddr) {
        if let Err(error) = netstack::UdpSocket::send_to(self, data, to) {
            debug!(%to, %error, "an answer was not sent");
        }
    }

    fn refuse(&self, to: SocketAddr) {
        netstack::UdpSocket::refuse(self, now(), to);
    }
}

/// The service.
impl Back for UdpSocket {
    async fn recv(&self, data: &mut [u8]) -> io::Result<usize> {
        UdpSocket::recv(self, data).await
    }

    fn send(&self, data: &[u8]) -> io::Result<()> {
        match self.try_send(data) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            // A service that is slow loses datagrams, as everywhere in UDP.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
