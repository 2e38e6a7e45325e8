//! Carries queries to [`answer`] and answers back, over UDP and TCP. Decides nothing but when a TCP connection has been idle
//! for too long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::netmap::Netmap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Transport, answer};
use crate::accept::{self, Until};

/// Answers until `shutdown`, then ends every connection and returns.
pub async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    netmap: watch::Receiver<Arc<Netmap>>,
    shutdown: CancellationToken,
) {
    let until = Until::from(shutdown.clone());
    tokio::join!(
        shutdown.run_until_cancelled(serve_udp(&udp, &netmap)),
        accept::run(tcp, CONNECTIONS_MAX, &until, |stream, client| {
            let netmap = netmap.clone();
            async move {
                if let Err(error) = connection(stream, &netmap).await {
                    debug!(%client, %error, "a DNS connection ended early");
                }
            }
        }),
    );
}

async fn serve_udp(udp: &UdpSocket, netmap: &watch::Receiver<Arc<Netmap>>) {
    let mut query = vec![0; QUERY_MAX];
    loop {
        let (len, client) = match udp.recv_from(&mut query).await {
            Ok(received) => received,
            Err(error) => {
                // Some systems report here that an earlier answer found nobody.
                debug!(%error, "receiving a DNS query failed");
                sleep(accept::PAUSE).await;
                continue;
            }
        };
        let map = netmap.borrow().clone();
        let Some(reply) = answer(&query[..len], &map, Transport::Udp) else {
            continue;
        };
        if let Err(error) = udp.send_to(&reply, client).await {
            debug!(%error, "sending a DNS answer failed");
        }
    }
}

/// Answers one query after the other, in their order; those that wait do so in the socket.
async fn connection(
    mut stream: TcpStream,
    netmap: &watch::Receiver<Arc<Netmap>>,
) -> io::Result<()> {
    let mut query = vec![0; QUERY_MAX];
    let mut reply = Vec::new();
    loop {
        let Ok(read) = timeout(IDLE, read_query(&mut stream, &mut query)).await else {
            return Ok(());
        };
        let Some(len) = read? else {
            return Ok(());
        };
        let map = netmap.borrow().clone();
        let Some(message) = answer(&query[..len], &map, Transport::Tcp) else {
            continue;
        };
        let Ok(prefix) = u16::try_from(message.len()) else {
            return Ok(());
        };
        reply.clear();
        reply.extend_from_slice(&prefix.to_be_bytes());
        reply.extend_from_slice(&message);
        match timeout(IDLE, stream.write_all(&reply)).await {
            Ok(written) => written?,
            // A client that reads nothing waits for nothing.
            Err(_) => return Ok(()),
        }
    }
}

/// One query with its length in front; `None` at the end, and where the length is no query's.
async fn read_query(stream: &mut TcpStream, query: &mut [u8]) -> io::Result<Option<usize>> {
    let len = match stream.read_u16().await {
        Ok(len) => usize::from(len),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(query) = query.get_mut(..len) else {
        return Ok(None);
    };
    stream.read_exact(query).await?;
    Ok(Some(len))
}

/// Longest query that is read, bytes: a name, a type and generous options. Longer ones are cut on UDP and end a TCP connection.
const QUERY_MAX: usize = 4096;

/// TCP connections at once; more wait in the listener's backlog. Clients use TCP only after a truncated answer.
const CONNECTIONS_MAX: usize = 64;

/// How long a TCP connection may be without a whole query, or leave an answer unread (RFC 7766 asks for seconds).
const IDLE: Duration = Duration::from_secs(5);
