//! One client's connection, from TLS to its end: proves the client, then passes frames between its
//! socket and the switch. Decides nothing about who may come (`admit`) or who gets a frame
//! (`switch`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{self, Address, DATA_HEADER_LEN, Frame, HEADER_LEN, Vni};
use overlan_protocol::hello::{Reject, RejectCode, Welcome};
use overlan_protocol::liveness::{Action, Liveness};
use overlan_protocol::{ALPN_RELAY, SEAL_HEADER_LEN, SEAL_TAG_LEN};
use overlan_transport::clock;
use overlan_transport::pump::{self, Ended};
use overlan_transport::tls::{self, Stepwise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::Instrument as _;

use crate::admit::{self, Admitted};
use crate::client::{Client, Filled, NotTaken};
use crate::egress::{Closed, Release, Run};
use crate::hub::{Hub, Seat};
use crate::intake::{Gathering, LARGE};
use crate::ledger::{Destination, TooManyDestinations};
use crate::metrics::Dropped;
use crate::switch::{AttachId, Attachment, Claim, Misroute, Superseded, Verdict};

/// Serves one accepted TCP connection to its end.
pub(crate) async fn serve(hub: Arc<Hub>, acceptor: TlsAcceptor, tcp: TcpStream, mut seat: Seat) {
    let evicted = seat.evicted();
    let welcomed = welcome_stranger(&hub, &acceptor, tcp, &mut seat);
    let Some((mut stream, admitted)) = evicted.run_until_cancelled(welcomed).await.flatten() else {
        return;
    };
    let ticket = &admitted.ticket;
    let networks: Vec<Vni> = ticket.networks.iter().map(|(vni, _)| *vni).collect();
    let span = tracing::error_span!("client", device = %ticket.device, ?networks);
    let mut conn = match Conn::attach(hub.clone(), admitted, clock::now(), clock::wall().as_secs())
    {
        Ok(conn) => conn,
        Err(reject) => return refuse(&hub, &mut stream, &reject).await,
    };
    let ended = pump::run(stream, &mut conn).instrument(span.clone()).await;
    let _entered = span.entered();
    match &ended {
        Ended::Ours(reject) => {
            hub.metrics.count_rejected(reject.code);
            tracing::debug!(reason = %reject.text, "client ended");
        }
        Ended::Closed | Ended::Broken(_) | Ended::Silent | Ended::Stalled => {
            tracing::debug!(?ended, "client left");
        }
    }
}

/// TLS and HELLO, each within its time. Every failure is counted and quiet: the other side is a
/// stranger.
async fn welcome_stranger(
    hub: &Hub,
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    seat: &mut Seat,
) -> Option<(TlsStream<Stepwise>, Admitted)> {
    let mut stream: TlsStream<Stepwise> = match timeout(
        hub.settings.tls_within,
        acceptor.accept(Stepwise::of_stranger(tcp)),
    )
    .await
    {
        Ok(Ok(stream)) => stream.into(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS");
            hub.metrics.tls_failed.inc();
            return None;
        }
        Err(_) => {
            hub.metrics.deadline_missed.inc();
            return None;
        }
    };
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_RELAY) {
        hub.metrics.tls_failed.inc();
        return None;
    }
    let body = match timeout(hub.settings.hello_within, read_hello(&mut stream)).await {
        Ok(Ok(body)) => body,
        Ok(Err(NoHello::Gone)) => return None,
        Ok(Err(NoHello::Protocol)) => {
            let reject = Reject::new(RejectCode::Protocol, "a HELLO must come first");
            refuse(hub, &mut stream, &reject).await;
            return None;
        }
        Err(_) => {
            hub.metrics.deadline_missed.inc();
            return None;
        }
    };
    let exporter = tls::exporter(&stream);
    let orders = hub.orders();
    let verdict = admit::admit(&body, &exporter, hub.id, &orders, clock::wall().as_secs())
        .and_then(|it| {
            seat.prove()
                .map_err(|refusal| {
                    hub.metrics.count_refused(refusal);
                    overloaded()
                })
                .map(|()| it)
        });
    match verdict {
        Ok(admitted) => Some((stream, admitted)),
        Err(reject) => {
            refuse(hub, &mut stream, &reject).await;
            None
        }
    }
}

/// The reason why there is no HELLO.
enum NoHello {
    /// The other side went away.
    Gone,
    /// It sent something else.
    Protocol,
}

