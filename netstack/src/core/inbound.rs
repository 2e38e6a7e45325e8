//! Decides where an inbound packet goes: to its flow, to what it opens, to a socket, or nowhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Core;
use crate::config::has_share;
use crate::flow::{End, Flow};
use crate::key::FlowKey;
use crate::packet::{self, Icmp, Ip, Original, Payload, Tcp, Unusable};
use crate::path::Pushed;
use crate::shell::Protocol;
use crate::table::{FlowPath, TableSlot};

/// The owner's answer to a remote that asks our local end for something new.
type Admit<'a> = &'a dyn Fn(Protocol, SocketAddr, SocketAddr) -> bool;

/// A TCP segment, the packet it came in, and the name of its connection.
pub(super) struct Segment<'a> {
    pub(super) packet: &'a [u8],
    pub(super) tcp: Tcp,
    pub(super) key: FlowKey,
    pub(super) hash: u64,
}

impl Segment<'_> {
    /// Returns whether it asks for a connection.
    fn opens(&self) -> bool {
        let tcp = &self.tcp;
        tcp.syn && tcp.ack.is_none() && !tcp.rst && !tcp.fin
    }
}

/// A UDP datagram, and the packet it came in.
struct Datagram<'a> {
    packet: &'a [u8],
    remote: SocketAddr,
    local: SocketAddr,
    data: &'a [u8],
}

impl Core {
    /// Takes one whole inbound IP packet.
    pub(crate) fn handle_packet(&self, now: Instant, packet: &[u8], admit: Admit<'_>) {
        let now = self.ticks(now);
        self.counters.packets_in.add(1);
        self.counters.bytes_in.add(packet.len() as u64);
        let drops = &self.counters.drops;
        let ip = match packet::parse(packet) {
            Ok(ip) => ip,
            Err(reason) => {
                let counter = match reason {
                    Unusable::Malformed => &drops.malformed,
                    Unusable::Unsupported => &drops.unsupported,
                    Unusable::Address => &drops.address,
                    Unusable::Protocol => &drops.protocol,
                };
                return counter.add(1);
            }
        };
        if !self.local.contains(&ip.destination) {
            return drops.address.add(1);
        }
        match ip.payload {
            Payload::Tcp(tcp) => {
                let key = FlowKey {
                    local: SocketAddr::new(ip.destination, tcp.destination),
                    remote: SocketAddr::new(ip.source, tcp.source),
                };
                let segment = Segment {
                    packet,
                    tcp,
                    key,
                    hash: self.table.hash(&key),
                };
                self.handle_tcp(now, &segment, admit);
            }
            Payload::Udp {
                source,
                destination,
                data,
            } => {
                let datagram = Datagram {
                    packet,
                    remote: SocketAddr::new(ip.source, source),
                    local: SocketAddr::new(ip.destination, destination),
                    data,
                };
                self.handle_udp(now, &datagram, admit);
            }
            Payload::Icmp(message) => self.handle_icmp(now, &ip, &message, admit),
        }
    }

    fn handle_tcp(&self, now: i64, segment: &Segment<'_>, admit: Admit<'_>) {
        let Segment { key, hash, tcp, .. } = segment;
        match self.table.get(*key, *hash) {
            Some(TableSlot::Live(flow)) => self.deliver(now, &flow, segment),
            Some(TableSlot::TimeWait(closed)) => {
                if segment.opens() || tcp.rst {
                    self.table.forget(*key, *hash);
                }
                if segment.opens() {
                    self.open(now, segment, admit);
                } else if tcp.fin || tcp.payload_len > 0 {
                    self.answer(now, key.remote.ip(), || {
                        packet::final_ack(key.local, key.remote, closed.seq, closed.ack)
                    });
                }
            }
            None if segment.opens() => self.open(now, segment, admit),
            None => {
                self.counters.drops.no_flow.add(1);
                self.refuse(now, segment);
            }
        }
    }

