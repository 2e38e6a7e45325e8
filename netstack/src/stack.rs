//! The stack as its owner sees it: takes packets and time, gives packets and deadlines; holds no connection itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::datagram::UdpSocket;
use crate::device::Room;
use crate::error::{BindError, ConnectError, ListenError, PingError};
use crate::listen::TcpListener;
use crate::packet::{self, Icmp, Ip, Payload, Unusable};
use crate::path::{Source, Wants};
use crate::ping::Ping;
use crate::stats::Stats;
use crate::stream::Connecting;

pub(crate) use inner::Inner;

mod inbound;
mod inner;
mod outbound;

/// A cheap handle on one userspace TCP/IP stack. All clones are the same stack.
#[derive(Clone)]
pub struct Stack {
    pub(crate) inner: Arc<Inner>,
}

/// What the owner of a stack has to be told. Called without any lock of the stack held, from whatever thread caused it;
/// it must not block. A shell that holds its stack should hold it weakly, or both live for ever.
pub trait Shell: Send + Sync + 'static {
    /// Packets for `remote` are waiting: call [`Stack::poll_packet`] until it returns `None`. Not called again for
    /// that remote until then.
    fn packets_ready(&self, remote: IpAddr);
    /// [`Stack::poll_timeout`] is now earlier than what it last returned.
    fn timer_changed(&self);
}

/// What an inbound packet that opens something new belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A SYN that belongs to no flow.
    Tcp,
    /// A datagram for a bound socket from a remote that socket has not sent to.
    Udp,
    /// An echo request; both ports are 0.
    Icmp,
}

/// A packet that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted {
    /// Bytes appended.
    pub len: usize,
    /// A keyed hash of the flow it belongs to, for fair queueing further on.
    pub flow_id: u8,
}

/// An inbound flow that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowInfo {
    /// What it is; [`Protocol::Tcp`] for now, as nothing else is kept.
    pub protocol: Protocol,
    /// The other end.
    pub remote: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

impl Stack {
    /// A stack with the addresses `local`, whose clock starts at `now`. `seed` must be unpredictable: sequence
    /// numbers, ports and hash keys come from it.
    ///
    /// # Panics
    /// If a size in `config` is outside of what its documentation says.
    #[must_use]
    pub fn new(
        config: Config,
        local: &[IpAddr],
        now: Instant,
        seed: [u8; 32],
        shell: Arc<dyn Shell>,
    ) -> Stack {
        config.assert_valid();
        Stack {
            inner: Arc::new(Inner::new(config, local, now, seed, shell)),
        }
    }

    /// Takes one whole inbound IP packet. `admit` is asked, with the remote and the local end, only for what opens
    /// something new. Packets that cannot be used are counted and dropped.
    pub fn handle_packet(
        &self,
        now: Instant,
        packet: &[u8],
        admit: &dyn Fn(Protocol, SocketAddr, SocketAddr) -> bool,
    ) {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        inner.counters.packets_in.add(1);
        inner.counters.bytes_in.add(packet.len() as u64);
        let drops = &inner.counters.drops;
        let ip = match packet::parse(packet) {
            Ok(ip) => ip,
            Err(reason) => {
                let counter = match reason {
                    Unusable::Malformed => &drops.malformed,
                    Unusable::Unsupported => &drops.unsupported,
                    Unusable::Address => &drops.address,
                    Unusable::Protocol => &drops.protocol,
                };
                counter.add(1);
                return;
            }
        };
        if !inner.local.contains(&ip.destination) {
            drops.address.add(1);
            return;
        }
        let Ip {
            source,
            destination,
            payload,
        } = ip;
        match payload {
            Payload::Tcp(tcp) => {
                let remote = SocketAddr::new(source, tcp.source);
                let local = SocketAddr::new(destination, tcp.destination);
                inner.handle_tcp(now, packet, remote, local, &tcp, &|| {
                    admit(Protocol::Tcp, remote, local)
                });
            }
            Payload::Udp {
                source: from,
                destination: to,
                data,
            } => {
                let remote = SocketAddr::new(source, from);
                let local = SocketAddr::new(destination, to);
                inner.handle_udp(now, packet, remote, local, data, &|| {
                    admit(Protocol::Udp, remote, local)
                });
            }
            Payload::Icmp(Icmp::EchoRequest {
                ident,
                sequence,
                data,
            }) => {
                let (remote, local) = (SocketAddr::new(source, 0), SocketAddr::new(destination, 0));
                if admit(Protocol::Icmp, remote, local) {
                    inner.answer(now, source, || {
                        packet::echo_reply(destination, source, ident, sequence, data)
                    });
                } else {
                    drops.denied.add(1);
                }
            }
            Payload::Icmp(Icmp::EchoReply { ident, data }) => {
                inner
                    .pings
                    .handle_reply(inner.instant(now), source, ident, data);
            }
            Payload::Icmp(Icmp::Unreachable { port, original }) => {
                inner.handle_unreachable(now, source, port, &original);
            }
        }
    }

