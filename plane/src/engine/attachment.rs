//! One attached link: decides which frame goes next over it, and when the link must end. Holds no
//! socket.
//!
//! It is the [`Exchange`] of the link's connection. Frames are pulled: control first, then one
//! packet of each ready peer in turn, as long as the peer has credit at the relay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::credit::SendCredit;
use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{self, BODY_MAX, DATA_HEADER_LEN, Frame, FrameError};
use overlan_protocol::hello::{Reject, Welcome};
use overlan_protocol::key::RelayId;
use overlan_protocol::liveness::{Action, Liveness};

use super::Engine;
use super::counters::{Delays, WriteStall};
use super::links::Link;
use super::peer::{Destination, Peer, Turn};

/// A link while it is up.
#[derive(Debug)]
pub struct Attachment {
    engine: Arc<Engine>,
    link: Arc<Link>,
    liveness: Liveness,
    /// Small frames that go before everything else; at most a PONG per PING that came in one read,
    /// and a PING.
    control: Vec<u8>,
    credits: BTreeMap<Destination, Credit>,
    window: u32,
    random: fastrand::Rng,
    last_data: Instant,
    /// The relay will stop: the time at which frames begin to go over other links, and the time at
    /// which the link ends if the relay has not ended it.
    drain: Option<(Instant, Instant)>,
    has_left: bool,
    stall: WriteStall,
    /// The waits of the current fill.
    delays: Delays,
}

#[derive(Debug)]
struct Credit {
    credit: SendCredit,
    /// The peer that has packets and waits for credit, and the time since which it waits.
    waiting: Option<(Arc<Peer>, Instant)>,
}

/// The remains of a link that ended.
pub(super) struct Remains {
    pub(super) link: Arc<Link>,
    /// Peers that were waiting for credit.
    pub(super) waiting: Vec<Arc<Peer>>,
    /// Destinations for which the relay held frames, or may have: those frames are lost.
    pub(super) lost: Vec<Destination>,
}

/// The reason why this side ends a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The relay refused or ended the link.
    #[error("the relay ended the link: {} ({:?})", .0.text, .0.code)]
    Rejected(Reject),
    /// The relay will stop; another one is used.
    #[error("the relay is about to stop; another relay takes over")]
    Drained,
    /// The relay broke the protocol.
    #[error("the relay broke the protocol: {0}")]
    Protocol(#[from] FrameError),
    /// The relay announced credit that cannot be true.
    #[error("the relay broke the protocol: it released bytes that were not sent")]
    FalseCredit,
    /// The relay does not answer.
    #[error("the relay does not answer")]
    Silent,
    /// Nothing needs this link.
    #[error("nothing used the link for a minute")]
    Idle,
    /// This device leaves, and its peers were informed.
    #[error("this device leaves its networks")]
    Left,
}

