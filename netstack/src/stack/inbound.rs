//! Decides what a packet does that belongs to no flow yet, or to none at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Inner;
use crate::config::has_share;
use crate::flow::{End, Flow};
use crate::packet::{self, Original, Tcp};
use crate::path::{Path, Pushed};
use crate::table::{FlowKey, Slot};

impl Inner {
    pub(super) fn handle_tcp(
        &self,
        now: i64,
        packet: &[u8],
        remote: SocketAddr,
        local: SocketAddr,
        tcp: &Tcp,
        admit: &dyn Fn() -> bool,
    ) {
        let key = FlowKey { local, remote };
        let hash = self.table.hash(&key);
        let opens = tcp.syn && tcp.ack.is_none() && !tcp.rst && !tcp.fin;
        match self.table.get(key, hash) {
            Some(Slot::Live(flow)) => self.deliver(now, &flow, packet, tcp),
            Some(Slot::TimeWait(closed)) => {
                if opens || tcp.rst {
                    self.table.forget(key, hash);
                }
                if opens {
                    self.open(now, packet, key, hash, tcp, admit);
                } else if tcp.fin || tcp.payload_len > 0 {
                    self.answer(now, remote.ip(), || {
                        packet::final_ack(local, remote, closed.seq, closed.ack)
                    });
                }
            }
            None if opens => self.open(now, packet, key, hash, tcp, admit),
            None => {
                self.counters.drops.no_flow.add(1);
                self.refuse(now, key, tcp);
            }
        }
    }

    /// A SYN that belongs to no flow.
    fn open(
        &self,
        now: i64,
        packet: &[u8],
        key: FlowKey,
        hash: u64,
        tcp: &Tcp,
        admit: &dyn Fn() -> bool,
    ) {
        let drops = &self.counters.drops;
        if !admit() {
            drops.denied.add(1);
            return self.refuse(now, key, tcp);
        }
        let Some(listener) = self.listeners.get(key.local.port()) else {
            drops.no_flow.add(1);
            return self.refuse(now, key, tcp);
        };
        if !listener.has_room(now, key.remote.ip(), self.config.accept_backlog) {
            // Silence makes the sender try again, when there may be room.
            return drops.backlog.add(1);
        }
        let Some(path) = self.path(key.remote.ip()) else {
            return drops.remotes.add(1);
        };
        if !self.reserve_inbound(&path) {
            return drops.flow_limit.add(1);
        }
        let give_back = || {
            self.counters.flows.subtract(1);
            self.counters.half_open.subtract(1);
            path.inbound.fetch_sub(1, Relaxed);
        };
        let moment = path.moment(now);
        let Some(rings) = self.lend_rings(&path) else {
            give_back();
            drops.ring_budget.add(1);
            return self.refuse(now, key, tcp);
        };
        let Some(mut flow) = Flow::listen(&key, &self.config, rings, self.random(), moment) else {
            give_back();
            return drops.malformed.add(1);
        };
        flow.handle_packet(&self.config, moment, packet, tcp);
        if !flow.has_syn() {
            give_back();
            return drops.malformed.add(1);
        }
        flow.half_open = true;
        let cell = self.new_cell(key, hash, true, path.clone(), flow);
        if !self.table.insert(&cell) {
            // Another thread has just opened it with a copy of this packet.
            return give_back();
        }
        self.run(&cell, Some(now), |_, _| ());
        if !listener.push(cell.clone()) {
            // The listener has gone meanwhile.
            self.run(&cell, Some(now), |flow, _| {
                flow.reset(&self.config, End::Aborted)
            });
        }
    }

    /// Counts one more half-open flow that the remote of `path` opens, unless it has its share.
    fn reserve_inbound(&self, path: &Path) -> bool {
        let limit = self.config.max_flows;
        let all = usize::try_from(self.counters.flows.get()).unwrap_or(usize::MAX);
        if !has_share(path.inbound.load(Relaxed), all, limit) || !self.counters.flows.reserve(limit)
        {
            return false;
        }
        self.counters.half_open.add(1);
        path.inbound.fetch_add(1, Relaxed);
        true
    }

    /// Answers a segment that belongs to no flow with a reset, which is never answered itself.
    fn refuse(&self, now: i64, key: FlowKey, tcp: &Tcp) {
        if tcp.rst {
            return;
        }
        let Some(path) = self.path(key.remote.ip()) else {
            return self.counters.drops.remotes.add(1);
        };
        let packet = packet::reset_for(key.local, key.remote, tcp);
        let pushed = path.queue().push_reset(now, packet);
        self.pushed(&path, pushed);
    }

    /// Sends an answer as far as the rate for it allows.
    pub(crate) fn answer(&self, now: i64, remote: IpAddr, build: impl FnOnce() -> Vec<u8>) {
        let Some(path) = self.path(remote) else {
            return self.counters.drops.remotes.add(1);
        };
        let pushed = path.queue().push_answer(now, build());
        self.pushed(&path, pushed);
    }

    pub(crate) fn pushed(&self, path: &Arc<Path>, pushed: Pushed) {
        self.count(pushed);
        if pushed.announce {
            self.shell.packets_ready(path.remote);
        }
    }

    pub(super) fn handle_udp(
        &self,
        now: i64,
        packet: &[u8],
        remote: SocketAddr,
        local: SocketAddr,
        data: &[u8],
        admit: &dyn Fn() -> bool,
    ) {
        let drops = &self.counters.drops;
        let Some(socket) = self.sockets.get(local.port()) else {
            drops.no_socket.add(1);
            // A port that is closed to this remote must look like one that is closed to all.
            return self.answer(now, remote.ip(), || {
                packet::port_unreachable(local.ip(), remote.ip(), packet)
            });
        };
        if !socket.knows(remote) && !admit() {
            return drops.denied.add(1);
        }
        drops.datagram_queue.add(socket.push(remote, data));
    }

    /// Only the remote itself is believed: anybody else could end what it is not part of.
    pub(super) fn handle_unreachable(
        &self,
        now: i64,
        from: IpAddr,
        port: bool,
        original: &Original,
    ) {
        let key = FlowKey {
            local: original.source,
            remote: original.destination,
        };
        if from != key.remote.ip() || !self.local.contains(&key.local.ip()) {
            return self.counters.drops.address.add(1);
        }
        match original.protocol {
            packet::TCP => {
                let Some(Slot::Live(cell)) = self.table.get(key, self.table.hash(&key)) else {
                    return;
                };
                if cell.inbound {
                    return;
                }
                self.run(&cell, Some(now), |flow, _| {
                    // An open connection has better evidence than this.
                    if flow.is_opening() {
                        flow.finish(if port { End::Refused } else { End::Unreachable });
                    }
                });
            }
            packet::UDP if port => {
                if let Some(socket) = self.sockets.get(key.local.port()) {
                    socket.refused(key.remote);
                }
            }
            _ => {}
        }
    }
}
