//! UDP between a port of the overlay and one socket that was handed over. Decides whose datagrams are let through.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use overlan_netstack as netstack;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use super::{CarryError, Happened, tell};
use crate::dial::DialError;
use crate::node::Node;

/// Both ways between `local` and `remote`, for ever; `first` came from there already. Ends when nobody holds the other end of `local`,
/// or the remote says that nobody is there.
pub(super) async fn copy(
    local: &UnixDatagram,
    overlay: &netstack::UdpSocket,
    remote: SocketAddr,
    first: Option<Vec<u8>>,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let connected = Happened::Connected {
        remote,
        datagram_max: overlay.max_payload(remote),
    };
    tell(events, connected).await;
    if let Some(first) = first
        && deliver(local, &first).is_err()
    {
        return Ok(());
    }
    let mut outbound = vec![0; DATAGRAM_MAX];
    let mut inbound = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            read = local.recv(&mut outbound) => {
                let Ok(len) = read else { return Ok(()) };
                if let Err(error) = overlay.send_to(&outbound[..len], remote) {
                    tracing::debug!(%remote, %error, "a datagram is not sent");
                }
            }
            received = overlay.recv_from(&mut inbound) => match received {
                Ok((len, from)) if from == remote => {
                    if deliver(local, &inbound[..len]).is_err() {
                        return Ok(());
                    }
                }
                Ok((_, from)) => tracing::debug!(%from, "a datagram of somebody else"),
                Err(_) => return Err(CarryError::Dial(DialError::Refused)),
            },
        }
    }
}

/// The same with whichever peer sends the first datagram to `port`.
pub(super) async fn accept(
    node: &Node,
    port: u16,
    local: &UnixDatagram,
    events: &mpsc::Sender<Happened>,
) -> Result<(), CarryError> {
    let sockets = node
        .bind_udp(port)
        .map_err(|_| CarryError::PortTaken(port))?;
    if sockets.is_empty() {
        return Err(CarryError::NoNetwork);
    }
    tell(events, Happened::Listening).await;
    let mut data = vec![0; DATAGRAM_MAX];
    let (overlay, len, remote) = poll_fn(|cx| {
        for socket in &sockets {
            if let Poll::Ready(Ok((len, remote))) = socket.poll_recv_from(cx, &mut data) {
                return Poll::Ready((socket, len, remote));
            }
        }
        Poll::Pending
    })
    .await;
    data.truncate(len);
    copy(local, overlay, remote, Some(data), events).await
}

/// Hands a datagram to the asker. One that is slow loses it; an error means that it is gone.
fn deliver(local: &UnixDatagram, data: &[u8]) -> io::Result<()> {
    match local.try_send(data) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Longest datagram of IP, bytes.
const DATAGRAM_MAX: usize = 65_535;
