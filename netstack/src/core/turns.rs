//! Decides which packet leaves next over a path: the queue names a source, and the flow among them
//! is run for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Core;
use crate::device::Room;
use crate::flow::Due;
use crate::key::FlowKey;
use crate::packet;
use crate::path::{Turn, TurnSource, Wants};
use crate::shell::Emitted;
use crate::table::{FlowCell, SeatedFlow};

impl Core {
    /// Appends the next packet for `remote` to `buffer[at..]`.
    pub(crate) fn poll_packet(
        &self,
        now: Instant,
        remote: IpAddr,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let now = self.ticks(now);
        let path = self.known_path(remote)?;
        let quantum = self.config.mtu;
        loop {
            let turn = {
                let mut queue = path.queue();
                if let Some(packet) = queue.pop_control() {
                    return Some(self.emit_whole(&packet, Room::new(buffer, at)));
                }
                queue.take_turn(quantum)?
            };
            let emitted = match &turn.source {
                TurnSource::Flow(flow) => self.run_turn(now, flow.clone(), turn, buffer, at),
                TurnSource::Datagrams => {
                    let (packet, announce) = path.queue().finish_datagram_turn(turn);
                    if announce {
                        self.shell.packets_ready(remote);
                    }
                    packet.map(|packet| self.emit_whole(&packet, Room::new(buffer, at)))
                }
            };
            if emitted.is_some() {
                return emitted;
            }
        }
    }

    /// Gives the flow of `turn` its turn.
    fn run_turn(
        &self,
        now: i64,
        cell: Arc<FlowCell>,
        turn: Turn<Arc<FlowCell>>,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let mut seated = cell.lock();
        let SeatedFlow { flow, seat } = &mut *seated;
        let moment = cell.path.clock.moment(now);
        self.drain_inbox(&cell, flow, moment);
        let emission = flow.poll_packet(&self.config, moment, buffer, at);
        flow.settle(&self.config, Some(moment));
        let due = flow.due();
        let wants = if due == Due::Now && !flow.is_over() {
            Wants::More
        } else {
            Wants::Nothing
        };
        let len = emission.map_or(0, |emission| emission.len);
        let (stays, announce) = cell.path.queue().finish_turn(turn, len, wants);
        seat.queued = stays;
        self.conclude(&cell, seated, due);
        if announce {
            self.shell.packets_ready(cell.path.remote);
        }
        self.serve_inbox(&cell, Some(now));
        let emission = emission?;
        if emission.retransmission {
            self.counters.retransmits.add(1);
        }
        self.counters.packets_out.add(1);
        self.counters.bytes_out.add(len as u64);
        Some(Emitted {
            len,
            flow_id: flow_id(cell.hash),
        })
    }

    /// Hands out a packet that was built before, and counts it.
    fn emit_whole(&self, packet: &[u8], mut room: Room<'_>) -> Emitted {
        room.put(packet);
        self.counters.packets_out.add(1);
        self.counters.bytes_out.add(packet.len() as u64);
        let flow_id = packet::ends(packet).map_or(0, |(local, remote)| {
            flow_id(self.table.hash(&FlowKey { local, remote }))
        });
        Emitted {
            len: packet.len(),
            flow_id,
        }
    }
}

fn flow_id(hash: u64) -> u8 {
    hash as u8
}
