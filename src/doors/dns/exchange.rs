//! Carries one question to one resolver and its answer back, over UDP or any stream. Decides only
//! when a datagram is sent again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Asks over UDP, from a port that the system chooses for this question alone. Each datagram of the
/// resolver is shown to `judge`, until it makes something of one.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if nobody answers; otherwise the error of the system.
pub(super) async fn udp<T>(
    resolver: SocketAddr,
    query: &[u8],
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    for _ in 0..ATTEMPTS {
        socket.send(query).await?;
        let heard = async {
            for _ in 0..DATAGRAMS_MAX {
                let len = socket.recv(&mut answer).await?;
                if let Some(heard) = judge(&answer[..len]) {
                    return Ok(heard);
                }
            }
            Err(io::Error::other("it answers other questions than this one"))
        };
        if let Ok(heard) = timeout(ATTEMPT_WITHIN, heard).await {
            return heard;
        }
    }
    Err(no_answer())
}

/// Asks over a stream, and returns the answer as it came.
pub(super) async fn stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    let Ok(length) = u16::try_from(query.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // In one write: some servers read both at once or not at all.
    let framed = [&length.to_be_bytes(), query].concat();
    stream.write_all(&framed).await?;
    stream.flush().await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

pub(super) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// Questions over UDP before giving up.
const ATTEMPTS: u32 = 2;

/// Time for an answer. A lost datagram is the usual reason for silence; the program that asked us
/// asks again after about five seconds.
const ATTEMPT_WITHIN: Duration = Duration::from_millis(1_200);

/// Datagrams that are looked at for one question: more are an attack or a broken resolver.
const DATAGRAMS_MAX: usize = 64;