/// Reads the body of the first frame and not a byte more: what follows belongs to the pump.
async fn read_hello(stream: &mut TlsStream<Stepwise>) -> Result<Vec<u8>, NoHello> {
    let mut bytes = vec![0; HEADER_LEN];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|_| NoHello::Gone)?;
    if bytes[0] != frame::kind::HELLO {
        return Err(NoHello::Protocol);
    }
    // With the header alone this checks the claimed length against the limit, before memory is
    // given for it.
    frame::decode(&bytes, frame::UNPROVEN_BODY_MAX).map_err(|_| NoHello::Protocol)?;
    let length = u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]);
    let mut body = vec![0; length as usize];
    stream
        .read_exact(&mut body)
        .await
        .map_err(|_| NoHello::Gone)?;
    Ok(body)
}

/// Tells a stranger no.
async fn refuse(hub: &Hub, stream: &mut TlsStream<Stepwise>, reject: &Reject) {
    hub.metrics.count_rejected(reject.code);
    // A stranger can cause it, so it is bounded; with a wrong clock it is all that shows why a
    // relay has no clients.
    let is_ticket = matches!(
        reject.code,
        RejectCode::TicketExpired | RejectCode::TicketInvalid
    );
    let times = is_ticket
        .then(|| hub.count_refused_ticket(clock::now()))
        .flatten();
    match times {
        Some(times) => tracing::info!(reason = %reject.text, times, "refused a device's ticket"),
        None => tracing::debug!(reason = %reject.text, "refused"),
    }
    let mut out = Vec::new();
    Frame::Reject(&reject.encode()).encode(&mut out);
    let goodbye = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    // The stranger may be gone or stuck; it gets a moment to hear why.
    let _ = timeout(LAST_WORDS, goodbye).await;
}

/// An attached client's side of the pump. Dropping it takes the client out of the switch, whatever
/// ends its task.
pub(crate) struct Conn {
    hub: Arc<Hub>,
    client: Arc<Client>,
    attachment: Attachment<Arc<Client>>,
    liveness: Liveness,
    /// A PING to send, by its token.
    question: Option<u64>,
    questions: u64,
    /// Who sent to this client lately: what the socket took of it may be lost with the connection.
    lately: Lately,
    /// The newest time that it was told.
    touched: Instant,
    /// The time at which its ledger has something to do.
    sweep_at: Option<Instant>,
    /// The time at which the connection has outlived its ticket.
    ticket_ends: Instant,
    /// What the read under way brought for the newest destination.
    gathering: Option<Gathering>,
    /// Used within one fill, kept for its memory.
    filled: Filled,
    /// Small buffers that one fill has emptied, kept for its memory.
    emptied: Vec<Vec<u8>>,
    /// Empty; what the next gathering puts its runs into.
    spare: VecDeque<Run>,
    /// DATA frames and their bytes since they were last added to the shared counters.
    frames: u64,
    bytes: u64,
}

impl Conn {
    pub(crate) fn attach(
        hub: Arc<Hub>,
        admitted: Admitted,
        now: Instant,
        wall: u64,
    ) -> Result<Self, Reject> {
        let Admitted {
            ticket,
            sequence,
            version,
        } = admitted;
        let claim = Claim {
            device: ticket.device,
            sequence,
            epoch: ticket.epoch,
            networks: &ticket.networks,
        };
        let welcome = Welcome {
            version,
            credit_window: hub.settings.window,
            keepalive_ms: millis(hub.settings.keepalive),
            reconnect_spread_ms: reconnect_spread_ms(hub.switch.attached()),
        };
        let (attachment, client, displaced) = hub
            .switch
            .attach(&claim, |id| {
                let vnis = ticket.networks.iter().map(|(vni, _)| vni.get());
                let accounts = vnis.map(|vni| hub.memory.account(vni, ticket.device));
                let queue_max = hub.memory.receiver_max();
                Client::new(id, ticket.device, welcome, accounts.collect(), queue_max)
            })
            .map_err(|Superseded| superseded())?;
        let places = |to: Destination| {
            let mut networks = ticket.networks.iter();
            networks.any(|(vni, host)| vni.get() == to.vni && *host == to.host)
        };
        for older in displaced {
            // Who comes back before its old connection was found dead loses nothing that still
            // waited.
            if older.device == ticket.device {
                let refused = client.inherit(&older, places);
                hub.tell_lost(now, Dropped::ReceiverFull, refused);
            }
            older.end(superseded());
        }
        hub.metrics.attached.inc();
        let left = Duration::from_secs(ticket.expires.saturating_sub(wall));
        let ticket_ends = now + left.min(TICKET_LIFE_MAX) + hub.settings.ticket_grace;
        let conn = Self {
            client,
            attachment,
            liveness: Liveness::new(now, SILENT_KEEPALIVES * hub.settings.keepalive),
            question: None,
            questions: 0,
            lately: Lately::default(),
            touched: now,
            sweep_at: None,
            ticket_ends,
            gathering: None,
            filled: Filled::default(),
            emptied: Vec::new(),
            spare: VecDeque::new(),
            frames: 0,
            bytes: 0,
            hub,
        };
        // Orders may have come between the HELLO's verdict and the attach.
        let orders = conn.hub.orders();
        if orders.revokes(ticket.device, ticket.epoch) {
            conn.client.end(admit::revoked());
        }
        let is_lost =
            |(vni, host): &(Vni, u32)| orders.is_held_by_another(vni.get(), *host, ticket.device);
        if ticket.networks.iter().any(is_lost) {
            conn.client.end(admit::held_by_others());
        }
        Ok(conn)
    }