impl Attachment {
    pub(super) fn new(
        engine: Arc<Engine>,
        link: Arc<Link>,
        now: Instant,
        welcome: &Welcome,
        seed: u64,
    ) -> Self {
        let keepalive = Duration::from_millis(u64::from(welcome.keepalive_ms));
        let counters = &engine.counters;
        counters.credit_window.set(u64::from(welcome.credit_window));
        Self {
            engine,
            link,
            liveness: Liveness::new(now, keepalive.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX)),
            control: Vec::new(),
            credits: BTreeMap::new(),
            window: welcome.credit_window,
            random: fastrand::Rng::with_seed(seed),
            last_data: now,
            drain: None,
            has_left: false,
            stall: WriteStall::default(),
            delays: Delays::default(),
        }
    }

    /// The relay at the other end.
    pub fn relay(&self) -> RelayId {
        self.link.relay()
    }

    /// Returns whether the relay said that it will stop.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Returns whether something waits for credit.
    fn has_waiting(&self) -> bool {
        self.credits.values().any(|credit| credit.waiting.is_some())
    }

    /// The relay stops in `milliseconds`. Half of that is time to attach to another one, the other
    /// half is for frames that are under way.
    fn handle_drain(&mut self, now: Instant, milliseconds: u32) {
        if self.drain.is_none() {
            let left = Duration::from_millis(u64::from(milliseconds)).min(DRAIN_MAX);
            self.drain = Some((now + left / 2, now + left + DRAIN_GRACE));
            self.engine.handle_drain(self.link.relay());
        }
    }

    /// Frames go over other links from here on; frames that come are still taken.
    fn leave(&mut self, now: Instant) {
        self.has_left = true;
        let waiting = self.credits.values_mut();
        let waiting = waiting.filter_map(|credit| credit.waiting.take());
        let peers: Vec<Arc<Peer>> = waiting.map(|(peer, _)| peer).collect();
        self.engine.leave_link(now, &self.link, peers);
    }

    /// Moves peers that wait for credit here, but are reached over another link, to that link.
    fn release_strays(&mut self) {
        let relay = Some(self.link.relay());
        for credit in self.credits.values_mut() {
            let is_stray = |waiting: &mut (Arc<Peer>, Instant)| waiting.0.via() != relay;
            if let Some((peer, _)) = credit.waiting.take_if(is_stray) {
                peer.queued.store(false, Relaxed);
                self.engine.enqueue(&peer);
            }
        }
    }

    /// Takes the attachment apart when its link has ended.
    pub(super) fn into_parts(self) -> Remains {
        let is_open = |credit: &Credit| credit.credit.outstanding() > 0;
        let lost = self
            .credits
            .iter()
            .filter(|(_, credit)| is_open(credit))
            .map(|(to, _)| *to)
            .collect();
        let waiting = self
            .credits
            .into_values()
            .filter_map(|credit| credit.waiting)
            .map(|(peer, _)| peer)
            .collect();
        Remains {
            link: self.link,
            waiting,
            lost,
        }
    }

    fn handle_credit(
        &mut self,
        now: Instant,
        to: Destination,
        released: u64,
        window: u32,
    ) -> Result<(), LinkEnd> {
        let Some(credit) = self.credits.get_mut(&to) else {
            return Err(LinkEnd::FalseCredit);
        };
        credit
            .credit
            .handle_credit(released, window)
            .map_err(|_| LinkEnd::FalseCredit)?;
        self.engine.counters.credit_window.set(u64::from(window));
        if credit.credit.may_send()
            && let Some((peer, since)) = credit.waiting.take()
        {
            let waited = now.saturating_duration_since(since);
            self.engine.counters.credit_wait_us.add_time(waited);
            self.engine.mark_ready(&peer, Some(now));
            self.link.push_again(peer);
        }
        Ok(())
    }

    /// Gives `peer` its turn: a few frames, so that others wait for milliseconds at most.
    fn serve(&mut self, now: Instant, peer: Arc<Peer>, out: &mut Vec<u8>) {
        let Some(membership) = self.engine.memberships().get(&peer.key.network).cloned() else {
            return;
        };
        if peer.via() != Some(self.link.relay()) {
            peer.queued.store(false, Relaxed);
            self.engine.enqueue(&peer);
            return;
        }
        if let Some(wait) = self.engine.take_wait(&peer, now) {
            self.delays.note(wait);
        }
        let window = self.window;
        let credit = self
            .credits
            .entry(peer.destination())
            .or_insert_with(|| Credit {
                credit: SendCredit::new(window),
                waiting: None,
            });
        // From here on a packet for this peer queues it again: one that comes during this turn is
        // either seen by the polls below or leads to another turn.
        peer.queued.store(false, Relaxed);
        for _ in 0..FRAMES_PER_TURN {
            if !credit.credit.may_send() {
                self.engine.counters.credit_waits.add(1);
                if !peer.queued.swap(true, Relaxed) {
                    credit.waiting = Some((peer, now));
                }
                return;
            }
            match peer.emit(&self.engine, now, membership.stack(), out) {
                Turn::Sent(bytes) => {
                    credit.credit.handle_sent(bytes);
                    self.liveness.handle_sent(now);
                    self.last_data = now;
                }
                Turn::Done => return,
            }
        }
        if !peer.queued.swap(true, Relaxed) {
            self.engine.mark_ready(&peer, Some(now));
            self.link.push_again(peer);
        }
    }
}

impl Exchange for Attachment {
    type End = LinkEnd;

