//! Carries queries to a function that answers them, and the answers back, over UDP and TCP. Decides
//! only how many wait, and which TCP connections have been idle for too long: after a while each of
//! them, and at once the one that is idle for longest when there is no room for a new one (RFC
//! 7766, section 6.2.3).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span};

use crate::host::accept::{self, Until, Vacancies};
use crate::names::lookup::DnsTransport;

/// Hands each query to `answer` until `shutdown`, then ends every connection and returns. `None` is
/// silence.
pub async fn serve<A, F>(udp: UdpSocket, tcp: TcpListener, answer: A, shutdown: CancellationToken)
where
    A: Fn(Vec<u8>, DnsTransport) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    tokio::join!(
        shutdown.run_until_cancelled(serve_udp(&udp, &answer)),
        serve_tcp(tcp, &answer, &shutdown),
    );
}

async fn serve_tcp<A, F>(tcp: TcpListener, answer: &A, shutdown: &CancellationToken)
where
    A: Fn(Vec<u8>, DnsTransport) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let vacancy = Vacancies::default().open("DNS".to_owned(), CONNECTIONS_MAX, None);
    let until = Until::from(shutdown.clone());
    let idle = Arc::new(IdleConnections::default());
    accept::run(
        tcp,
        Arc::clone(&room),
        &vacancy,
        &until,
        |stream, client| {
            let (answer, own) = (answer.clone(), idle.enter(shutdown.child_token()));
            // The next one that comes finds a place, if there is one that nobody needs.
            if room.available_permits() == 0 {
                idle.dismiss_longest();
            }
            let served = async move {
                let connection = connection(stream, &answer, &own);
                match own.leave.run_until_cancelled(connection).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => debug!(%error, "a DNS connection ended early"),
                    None => debug!("an idle DNS connection made room"),
                }
            };
            served.instrument(debug_span!("door", %client))
        },
    )
    .await;
}

/// Connections that wait for a query, in the order in which they began to.
#[derive(Debug, Default)]
struct IdleConnections {
    next: AtomicU64,
    /// A place is wanted, and no connection was idle.
    is_wanted: AtomicBool,
    waiting: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// One connection's entry there.
#[derive(Debug)]
struct IdleEntry {
    idle: Arc<IdleConnections>,
    leave: CancellationToken,
    at: AtomicU64,
}

impl IdleConnections {
    fn enter(self: &Arc<Self>, leave: CancellationToken) -> IdleEntry {
        let entry = IdleEntry {
            idle: Arc::clone(self),
            leave,
            at: AtomicU64::new(0),
        };
        entry.waits();
        entry
    }

    /// Lets the connection leave that has waited for longest, or else the first that begins to
    /// wait.
    fn dismiss_longest(&self) {
        match self.waiting().pop_first() {
            Some((_, leave)) => leave.cancel(),
            None => self.is_wanted.store(true, Ordering::Relaxed),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.waiting.lock()
    }
}

impl IdleEntry {
    /// Notes that the connection waits for a query.
    fn waits(&self) {
        let at = self.idle.next.fetch_add(1, Ordering::Relaxed);
        self.idle.waiting().insert(at, self.leave.clone());
        self.at.store(at, Ordering::Relaxed);
        if self.idle.is_wanted.swap(false, Ordering::Relaxed) {
            self.idle.dismiss_longest();
        }
    }

    /// Notes that the connection has a query: it stays until that is answered.
    fn is_busy(&self) {
        self.idle.waiting().remove(&self.at.load(Ordering::Relaxed));
    }
}

impl Drop for IdleEntry {
    fn drop(&mut self) {
        self.is_busy();
    }
}

/// Answers each query as soon as it can: one for which other resolvers are asked does not hold up
/// the next.
async fn serve_udp<A, F>(udp: &UdpSocket, answer: &A)
where
    A: Fn(Vec<u8>, DnsTransport) -> F,
    F: Future<Output = Option<Vec<u8>>>,
{
    let mut query = vec![0; QUERY_MAX];
    let mut answers = FuturesUnordered::new();
    loop {
        let has_room = answers.len() < DATAGRAMS_MAX;
        tokio::select! {
            received = udp.recv_from(&mut query), if has_room => match received {
                Ok((len, client)) => {
                    let answer = answer(query[..len].to_vec(), DnsTransport::Udp);
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
async fn connection<A, F>(mut stream: TcpStream, answer: &A, own: &IdleEntry) -> io::Result<()>
where
    A: Fn(Vec<u8>, DnsTransport) -> F,
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
        own.is_busy();
        let message = answer(query[..len].to_vec(), DnsTransport::Tcp).await;
        // A client that does not read its answer waits, too.
        own.waits();
        let Some(message) = message else {
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

/// Reads one query with its length in front; `None` at the end, and where it is longer than any
/// query.
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

/// Longest query that is read, bytes: a name, a type and generous options. Longer ones are cut on
/// UDP and end a TCP connection.
const QUERY_MAX: usize = 4096;

/// Datagrams that wait for their answers; more wait in the socket. Twice the number of questions to
/// other resolvers at the same time.
const DATAGRAMS_MAX: usize = 512;

/// TCP connections at once; for one more, the one that is idle for longest leaves. Clients use TCP
/// only after a truncated answer.
const CONNECTIONS_MAX: usize = 64;

/// Time that a TCP connection may be without a whole query, or leave an answer unread (RFC 7766
/// asks for seconds).
const IDLE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const QUERY: &[u8] = b"any query";

    async fn ask(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        stream.write_u16(QUERY.len() as u16).await?;
        stream.write_all(QUERY).await?;
        let len = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(len)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn idle_connections_give_way_at_once_and_busy_ones_do_not() {
        let local = (Ipv4Addr::LOCALHOST, 0);
        let udp = UdpSocket::bind(local).await.unwrap();
        let tcp = TcpListener::bind(local).await.unwrap();
        let at = tcp.local_addr().unwrap();
        let (shutdown, release) = (CancellationToken::new(), CancellationToken::new());
        // The first query waits for its answer until it is released.
        let (first, held) = (Arc::new(AtomicBool::new(true)), release.clone());
        let answer = move |query: Vec<u8>, _| {
            let waits = first.swap(false, Ordering::Relaxed).then(|| held.clone());
            async move {
                if let Some(held) = waits {
                    held.cancelled().await;
                }
                Some(query)
            }
        };
        let serving = tokio::spawn(serve(udp, tcp, answer, shutdown.clone()));
        let mut busy = TcpStream::connect(at).await.unwrap();
        let waiting = tokio::spawn(async move { ask(&mut busy).await });
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            idle.push(TcpStream::connect(at).await.unwrap());
            tokio::task::yield_now().await;
        }
        let mut next = TcpStream::connect(at).await.unwrap();
        let answered = timeout(IDLE / 5, ask(&mut next)).await;
        assert_eq!(
            answered.expect("it does not wait for idle ones").unwrap(),
            QUERY
        );
        release.cancel();
        assert_eq!(
            waiting.await.unwrap().unwrap(),
            QUERY,
            "who waits for an answer stays"
        );
        assert_eq!(ask(&mut next).await.unwrap(), QUERY, "the newest stay, too");
        assert!(ask(&mut idle[0]).await.is_err(), "the oldest left");
        shutdown.cancel();
        serving.await.unwrap();
    }
}