    /// Makes a flow of a SYN that belongs to none.
    fn open(&self, now: i64, segment: &Segment<'_>, admit: Admit<'_>) {
        let key = segment.key;
        let drops = &self.counters.drops;
        if !admit(Protocol::Tcp, key.remote, key.local) {
            drops.denied.add(1);
            return self.refuse(now, segment);
        }
        let Some(listener) = self.listeners.get(key.local.port()) else {
            drops.no_flow.add(1);
            return self.refuse(now, segment);
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
        let moment = path.clock.moment(now);
        let Some(rings) = self.lend_rings(&path) else {
            give_back();
            drops.ring_budget.add(1);
            return self.refuse(now, segment);
        };
        let Some(mut flow) = Flow::listen(&key, &self.config, rings, self.random(), moment) else {
            give_back();
            return drops.malformed.add(1);
        };
        flow.handle_packet(&self.config, moment, segment.packet, &segment.tcp);
        if !flow.has_syn() {
            give_back();
            return drops.malformed.add(1);
        }
        let cell = self.new_cell(key, segment.hash, true, path.clone(), flow);
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
    fn reserve_inbound(&self, path: &FlowPath) -> bool {
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
    fn refuse(&self, now: i64, segment: &Segment<'_>) {
        let Segment { key, tcp, .. } = segment;
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

    /// Counts the packets that a bounded queue did not keep, and tells the shell that packets wait,
    /// if it does not know.
    pub(crate) fn pushed(&self, path: &Arc<FlowPath>, pushed: Pushed) {
        self.count(pushed);
        if pushed.announce {
            self.shell.packets_ready(path.remote);
        }
    }

    fn handle_udp(&self, now: i64, datagram: &Datagram<'_>, admit: Admit<'_>) {
        let Datagram { remote, local, .. } = *datagram;
        let drops = &self.counters.drops;
        let Some(mailbox) = self.mailboxes.get(local.port()) else {
            drops.no_socket.add(1);
            // A port that is closed to this remote must look like one that is closed to all.
            return self.answer(now, remote.ip(), || {
                packet::port_unreachable(local.ip(), remote.ip(), datagram.packet)
            });
        };
        let contact = mailbox.contact(remote);
        let is_answer = contact.is_some_and(|contact| !contact.inbound && contact.allowed);
        if !is_answer && !admit(Protocol::Udp, remote, local) {
            return drops.denied.add(1);
        }
        let dropped = mailbox.push(remote, datagram.data);
        drops.datagram_queue.add(dropped);
    }

    fn handle_icmp(&self, now: i64, ip: &Ip<'_>, message: &Icmp<'_>, admit: Admit<'_>) {
        let (remote, local) = (ip.source, ip.destination);
        match *message {
            Icmp::EchoRequest {
                ident,
                sequence,
                data,
            } => {
                let ends = (SocketAddr::new(remote, 0), SocketAddr::new(local, 0));
                if !admit(Protocol::Icmp, ends.0, ends.1) {
                    return self.counters.drops.denied.add(1);
                }
                self.answer(now, remote, || {
                    packet::echo_reply(local, remote, ident, sequence, data)
                });
            }
            Icmp::EchoReply { ident, data } => {
                self.echoes
                    .handle_reply(self.instant(now), remote, ident, data);
            }
            Icmp::Unreachable { port, original } => {
                self.handle_unreachable(now, remote, port, &original);
            }
        }
    }

    /// Only the remote itself is believed: anybody else could end a connection between others.
    fn handle_unreachable(&self, now: i64, from: IpAddr, port: bool, original: &Original) {
        let key = FlowKey {
            local: original.source,
            remote: original.destination,
        };
        if from != key.remote.ip() || !self.local.contains(&key.local.ip()) {
            return self.counters.drops.address.add(1);
        }
        match original.protocol {
            packet::TCP => {
                let Some(TableSlot::Live(cell)) = self.table.get(key, self.table.hash(&key)) else {
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
                if let Some(mailbox) = self.mailboxes.get(key.local.port()) {
                    mailbox.refused(key.remote);
                }
            }
            _ => {}
        }
    }
}