    /// Appends the next packet for `remote` to `out`. Resets and answers go first, then acknowledgements and
    /// what opens and closes; then flows take turns by bytes, those that were idle before those that are busy, and UDP
    /// takes turns with them. `None`: nothing to send now.
    #[must_use]
    pub fn poll_packet(&self, now: Instant, remote: IpAddr, out: &mut Vec<u8>) -> Option<Emitted> {
        let at = out.len();
        let emitted = self.poll_packet_at(now, remote, out, at);
        out.truncate(at + emitted.map_or(0, |emitted| emitted.len));
        emitted
    }

    /// The same for an owner that keeps a buffer: the packet is written to `buffer[at..at + len]`, and the buffer grows
    /// if it is shorter. What lies behind is left as it is, and nothing is cleared first, which would cost about as much as
    /// the packet itself.
    #[must_use]
    pub fn poll_packet_at(
        &self,
        now: Instant,
        remote: IpAddr,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        let path = inner.known_path(remote)?;
        let quantum = inner.config.mtu;
        loop {
            let turn = {
                let mut queue = path.queue();
                if let Some(packet) = queue.pop_control() {
                    return Some(inner.emit_whole(&packet, Room::new(buffer, at)));
                }
                queue.take_turn(quantum)?
            };
            let emitted = match &turn.source {
                Source::Flow(flow) => inner.run_turn(now, flow.clone(), turn, buffer, at),
                Source::Datagrams => {
                    let (packet, announce) = {
                        let mut queue = path.queue();
                        let packet = queue.pop_datagram();
                        let wants = if queue.has_datagrams() {
                            Wants::More
                        } else {
                            Wants::Nothing
                        };
                        let len = packet.as_ref().map_or(0, Vec::len);
                        let (_, announce) = queue.finish_turn(turn, len, wants);
                        (packet, announce)
                    };
                    if announce {
                        inner.shell.packets_ready(remote);
                    }
                    packet.map(|packet| inner.emit_whole(&packet, Room::new(buffer, at)))
                }
            };
            if emitted.is_some() {
                return emitted;
            }
        }
    }

    /// Whether something waits for `remote` that [`Stack::poll_packet`] was not asked for yet.
    #[must_use]
    pub fn has_packets(&self, remote: IpAddr) -> bool {
        let path = self.inner.known_path(remote);
        path.is_some_and(|path| !path.queue().is_empty())
    }

    /// Does what is due: marks flows ready and enforces deadlines. Early and repeated calls do nothing.
    pub fn handle_timeout(&self, now: Instant) {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        let due = inner.timers().take_due(now);
        for (at, flow) in due {
            inner.run(&flow, Some(now), |flow, moment| {
                flow.armed = flow.armed.filter(|armed| *armed != at);
                flow.handle_timeout(&inner.config, moment);
            });
        }
        inner.table.expire(now, inner.config.max_flows);
    }

