//! The end that serves measurements. Decides which connection may join which session; its caller
//! opens the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use overlan_netstack::{Incoming, TcpListener, TcpStream};
use overlan_transport::clock::now;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::sample::Sampler;
use super::stream::{Bulk, read_message, write_message};
use super::wire::{Counts, Message, Refused, Role, SessionId};
use super::{Counters, Plan, Progress, STREAMS_MAX};
use crate::host::accept;

/// Lets peers measure over `listeners` until `stop`, when all sessions end. `counters` reads this
/// client's counters; events go to `events` as far as it has room.
pub async fn serve(
    listeners: Vec<TcpListener>,
    counters: impl Fn() -> Counters + Send + Sync + 'static,
    events: mpsc::Sender<Progress>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        counters: Box::new(counters),
        events,
        sessions: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen(listener, shared.clone(), stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        accept::report(ended);
    }
}

struct Shared {
    counters: Box<dyn Fn() -> Counters + Send + Sync>,
    events: mpsc::Sender<Progress>,
    sessions: Mutex<BTreeMap<SessionId, Arc<PerfSession>>>,
}

struct PerfSession {
    remote: IpAddr,
    plan: Plan,
    /// Received bytes of each up stream.
    received: Vec<Arc<AtomicU64>>,
    /// The connections that have joined, also those that have ended.
    joined: Mutex<BTreeSet<Role>>,
    started: CancellationToken,
    ended: CancellationToken,
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => accept::report(ended),
            incoming = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                let (shared, stop) = (shared.clone(), stop.clone());
                let peer = tracing::debug_span!("peer", address = %incoming.remote().ip());
                connections.spawn(async move {
                    let served = connection(incoming, &shared);
                    if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                        peer.in_scope(|| {
                            tracing::debug!(%error, "a connection of a measurement ended");
                        });
                    }
                });
            }
        }
    }
    while let Some(ended) = connections.join_next().await {
        accept::report(ended);
    }
}

async fn connection(incoming: Incoming, shared: &Shared) -> io::Result<()> {
    let remote = incoming.remote().ip();
    let stream = incoming.accept();
    match timeout(FIRST_WITHIN, read_message(&stream)).await?? {
        Message::Open { session, plan } => control(&stream, shared, session, remote, plan).await,
        Message::Join { session, role } => match shared.join(session, remote, role) {
            Some(session) => {
                write_message(&stream, &Message::Ready).await?;
                let ended = session.ended.clone();
                let carried = carry(Bulk(stream), &session, role);
                ended.run_until_cancelled(carried).await.unwrap_or(Ok(()))
            }
            None => write_message(&stream, &Message::Refused(Refused::Unknown)).await,
        },
        Message::Start
        | Message::Ask
        | Message::Ready
        | Message::Refused(_)
        | Message::Counts(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Serves the control connection, with which a session begins and ends.
async fn control(
    stream: &TcpStream,
    shared: &Shared,
    id: SessionId,
    remote: IpAddr,
    plan: Plan,
) -> io::Result<()> {
    let Some(session) = shared.open(id, remote, plan) else {
        return write_message(stream, &Message::Refused(Refused::Busy)).await;
    };
    let session = Open {
        shared,
        id,
        session,
    };
    shared.tell(Progress::Began { remote, plan });
    write_message(stream, &Message::Ready).await?;
    let deadline = now() + Duration::from_secs(u64::from(plan.seconds())) + GRACE;
    let mut began: Option<(Sampler, Instant)> = None;
    loop {
        let message = match timeout_at(deadline.into(), read_message(stream)).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        match message {
            Message::Start if began.is_none() => {
                session.session.started.cancel();
                began = Some((Sampler::new(), now()));
            }
            Message::Ask => {}
            Message::Start
            | Message::Open { .. }
            | Message::Join { .. }
            | Message::Ready
            | Message::Refused(_)
            | Message::Counts(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        let Some((sampler, since)) = &began else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let elapsed = now().saturating_duration_since(*since).as_micros();
        let received = &session.session.received;
        let counts = Counts {
            elapsed_us: u64::try_from(elapsed).unwrap_or(u64::MAX),
            received: received.iter().map(|bytes| bytes.load(Relaxed)).collect(),
            sample: sampler.sample(&(shared.counters)()),
        };
        write_message(stream, &Message::Counts(counts)).await?;
    }
}

async fn carry(bulk: Bulk, session: &PerfSession, role: Role) -> io::Result<()> {
    match role {
        Role::Echo => bulk.echo().await,
        Role::Up(index) => match session.received.get(usize::from(index)) {
            Some(received) => bulk.pull(received).await,
            None => Ok(()),
        },
        Role::Down(_) => {
            session.started.cancelled().await;
            Err(bulk.push().await)
        }
    }
}

impl Shared {
    fn open(&self, id: SessionId, remote: IpAddr, plan: Plan) -> Option<Arc<PerfSession>> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS_MAX || sessions.contains_key(&id) {
            return None;
        }
        let session = Arc::new(PerfSession {
            remote,
            plan,
            received: (0..plan.up()).map(|_| Arc::default()).collect(),
            joined: Mutex::default(),
            started: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        sessions.insert(id, session.clone());
        Some(session)
    }

    /// Returns the session, if it waits for this connection.
    fn join(&self, id: SessionId, remote: IpAddr, role: Role) -> Option<Arc<PerfSession>> {
        let session = self.sessions.lock().get(&id).cloned()?;
        let is_due = session.remote == remote
            && match role {
                Role::Up(index) => index < session.plan.up(),
                Role::Down(index) => index < session.plan.down(),
                Role::Echo => true,
            };
        (is_due && session.joined.lock().insert(role)).then_some(session)
    }

    fn tell(&self, event: Progress) {
        // A full queue must not delay a measurement.
        let _sent = self.events.try_send(event);
    }
}

/// A session while its control connection is open.
struct Open<'a> {
    shared: &'a Shared,
    id: SessionId,
    session: Arc<PerfSession>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.sessions.lock().remove(&self.id);
        self.session.ended.cancel();
        let remote = self.session.remote;
        self.shared.tell(Progress::Ended { remote });
    }
}

/// The number of sessions at once. Two would disturb each other's figures; a few more keep a
/// forgotten session from locking other peers out.
const SESSIONS_MAX: usize = 4;

/// The number of connections at once in one network: those of all sessions.
const CONNECTIONS_MAX: usize = SESSIONS_MAX * (2 * STREAMS_MAX as usize + 2);

/// Time for the first message of a connection.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// Time that a session may take beyond its plan: for connecting, the idle round trips, and a relay
/// that dies meanwhile.
const GRACE: Duration = Duration::from_secs(120);
