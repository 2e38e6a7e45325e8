//! Carries queries to whoever answers them and answers back, over UDP and TCP. Decides nothing but how many wait, and when a
//! TCP connection has been idle for too long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Transport;
use crate::accept::{self, Until};

/// Hands each query to `answer` until `shutdown`, then ends every connection and returns. `None` is silence.
pub async fn serve<A, F>(udp: UdpSocket, tcp: TcpListener, answer: A, shutdown: CancellationToken)
where
    A: Fn(Vec<u8>, Transport) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let until = Until::from(shutdown.clone());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::join!(
        shutdown.run_until_cancelled(serve_udp(&udp, &answer)),
        accept::run(tcp, room, &until, |stream, client| {
            let answer = answer.clone();
            async move {
                if let Err(error) = connection(stream, &answer).await {
                    debug!(%client, %error, "a DNS connection ended early");
                }
            }
        }),
    );
}

/// Answers as soon as it can: a query that others have to be asked for holds up nobody else's.
async fn serve_udp<A, F>(udp: &UdpSocket, answer: &A)
where
    A: Fn(Vec<u8>, Transport) -> F,
    F: Future<Output = Option<Vec<u8>>>,
{
    let mut query = vec![0; QUERY_MAX];
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            received = udp.recv_from(&mut query), if answers.len() < DATAGRAMS_MAX => match received {
                Ok((len, client)) => {
                    let answer = answer(query[..len].to_vec(), Transport::Udp);
                    answers.push(async move { (client, answer.await) });
                }
                Err(error) => {
                    // Some systems report here that an earlier answer found nobody.
                    debug!(%error, "receiving a DNS query failed");
                    sleep(accept::PAUSE).await;
                }
            },
            Some((client, reply)) = answers.next() => {
                if let Some(reply) = reply
                    && let Err(error) = udp.send_to(&reply, client).await
                {
                    debug!(%error, "sending a DNS answer failed");
                }
            }
        }
    }
}

/// Answers one query after the other, in their order; those that wait do so in the socket.
async fn connection<A, F>(mut stream: TcpStream, answer: &A) -> io::Result<()>
where
    A: Fn(Vec<u8>, Transport) -> F,
    F: Future<Output = Option<Vec<u8>>>,
{
    let mut query = vec![0; QUERY_MAX];
    let mut reply = Vec::new();
    loop {
        let Ok(read) = timeout(IDLE, read_query(&mut stream, &mut query)).await else {
            return Ok(());
        };
        let Some(len) = read? else {
            return Ok(());
        };
        let Some(message) = answer(query[..len].to_vec(), Transport::Tcp).await else {
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

/// Datagrams that wait for their answers; more wait in the socket. Twice the questions that others are asked at the same time.
const DATAGRAMS_MAX: usize = 512;

/// TCP connections at once; more wait in the listener's backlog. Clients use TCP only after a truncated answer.
const CONNECTIONS_MAX: usize = 64;

/// How long a TCP connection may be without a whole query, or leave an answer unread (RFC 7766 asks for seconds).
const IDLE: Duration = Duration::from_secs(5);
