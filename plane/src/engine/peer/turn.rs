//! A peer's turn to send: appends one sealed frame, a handshake before a packet.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use overlan_netstack::Stack;
use overlan_protocol::frame::{self, Address, DATA_HEADER_LEN};
use overlan_protocol::{SEAL_HEADER_LEN, SEAL_TAG_LEN};
use parking_lot::MutexGuard;

use super::{Peer, Sealing};
use crate::engine::Engine;

/// The outcome of a peer's turn to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Turn {
    /// A frame of this many bytes was appended; there may be more.
    Sent(usize),
    /// There is nothing to send, or nothing that can be sealed yet.
    Done,
}

impl Peer {
    /// Appends the next frame for this peer to `out`.
    pub(in crate::engine) fn emit(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        stack: &Stack,
        out: &mut Vec<u8>,
    ) -> Turn {
        let mut sealing = self.sealing.lock();
        if sealing.outbox.is_empty() && !sealing.session.can_seal(now) {
            let mut addresses = self.addresses.iter();
            sealing.waiting = addresses.any(|address| stack.has_packets(*address));
            if !sealing.waiting {
                // A turn without packets, as after each look for an absent peer, starts no
                // handshake.
                return Turn::Done;
            }
            sealing.session.handle_want_send(now);
            sealing = self.settle_locked(engine, now, sealing);
        }
        if let Some(message) = sealing.outbox.pop_front() {
            return self.emit_handshake(engine, now, sealing, message, out);
        }
        if !sealing.session.can_seal(now) {
            return Turn::Done;
        }
        drop(sealing);
        self.emit_packet(engine, now, stack, out)
    }

    fn emit_handshake(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        mut sealing: MutexGuard<'_, Sealing>,
        message: Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Turn {
        let start = out.len();
        let header = frame::data_header(self.address(0), message.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(&message);
        sealing.handshake = Some(message);
        if !sealing.session.can_seal(now) {
            // With a session in use, packets under the old keys would be taken for the answer.
            sealing.question.ask(now);
        }
        if sealing.standing.handle_sent(now) {
            sealing.look = true;
            self.settle(engine, now, sealing);
        }
        Turn::Sent(out.len() - start)
    }

    /// Appends the next packet of the flows with this peer. They run without the session's lock: a
    /// reader that opens messages from this peer does not wait for it.
    fn emit_packet(
        self: &Arc<Self>,
        engine: &Engine,
        now: Instant,
        stack: &Stack,
        out: &mut Vec<u8>,
    ) -> Turn {
        let start = out.len();
        out.resize(start + DATA_HEADER_LEN + SEAL_HEADER_LEN, 0);
        let emitted = self
            .addresses
            .iter()
            .find_map(|address| stack.poll_packet(now, *address, out));
        let Some(emitted) = emitted else {
            out.truncate(start);
            if self.farewell.swap(false, Relaxed) {
                let mut sealing = self.sealing.lock();
                sealing.session.say_farewell(now);
                self.settle(engine, now, sealing);
            }
            return Turn::Done;
        };
        out.resize(out.len() + SEAL_TAG_LEN, 0);
        let mut sealing = self.sealing.lock();
        let sealed = sealing
            .session
            .seal(now, &mut out[start + DATA_HEADER_LEN..]);
        sealing.look |= sealing.standing.handle_sent(now);
        self.settle(engine, now, sealing);
        if let Err(error) = sealed {
            // The keys ran out since the check above; the flow repeats the packet under new ones.
            self.span()
                .in_scope(|| tracing::debug!(%error, "a packet could not be sealed"));
            engine.counters.drops.add("not_sealed");
            out.truncate(start);
            return Turn::Done;
        }
        let header = frame::data_header(
            self.address(emitted.flow_id),
            out.len() - start - DATA_HEADER_LEN,
        );
        out[start..start + DATA_HEADER_LEN].copy_from_slice(&header);
        engine.counters.packets_out.add(1);
        engine.counters.bytes_out.add(emitted.len as u64);
        Turn::Sent(out.len() - start)
    }

    fn address(&self, flow: u8) -> Address {
        Address {
            vni: self.vni.get(),
            flow,
            host: self.key.host.get(),
        }
    }
}