    fn handle_bytes(&mut self, now: Instant, bytes: &mut [u8]) -> Result<usize, LinkEnd> {
        self.liveness.handle_heard(now);
        let mut at = 0;
        while let Some((frame, taken)) = frame::decode(&bytes[at..], BODY_MAX)? {
            match frame {
                Frame::Data { address, .. } => {
                    self.last_data = now;
                    let message = &mut bytes[at + DATA_HEADER_LEN..at + taken];
                    let relay = self.link.relay();
                    if self.engine.handle_message(now, relay, address, message) {
                        self.liveness.handle_talked(now);
                    }
                }
                Frame::Credit {
                    address,
                    released,
                    window,
                } => {
                    self.handle_credit(now, address.into(), released, window)?;
                }
                Frame::PeerGone { address, .. } => {
                    self.engine
                        .handle_peer_gone(now, self.link.relay(), address.into());
                }
                Frame::Ping { token } => Frame::Pong { token }.encode(&mut self.control),
                Frame::Drain { within_ms } => self.handle_drain(now, within_ms),
                Frame::Reject(body) => {
                    let reject = Reject::decode(body).ok_or(FrameError::TooShort {
                        kind: frame::kind::REJECT,
                    })?;
                    return Err(LinkEnd::Rejected(reject));
                }
                Frame::Pong { .. } => self.liveness.handle_pong(),
                Frame::Unknown { .. } | Frame::Hello(_) | Frame::Welcome(_) => {}
            }
            at += taken;
        }
        Ok(at)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkEnd> {
        self.stall.handle_turn();
        if let Some((leave, end)) = self.drain {
            if now >= end {
                return Err(LinkEnd::Drained);
            }
            if now >= leave && !self.has_left {
                self.leave(now);
            }
        }
        if !self.link.is_kept() && now >= self.last_data + IDLE {
            return Err(LinkEnd::Idle);
        }
        match self.liveness.handle_timeout(now) {
            Some(Action::Ping) => {
                let token = self.random.u64(..);
                Frame::Ping { token }.encode(&mut self.control);
            }
            Some(Action::Close) => return Err(LinkEnd::Silent),
            None => {}
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let alive = self.liveness.poll_timeout();
        let drain = self.drain.map(|(leave, end)| match self.has_left {
            true => end,
            false => leave,
        });
        let alive = drain.map_or(alive, |drain| drain.min(alive));
        Some(if self.link.is_kept() {
            alive
        } else {
            alive.min(self.last_data + IDLE)
        })
    }

    fn fill(&mut self, now: Instant, waker: &Waker, out: &mut Batch) -> Result<(), LinkEnd> {
        if let Some(stalled) = self.stall.handle_fill(now) {
            self.engine.counters.link_stalls.add(1);
            self.engine.counters.link_stall_us.add_time(stalled);
        }
        if self.link.take_stale() {
            self.release_strays();
        }
        out.packed().append(&mut self.control);
        while out.room() > 0 {
            let Some(peer) = self.link.pop() else { break };
            self.serve(now, peer, out.packed());
        }
        // The socket has taken everything that was given before. Peers that wait for credit did not
        // get their farewell yet.
        if out.is_empty() && self.engine.is_leaving() && !self.has_waiting() {
            return Err(LinkEnd::Left);
        }
        self.engine
            .counters
            .queue_delays
            .take(now, &mut self.delays);
        if !out.is_empty() {
            self.stall.handle_given(now);
        }
        self.link.register(waker);
        Ok(())
    }

    fn is_last_word_needed(&self, end: &LinkEnd) -> bool {
        // The last frames carry farewells to peers and resets of their connections.
        matches!(end, LinkEnd::Left)
    }

    fn last_words(&mut self, _end: &LinkEnd, _out: &mut Vec<u8>) {}
}

/// Frames of one peer before the next peer's turn: one TLS write of 64 KiB.
const FRAMES_PER_TURN: usize = 4;

/// Longest time for which a relay that will stop is used.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Time after the announced end, after which a relay that has not stopped is left.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Bounds of the keepalive that a relay may ask for: neither a flood, nor more silence than address
/// translators tolerate.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(60);

/// A link that nothing needs any more is closed after this; long enough for a pause in a
/// conversation.
const IDLE: Duration = Duration::from_secs(60);