    /// A receiver that is too slow for what waits for it loses that.
    fn sweep(&mut self, now: Instant) -> Result<(), Reject> {
        let mut lost = Vec::new();
        self.sweep_at = self.client.handle_timeout(now, &mut lost)?;
        self.hub.tell_lost(now, Dropped::ReceiverSlow, lost);
        Ok(())
    }

    fn handle_data(
        &mut self,
        now: Instant,
        address: Address,
        message: &[u8],
    ) -> Result<(), Reject> {
        self.frames += 1;
        self.bytes += (DATA_HEADER_LEN + message.len()) as u64;
        let to = Destination {
            vni: address.vni,
            host: address.host,
        };
        let gathering = match &mut self.gathering {
            Some(gathering) if gathering.to == to => gathering,
            other => {
                let found = match self.attachment.route(address) {
                    Verdict::Deliver { receiver, source } => Some((receiver, source)),
                    Verdict::PeerGone => None,
                    Verdict::Drop(misroute) => {
                        self.hub.metrics.count_dropped(misroute.into(), 1);
                        return Ok(());
                    }
                };
                if let Some(done) = other.take() {
                    self.spare = pass_on(&self.hub, &self.client, &self.attachment, now, done);
                }
                let allowance = self.client.allowance(to).map_err(|TooManyDestinations| {
                    protocol("too many destinations on one connection")
                })?;
                let runs = std::mem::take(&mut self.spare);
                other.insert(Gathering::new(to, found, allowance, runs))
            }
        };
        if gathering
            .add(&self.hub.pool, address.flow, message)
            .is_err()
        {
            self.hub.metrics.count_dropped(Dropped::Overrun, 1);
        }
        if gathering.is_full() {
            self.pass_on(now);
        }
        Ok(())
    }

    /// Hands on what was gathered.
    fn pass_on(&mut self, now: Instant) {
        if let Some(gathering) = self.gathering.take() {
            self.spare = pass_on(&self.hub, &self.client, &self.attachment, now, gathering);
        }
    }

    fn handle_frames(&mut self, now: Instant, bytes: &[u8]) -> Result<usize, Reject> {
        let mut taken = 0;
        while let Some((frame, length)) = frame::decode(&bytes[taken..], frame::BODY_MAX)
            .map_err(|error| protocol(&error.to_string()))?
        {
            taken += length;
            match frame {
                Frame::Data { address, message } => self.handle_data(now, address, message)?,
                Frame::Ping { token } => {
                    // Who hears the PONG has heard of what it sent before.
                    self.pass_on(now);
                    self.client.pong(token);
                }
                Frame::Pong { .. } => self.liveness.handle_pong(),
                Frame::Unknown { .. } => {}
                Frame::Hello(_)
                | Frame::Welcome(_)
                | Frame::Reject(_)
                | Frame::Drain { .. }
                | Frame::Credit { .. }
                | Frame::PeerGone { .. } => {
                    return Err(protocol("a frame of this kind does not come from a client"));
                }
            }
        }
        Ok(taken)
    }
}

impl Exchange for Conn {
    type End = Reject;

    fn handle_bytes(&mut self, now: Instant, bytes: &mut [u8]) -> Result<usize, Reject> {
        self.liveness.handle_heard(now);
        self.handle_frames(now, bytes)
    }

