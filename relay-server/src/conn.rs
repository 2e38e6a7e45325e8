//! One attached client's connection: passes frames between its socket's bytes and the switch. Holds
//! no socket and no task: `stranger` drives it. Decides nothing about who may come (`admit`) or
//! which receiver gets a frame (`switch`); `delivery` hands frames on, and `lately` remembers who
//! has to hear of the end.

mod delivery;
mod lately;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{self, Address, DATA_HEADER_LEN, Frame};
use overlan_protocol::hello::{Reject, RejectCode, Welcome};
use overlan_protocol::liveness::{Action, Liveness};
use overlan_protocol::{SEAL_HEADER_LEN, SEAL_TAG_LEN, UnixTime};

use crate::admit::{self, Admitted};
use crate::client::{Client, Filled};
use crate::conn::delivery::hand_on;
use crate::conn::lately::Lately;
use crate::egress::{Closed, Release, Run};
use crate::hub::Hub;
use crate::intake::{Gathering, LARGE};
use crate::ledger::TooManyDestinations;
use crate::metrics::Dropped;
use crate::switch::{Attachment, Claim, Place, Superseded, Verdict};

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
    /// The devices that sent to this client lately.
    lately: Lately,
    /// The newest time that it was given.
    touched: Instant,
    /// The time at which its ledger has something to do.
    sweep_at: Option<Instant>,
    /// The time at which the connection has outlived its ticket.
    ticket_ends: Instant,
    /// Frames of the read under way for the newest destination.
    gathering: Option<Gathering>,
    /// Used within one fill, kept for its memory.
    filled: Filled,
    /// Small buffers that one fill has emptied, kept for its memory.
    emptied: Vec<Vec<u8>>,
    /// An empty queue for the runs of the next gathering.
    spare: VecDeque<Run>,
    /// DATA frames and their bytes since they were last added to the shared counters.
    frames: u64,
    bytes: u64,
}

impl Conn {
    /// Attaches a client at the time `wall`, by which its ticket was judged.
    pub(crate) fn attach(
        hub: Arc<Hub>,
        admitted: Admitted,
        now: Instant,
        wall: UnixTime,
    ) -> Result<Self, Reject> {
        let Admitted {
            ticket,
            sequence,
            version,
        } = admitted;
        let networks = ticket.networks.iter();
        let places: Vec<Place> = networks
            .map(|(vni, host)| Place::new(*vni, *host))
            .collect();
        let claim = Claim {
            device: ticket.device,
            sequence,
            epoch: ticket.epoch,
            places: &places,
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
        take_places(&hub, now, &client, &places, displaced);
        hub.metrics.attached.inc();
        let left = ticket.expires.since(wall);
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
        conn.obey_orders(ticket.epoch, &places);
        Ok(conn)
    }

    /// Ends the connection if orders forbid it that came between the verdict on its HELLO and its
    /// attach.
    fn obey_orders(&self, epoch: u64, places: &[Place]) {
        let (orders, device) = (self.hub.orders(), self.client.device);
        if orders.revokes(device, epoch) {
            self.client.end(admit::revoked());
        }
        let mut places = places.iter();
        if places.any(|place| orders.is_held_by_another(*place, device)) {
            self.client.end(admit::held_by_others());
        }
    }

    /// Drops what waits for this client, if the client is too slow for it.
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
        let gathering = match &mut self.gathering {
            Some(gathering) if gathering.to.is_of(address) => gathering,
            other => {
                let (to, found) = match self.attachment.route(address) {
                    Verdict::Deliver {
                        to,
                        receiver,
                        source,
                    } => (to, Some((receiver, source))),
                    Verdict::PeerGone(to) => (to, None),
                    Verdict::Drop(misroute) => {
                        self.hub.metrics.count_dropped(misroute.into(), 1);
                        return Ok(());
                    }
                };
                if let Some(done) = other.take() {
                    self.spare = hand_on(&self.hub, &self.client, &self.attachment, now, done);
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

    /// Hands on the frames that were gathered.
    fn pass_on(&mut self, now: Instant) {
        if let Some(gathering) = self.gathering.take() {
            self.spare = hand_on(&self.hub, &self.client, &self.attachment, now, gathering);
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
                    // A client that hears the PONG has heard of everything that it sent before.
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
        // If a newer connection of the device has its place, the device is not gone.
        if left {
            for release in &discarded {
                release.source.peer_gone(release.to);
            }
            self.lately.tell(now);
        }
        self.hub.tell_lost(now, Dropped::ReceiverGone, discarded);
    }
}

/// Ends the connections whose places `client` has taken. Frames that waited for an older connection
/// of the same device go to the newer one: a device that comes back before its old connection was
/// found dead loses none of them.
fn take_places(
    hub: &Hub,
    now: Instant,
    client: &Client,
    places: &[Place],
    displaced: Vec<Arc<Client>>,
) {
    for older in displaced {
        if older.device == client.device {
            let refused = client.inherit(&older, |to| places.contains(&to));
            hub.tell_lost(now, Dropped::ReceiverFull, refused);
        }
        older.end(superseded());
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

/// Returns the time over which `clients` should spread their next attempts if this relay dies, so
/// that the next one sees at most [`RECONNECTS_PER_SEC`].
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

/// A connection that carries nothing and is silent for so many keepalives is asked whether it is
/// half open.
const SILENT_KEEPALIVES: u32 = 3;

/// Longest that any ticket lets a connection live; a far later expiry would be a signer's mistake
/// and overflows clocks.
const TICKET_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// TLS handshakes with proofs that the next relay can take: a fifth of one core.
const RECONNECTS_PER_SEC: u64 = 2_000;

const RECONNECT_SPREAD_MIN_MS: u32 = 50;

const RECONNECT_SPREAD_MAX_MS: u32 = 10_000;

#[cfg(test)]
mod tests;