    /// When [`Stack::handle_timeout`] is due. Stacks with nothing but idle connections have no such time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout().map(|at| self.inner.instant(at))
    }

    /// Tells how long a packet to `remote` and its answer take, as measured by the owner. New flows get rings that keep a
    /// gigabit per second going over that time; without it they get 1 MiB. What is open keeps what it has.
    pub fn set_round_trip(&self, remote: IpAddr, time: Duration) {
        if let Some(path) = self.inner.path(remote) {
            path.set_round_trip(time);
        }
    }

    /// The path to `remote` lost what was in flight and works again: flows with unacknowledged data repeat it at once.
    pub fn path_restored(&self, now: Instant, remote: IpAddr) {
        self.inner.restart_path(self.inner.ticks(now), remote, true);
    }

    /// The path to `remote` makes no progress: the clocks of its flows stand still, so nothing is repeated and no
    /// retransmission time grows. Connects time out all the same.
    pub fn path_stalled(&self, now: Instant, remote: IpAddr) {
        if let Some(path) = self.inner.path(remote) {
            path.stall(self.inner.ticks(now));
        }
    }

    /// The path to `remote` goes on and lost nothing.
    pub fn path_resumed(&self, now: Instant, remote: IpAddr) {
        self.inner
            .restart_path(self.inner.ticks(now), remote, false);
    }

    /// Ends all flows with `remote`, which was removed, is offline or has another key now: streams fail with
    /// `ConnectionReset` once what has arrived is read, connects and pings with `Unreachable`. Nothing is sent.
    pub fn remote_gone(&self, now: Instant, remote: IpAddr) {
        self.inner.remote_gone(self.inner.ticks(now), remote);
    }

    /// Resets every open connection with `remote`, whoever opened it, because the remote has started anew and knows nothing of them:
    /// streams fail with `ConnectionReset` once what has arrived is read. What is being opened goes on, as do datagrams and pings;
    /// see [`Stack::remote_gone`] for a remote that is not there.
    pub fn reset_remote(&self, now: Instant, remote: IpAddr) {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        for flow in inner.table.flows(|flow| flow.key.remote.ip() == remote) {
            inner.run(&flow, Some(now), |flow, _| {
                if !flow.is_opening() {
                    flow.reset(&inner.config, crate::flow::End::Reset);
                }
            });
        }
    }

    /// Whether there are flows with `remote` that have not ended. It looks at every flow of the stack.
    #[must_use]
    pub fn has_flows(&self, remote: IpAddr) -> bool {
        let with_remote = |flow: &crate::table::FlowCell| flow.key.remote.ip() == remote;
        !self.inner.table.flows(with_remote).is_empty()
    }

    /// Resets the inbound flows that `keep` does not want any more. It must not call the stack.
    pub fn retain_flows(&self, now: Instant, keep: &dyn Fn(FlowInfo) -> bool) {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        let forbidden = inner.table.flows(|flow| {
            let info = FlowInfo {
                protocol: Protocol::Tcp,
                remote: flow.key.remote,
                local: flow.key.local,
            };
            flow.inbound && !keep(info)
        });
        for flow in forbidden {
            inner.run(&flow, Some(now), |flow, _| {
                flow.reset(&inner.config, crate::flow::End::Reset)
            });
        }
    }

    /// Ready once every remote has acknowledged all that programs wrote to it, and every close. Flows that programs hold and
    /// write nothing to do not count. The last one to ask is woken.
    pub fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &*self.inner;
        let mut delivered = Poll::Ready(());
        for flow in inner.table.flows(|_| true) {
            inner.run(&flow, None, |flow, _| {
                if !flow.is_delivered() {
                    flow.wakers_mut().delivered = Some(cx.waker().clone());
                    delivered = Poll::Pending;
                }
            });
        }
        delivered
    }

    /// Resets every flow, whoever opened it: programs hear `ConnectionAborted`.
    pub fn reset_flows(&self, now: Instant) {
        let inner = &*self.inner;
        let now = inner.ticks(now);
        for flow in inner.table.flows(|_| true) {
            inner.run(&flow, Some(now), |flow, _| {
                flow.reset(&inner.config, crate::flow::End::Aborted)
            });
        }
    }

    /// Opens a connection to `remote` from the stack's first address of the same family and a random free port.
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// At once for what is known at once; the future resolves to what the network has to say.
    pub fn connect(&self, now: Instant, remote: SocketAddr) -> Result<Connecting, ConnectError> {
        let flow = self.inner.connect(self.inner.ticks(now), remote)?;
        Ok(Connecting::new(self.clone(), flow))
    }

    /// Takes inbound connections to `port` on every address of the stack.
    ///
    /// # Errors
    /// If somebody listens there already, or for port 0.
    pub fn listen(&self, port: u16) -> Result<TcpListener, ListenError> {
        TcpListener::new(self.clone(), port)
    }

    /// A UDP socket on `port` of every address of the stack; 0 chooses a free one.
    ///
    /// # Errors
    /// If the port, or every port, is in use.
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, BindError> {
        UdpSocket::new(self.clone(), port)
    }

    /// Sends an echo request to `remote`. The future resolves when the reply arrives and waits for ever otherwise:
    /// its owner brings the patience. Dropping it forgets the request.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn ping(&self, now: Instant, remote: IpAddr, payload: &[u8]) -> Result<Ping, PingError> {
        Ping::new(self.clone(), now, remote, payload)
    }

    /// What the stack has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

#[cfg(test)]
mod tests;