    fn handle_batch_end(&mut self, now: Instant) -> Result<(), Reject> {
        self.pass_on(now);
        let frames = std::mem::take(&mut self.frames);
        let bytes = std::mem::take(&mut self.bytes);
        if bytes >= PACKET_MIN {
            self.liveness.handle_talked(now);
        }
        self.hub.metrics.frames_in.inc_by(frames);
        self.hub.metrics.bytes_in.inc_by(bytes);
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Reject> {
        // Asked here and not only in `fill`, which is not called while the socket takes nothing.
        self.touched = now;
        self.sweep(now)?;
        if now >= self.ticket_ends {
            return Err(Reject::new(
                RejectCode::TicketExpired,
                "the ticket has expired; attach with a new one",
            ));
        }
        match self.liveness.handle_timeout(now) {
            Some(Action::Ping) => {
                self.questions += 1;
                self.question = Some(self.questions);
            }
            Some(Action::Close) => {
                return Err(Reject::new(
                    RejectCode::Silent,
                    "nothing was heard, and the last question was not answered",
                ));
            }
            None => {}
        }
        Ok(())
    }

    fn handle_relieved(&mut self, now: Instant) {
        self.liveness.handle_relieved(now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let ends = self.liveness.poll_timeout().min(self.ticket_ends);
        Some(self.sweep_at.map_or(ends, |at| at.min(ends)))
    }

    fn fill(&mut self, now: Instant, waker: &Waker, out: &mut Batch) -> Result<(), Reject> {
        self.hub.pool.give(out.take_spent());
        if let Some(token) = self.question.take() {
            Frame::Ping { token }.encode(out.packed());
        }
        let room = out.room();
        self.client
            .fill(now, waker, out.packed(), &mut self.filled, room)?;
        if !self.filled.runs.is_empty() {
            let before = out.len();
            let mut frames = 0;
            // Outside the lock, so that senders can queue meanwhile.
            for run in self.filled.runs.drain(..) {
                frames += u64::from(run.frames);
                if run.bytes.len() >= LARGE {
                    out.push(run.bytes);
                } else {
                    out.packed().extend_from_slice(&run.bytes);
                    self.emptied.push(run.bytes);
                }
            }
            self.hub.pool.give(self.emptied.drain(..));
            let bytes = (out.len() - before) as u64;
            self.liveness.handle_sent(now);
            if bytes >= PACKET_MIN {
                self.liveness.handle_talked(now);
            }
            self.hub.metrics.frames_out.inc_by(frames);
            self.hub.metrics.bytes_out.inc_by(bytes);
            self.hub.metrics.note_wait(self.filled.waited);
        }
        for release in self.filled.written.drain(..) {
            let Release { to, bytes, .. } = release;
            release.source.release(now, to, bytes, release.stood);
            self.lately.note(now, release);
        }
        Ok(())
    }

    fn last_words(&mut self, end: &Reject, out: &mut Vec<u8>) {
        Frame::Reject(&end.encode()).encode(out);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let left = self.hub.switch.detach(self.client.device, self.client.id);
        let now = self.touched;
        let Closed { written, discarded } = self.client.close();
        for release in written {
            let Release { to, bytes, .. } = release;
            release.source.release(now, to, bytes, release.stood);
            self.lately.note(now, release);
        }
        // A newer connection of the same device is the peer now: it is not gone.
        if left {
            for release in &discarded {
                release.source.peer_gone(release.to);
            }
            self.lately.tell(now);
        }
        self.hub.tell_lost(now, Dropped::ReceiverGone, discarded);
    }
}

/// Who sent to a client lately. They are told when it goes, since they may wait for answers to what
/// went with its connection, and would send into it again a retransmission later, or never.
#[derive(Default)]
struct Lately {
    sources: BTreeMap<(AttachId, u32), (Arc<Client>, Destination, Instant)>,
    /// So many sources are held before those that were silent since are looked for.
    most: usize,
}

impl Lately {
    fn note(&mut self, now: Instant, release: Release<Arc<Client>>) {
        let Release { id, source, to, .. } = release;
        if self.sources.len() > self.most.max(LATELY_MIN) {
            self.sources.retain(|_, (_, _, at)| now < *at + LATELY);
            self.most = 2 * self.sources.len();
        }
        self.sources.insert((id, to.vni), (source, to, now));
    }

    fn tell(&self, now: Instant) {
        for (source, to, at) in self.sources.values() {
            if now < *at + LATELY {
                source.peer_gone(*to);
            }
        }
    }
}

/// Gives what `from` sent to its receiver, and what is not taken back to `from` as free. Returns
/// the empty queue of it.
fn pass_on(
    hub: &Hub,
    from: &Arc<Client>,
    attachment: &Attachment<Arc<Client>>,
    now: Instant,
    mut gathering: Gathering,
) -> VecDeque<Run> {
    gathering.trim_last(&hub.pool);
    let Gathering {
        to,
        receiver,
        frames,
        bytes,
        mut runs,
        ..
    } = gathering;
    if bytes == 0 {
        return runs;
    }
    from.admit(to, bytes);
    let mut shed = Vec::new();
    let mut deliver = |receiver: Option<Arc<Client>>, runs: &mut _| match receiver {
        Some(receiver) => receiver.deliver(now, from, to, runs, &mut shed),
        None => Err(NotTaken::Closed),
    };
    let cost = runs.iter().map(Run::cost).sum();
    let mut taken = if hub.charge(now, from, to, cost) {
        deliver(receiver, &mut runs)
    } else {
        Err(NotTaken::RelayFull)
    };
    if taken == Err(NotTaken::Closed) && !runs.is_empty() {
        // A newer connection may have taken the receiver's place in this very moment.
        let address = Address {
            vni: to.vni,
            flow: 0,
            host: to.host,
        };
        taken = match attachment.route(address) {
            Verdict::Deliver { receiver, .. } => deliver(Some(receiver), &mut runs),
            Verdict::PeerGone | Verdict::Drop(_) => Err(NotTaken::Closed),
        };
    }
    hub.tell_lost(now, Dropped::ReceiverFull, shed);
    let Err(reason) = taken else {
        return runs;
    };
    // For nobody nothing was kept, and all of it is free.
    let (frames, free) = if runs.is_empty() {
        (frames, bytes)
    } else {
        if taken != Err(NotTaken::RelayFull) {
            from.discharge(to, runs.iter().map(Run::cost).sum());
        }
        let frames = runs.iter().map(|run| u64::from(run.frames)).sum();
        (frames, runs.iter().map(|run| run.bytes.len()).sum())
    };
    match reason {
        NotTaken::Full => hub.metrics.count_dropped(Dropped::ReceiverFull, frames),
        NotTaken::RelayFull => hub.metrics.count_dropped(Dropped::RelayFull, frames),
        NotTaken::Closed => {
            hub.metrics.peer_gone.inc_by(frames);
            from.peer_gone(to);
        }
    }
    hub.pool.give(runs.drain(..).map(|run| run.bytes));
    from.release(now, to, free, None);
    runs
}

impl From<Misroute> for Dropped {
    fn from(misroute: Misroute) -> Self {
        match misroute {
            Misroute::ForeignNetwork => Dropped::ForeignNetwork,
            Misroute::NoSuchHost => Dropped::NoSuchHost,
            Misroute::NotAttached => Dropped::NotAttached,
        }
    }
}

fn protocol(text: &str) -> Reject {
    Reject::new(RejectCode::Protocol, text)
}

fn superseded() -> Reject {
    Reject::new(
        RejectCode::Superseded,
        "a newer connection took this one's place",
    )
}

fn overloaded() -> Reject {
    Reject {
        code: RejectCode::Overloaded,
        retry_after_ms: OVERLOADED_RETRY_MS,
        text: "the relay has as many clients as it takes".to_owned(),
    }
}

/// How far clients should spread their next attempts should this relay die now: so that the next
/// one sees at most
/// [`RECONNECTS_PER_SEC`].
fn reconnect_spread_ms(clients: usize) -> u32 {
    let spread = clients as u64 * 1_000 / RECONNECTS_PER_SEC;
    (spread as u32).clamp(RECONNECT_SPREAD_MIN_MS, RECONNECT_SPREAD_MAX_MS)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Bytes of the smallest DATA frame that carries an IP packet; smaller ones are notes between two
/// clients.
const PACKET_MIN: u64 = (DATA_HEADER_LEN + SEAL_HEADER_LEN + 20 + SEAL_TAG_LEN) as u64;

/// Whoever sent within this time may be in a conversation, as in [`Liveness`].
const LATELY: Duration = Duration::from_secs(30);

/// Sources among which those that were silent since are not looked for: a page of memory.
const LATELY_MIN: usize = 64;

/// A connection that carries nothing and is silent for so many keepalives is asked whether it is
/// half open.
const SILENT_KEEPALIVES: u32 = 3;

/// Time for a refused stranger to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The time at which a client may try again after it found the relay full.
const OVERLOADED_RETRY_MS: u32 = 5_000;

/// Longest that any ticket lets a connection live; a far later expiry would be a signer's mistake
/// and overflows clocks.
const TICKET_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// TLS handshakes with proofs that the next relay can take: a fifth of one core.
const RECONNECTS_PER_SEC: u64 = 2_000;

const RECONNECT_SPREAD_MIN_MS: u32 = 50;

const RECONNECT_SPREAD_MAX_MS: u32 = 10_000;

#[cfg(test)]
mod tests;
