//! The packets of one flow: decides which of the remote's segments the engine sees, and what of its
//! own goes out. Holds nothing itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::socket::tcp::State;

use super::phase::Phase;
use super::{Due, Emission, End, Flow, Verdict};
use crate::clock::Moment;
use crate::config::Config;
use crate::device::{Room, Wire};
use crate::packet::{self, Tcp};

impl Flow {
    pub(crate) fn handle_packet(
        &mut self,
        config: &Config,
        now: Moment,
        packet: &[u8],
        tcp: &Tcp,
    ) -> Verdict {
        self.clock.tick(now);
        if !self.window.admits(tcp) {
            return Verdict::OutOfWindow;
        }
        if self.is_old_news(tcp) {
            return Verdict::Taken;
        }
        let Phase::Live(live) = &mut self.phase else {
            return Verdict::Over;
        };
        let engine = &mut live.engine;
        let (before, queued) = (engine.state(), engine.unsent());
        if !engine.make_room(&self.window, tcp) {
            return Verdict::NoMemory;
        }
        self.clock.note_activity();
        let mut reply = Vec::new();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut wire = Wire {
                mtu: config.mtu,
                inbound: Some(packet),
                outbound: Room::new(&mut reply, 0),
            };
            engine.ingress(self.clock.shown, &mut wire);
        }));
        if polled.is_err() {
            self.finish(End::Panicked);
            return Verdict::Taken;
        }
        let after = engine.state();
        if !reply.is_empty() {
            self.keep_reply(reply);
        }
        self.clock.end_rest();
        if self.window.start.is_none()
            && !matches!(after, State::Listen | State::SynSent | State::Closed)
        {
            // Only the segment that carried the remote's first sequence number leads here.
            self.window.start = Some(tcp.seq);
        }
        self.window.note(tcp);
        self.sent.note_acknowledged(tcp);
        if let Some(end) = end_between(before, after, tcp) {
            self.finish(end);
        }
        self.note_remote_window(config, tcp, before, queued);
        Verdict::Taken
    }

    /// Takes note of the room that the remote has.
    ///
    /// In LAST-ACK the engine ignores a window that opens unless the same segment acknowledges
    /// something (<https://github.com/smoltcp-rs/smoltcp/pull/1126>). It would find out with its
    /// next probe, a second later or many; so the probe is sent now.
    fn note_remote_window(&mut self, config: &Config, tcp: &Tcp, before: State, queued: usize) {
        let ignored = before == State::LastAck && self.unsent() == queued;
        if !ignored {
            self.sent.remote_full = tcp.window == 0;
        } else if self.sent.remote_full && tcp.window > 0 && queued > 0 {
            self.run_timer(config);
        }
    }

    /// Returns whether an acknowledgement says nothing while only our FIN is under way. Three of
    /// these make the engine stop its retransmission timer in favour of a fast retransmission,
    /// which it does not do because no data is queued
    /// (<https://github.com/smoltcp-rs/smoltcp/pull/1155>).
    fn is_old_news(&self, tcp: &Tcp) -> bool {
        let bare = tcp.payload_len == 0 && !tcp.syn && !tcp.fin && !tcp.rst;
        bare && tcp.ack != self.sent.sent_to
            && matches!(
                self.state(),
                State::FinWait1 | State::Closing | State::LastAck
            )
            && self.unsent() == 0
    }

    /// Writes the next packet, if there is one, to `buffer` from `at` on, which grows as far as it
    /// has to.
    pub(crate) fn poll_packet(
        &mut self,
        config: &Config,
        now: Moment,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emission> {
        self.clock.tick(now);
        self.clock.note_activity();
        let len = if let Some(reply) = self.replies.pop_front() {
            Room::new(buffer, at).put(&reply);
            reply.len()
        } else if self.due() == Due::Now {
            let len = self.egress(config, buffer, at);
            if len == 0 && self.due() == Due::Now {
                // The engine claims to have something and has not, as in
                // <https://github.com/smoltcp-rs/smoltcp/pull/1020>: look again later instead of
                // spinning.
                self.clock.start_rest();
            }
            len
        } else {
            0
        };
        if len == 0 {
            return None;
        }
        let packet = &mut buffer[at..at + len];
        let Some(tcp) = packet::emitted_tcp(packet) else {
            return Some(Emission {
                len,
                retransmission: false,
            });
        };
        let retransmission = self.sent.note_sent(&tcp);
        if !tcp.syn {
            packet::narrow_window(packet);
        }
        if matches!(self.state(), State::Closing | State::TimeWait) {
            let end = tcp.seq.wrapping_add(tcp.occupied());
            self.sent.final_ack = tcp.ack.map(|ack| (end, ack));
        }
        Some(Emission {
            len,
            retransmission,
        })
    }

    /// The path lost what was in flight: what is unacknowledged goes out again with the flow's next
    /// turn, and does not wait for its time.
    pub(crate) fn handle_restored(&mut self, config: &Config, now: Moment) {
        self.clock.tick(now);
        self.clock.end_rest();
        self.run_timer(config);
    }

    /// Lets the engine's timer expire. It has to be done at once: until the flow's turn an
    /// acknowledgement could start the timer again, and what else the flow has to say would hide
    /// it.
    fn run_timer(&mut self, config: &Config) {
        if self.is_over() || self.state() == State::TimeWait {
            return;
        }
        if self.sent.may_repeat_first() && self.unsent() > 0 {
            // The engine may be about to repeat its first segment, and keeps no time for the rest
            // until that is out (<https://github.com/smoltcp-rs/smoltcp/pull/1155>). It goes
            // nowhere: what follows counts it as not sent, with everything else.
            self.egress(config, &mut Vec::new(), 0);
        }
        let late = self.clock.shown + LONGEST_RTO;
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let engine = &mut live.engine;
        let expired = catch_unwind(AssertUnwindSafe(|| engine.expire(late, config.mtu)));
        if expired.is_err() {
            return self.finish(End::Panicked);
        }
        if self.sent.remote_full && engine.unsent() > 0 {
            // The probe of a closed window needs its turn, so the flow's clock goes on to when it
            // is due. Nothing is in flight whose round trip would seem to take that long.
            self.clock.put_forward(LONGEST_RTO);
        }
    }

    /// Returns the number of bytes written from `at` on.
    pub(super) fn egress(&mut self, config: &Config, buffer: &mut Vec<u8>, at: usize) -> usize {
        let Phase::Live(live) = &mut self.phase else {
            return 0;
        };
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut wire = Wire {
                mtu: config.mtu,
                inbound: None,
                outbound: Room::new(buffer, at),
            };
            live.engine.egress(self.clock.shown, &mut wire);
            wire.outbound.at() - at
        }));
        polled.unwrap_or_else(|_| {
            self.finish(End::Panicked);
            0
        })
    }

    fn keep_reply(&mut self, reply: Vec<u8>) {
        if self.replies.len() == MAX_REPLIES {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }
}

/// The end that a segment has brought, if it has.
fn end_between(before: State, after: State, tcp: &Tcp) -> Option<End> {
    match (before, after) {
        (State::SynSent, State::Closed) => Some(End::Refused),
        // Out of the half-open state a reset leads back to LISTEN; this flow was for one connection
        // only.
        (State::SynReceived, State::Listen) => Some(End::Reset),
        (State::LastAck, State::Closed) if !tcp.rst => Some(End::Closed),
        (_, State::Closed) => Some(End::Reset),
        _ => None,
    }
}

/// Answers a flow keeps: three repeated acknowledgements make the remote send again, and a few more
/// do no harm.
const MAX_REPLIES: usize = 8;
/// The longest retransmission time of the engine: 60 s in ticks.
const LONGEST_RTO: i64 = 60_000_000;
