//! The stack as its owner sees it: takes packets and time, gives packets and deadlines; decides
//! nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::Core;
use crate::datagram::UdpSocket;
use crate::error::{BindError, ConnectError, ListenError, PingError};
use crate::flow::End;
use crate::listen::TcpListener;
use crate::ping::Ping;
use crate::shell::{Emitted, FlowInfo, Protocol, Shell};
use crate::stats::Stats;
use crate::stream::Connecting;
use crate::table::FlowCell;

/// A cheap handle on one userspace TCP/IP stack. All clones are the same stack.
#[derive(Clone)]
pub struct Stack {
    pub(crate) core: Arc<Core>,
}

impl Stack {
    /// A stack with the addresses `local`, whose clock starts at `now`. `seed` must be
    /// unpredictable: sequence numbers, ports and hash keys come from it.
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
            core: Arc::new(Core::new(config, local, now, seed, shell)),
        }
    }

    /// Takes one whole inbound IP packet. `admit` is asked, with the remote and the local end, only
    /// for what opens something new. Packets that cannot be used are counted and dropped.
    pub fn handle_packet(
        &self,
        now: Instant,
        packet: &[u8],
        admit: &dyn Fn(Protocol, SocketAddr, SocketAddr) -> bool,
    ) {
        self.core.handle_packet(now, packet, admit);
    }

    /// Appends the next packet for `remote` to `out`. Resets and answers go first, then
    /// acknowledgements and what opens and closes; then flows take turns by bytes, those that were
    /// idle before those that are busy, and UDP takes turns with them. `None`: nothing to send now.
    #[must_use]
    pub fn poll_packet(&self, now: Instant, remote: IpAddr, out: &mut Vec<u8>) -> Option<Emitted> {
        let at = out.len();
        let emitted = self.poll_packet_at(now, remote, out, at);
        out.truncate(at + emitted.map_or(0, |emitted| emitted.len));
        emitted
    }

    /// The same for an owner that keeps a buffer: the packet is written to `buffer[at..at + len]`,
    /// and the buffer grows if it is shorter. What lies after the packet is left as it is, and
    /// nothing is cleared first, which would cost about as much as the packet itself.
    #[must_use]
    pub fn poll_packet_at(
        &self,
        now: Instant,
        remote: IpAddr,
        buffer: &mut Vec<u8>,
        at: usize,
    ) -> Option<Emitted> {
        self.core.poll_packet(now, remote, buffer, at)
    }

    /// Returns whether something waits for `remote` that [`Stack::poll_packet`] was not asked for
    /// yet.
    #[must_use]
    pub fn has_packets(&self, remote: IpAddr) -> bool {
        let path = self.core.known_path(remote);
        path.is_some_and(|path| !path.queue().is_empty())
    }

    /// Does what is due: marks flows ready and enforces deadlines. Early and repeated calls do
    /// nothing.
    pub fn handle_timeout(&self, now: Instant) {
        self.core.handle_timeout(now);
    }

    /// The time at which [`Stack::handle_timeout`] is due. Stacks with nothing but idle connections
    /// have no such time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout().map(|at| self.core.instant(at))
    }

    /// Tells how long a packet to `remote` and its answer take, as measured by the owner. New flows
    /// get rings that keep a gigabit per second going over that time; without it they get 1 MiB.
    /// What is open keeps what it has.
    pub fn set_round_trip(&self, remote: IpAddr, time: Duration) {
        if let Some(path) = self.core.path(remote) {
            path.set_round_trip(time);
        }
    }

    /// The path to `remote` lost what was in flight and works again: flows with unacknowledged data
    /// repeat it at once.
    pub fn path_restored(&self, now: Instant, remote: IpAddr) {
        self.core.restart_path(self.core.ticks(now), remote, true);
    }

    /// The path to `remote` makes no progress: the clocks of its flows stand still, so nothing is
    /// repeated and no retransmission time grows. Connects time out all the same.
    pub fn path_stalled(&self, now: Instant, remote: IpAddr) {
        if let Some(path) = self.core.path(remote) {
            path.clock.stall(self.core.ticks(now));
        }
    }

    /// The path to `remote` goes on and lost nothing.
    pub fn path_resumed(&self, now: Instant, remote: IpAddr) {
        self.core.restart_path(self.core.ticks(now), remote, false);
    }

    /// Ends all flows with `remote`, which was removed, is offline or has another key now: streams
    /// fail with `ConnectionReset` once what has arrived is read, connects and pings with
    /// `Unreachable`. Nothing is sent.
    pub fn remote_gone(&self, now: Instant, remote: IpAddr) {
        self.core.remote_gone(self.core.ticks(now), remote);
    }

    /// Resets every open connection with `remote`, whichever side opened it, because the remote has
    /// started again and knows nothing of them: streams fail with `ConnectionReset` once what has
    /// arrived is read. What is being opened goes on, as do datagrams and pings; see
    /// [`Stack::remote_gone`] for a remote that is not there.
    pub fn reset_remote(&self, now: Instant, remote: IpAddr) {
        let core = &*self.core;
        let now = core.ticks(now);
        for flow in core.table.flows(|flow| flow.key.remote.ip() == remote) {
            core.run(&flow, Some(now), |flow, _| {
                if !flow.is_opening() {
                    flow.reset(&core.config, End::Reset);
                }
            });
        }
    }

    /// Returns whether there are flows with `remote` that have not ended. It looks at every flow of
    /// the stack.
    #[must_use]
    pub fn has_flows(&self, remote: IpAddr) -> bool {
        let with_remote = |flow: &FlowCell| flow.key.remote.ip() == remote;
        !self.core.table.flows(with_remote).is_empty()
    }

    /// Ends all that `keep` does not want any more, whichever side opened it. Connections are reset
    /// at both ends; a contact by datagrams is dropped, and sending to it fails with
    /// `PermissionDenied` until `keep` wants it again or the remote, if it may, begins again; pings
    /// fail with [`PingError::Forbidden`]. `keep` must not call the stack.
    pub fn retain_flows(&self, now: Instant, keep: &dyn Fn(FlowInfo) -> bool) {
        let core = &*self.core;
        let now = core.ticks(now);
        let forbidden = core.table.flows(|flow| {
            !keep(FlowInfo {
                protocol: Protocol::Tcp,
                inbound: flow.inbound,
                remote: flow.key.remote,
                local: flow.key.local,
            })
        });
        for flow in forbidden {
            core.run(&flow, Some(now), |flow, _| {
                flow.reset(&core.config, End::Reset)
            });
        }
        let port_to = |protocol, local, remote, inbound| FlowInfo {
            protocol,
            inbound,
            remote,
            local: SocketAddr::new(unspecified(remote.ip()), local),
        };
        for mailbox in core.mailboxes.all() {
            let local = mailbox.port;
            mailbox.retain(|remote, inbound| keep(port_to(Protocol::Udp, local, remote, inbound)));
        }
        core.echoes.retain(PingError::Forbidden, |remote| {
            keep(port_to(
                Protocol::Icmp,
                0,
                SocketAddr::new(remote, 0),
                false,
            ))
        });
    }

    /// Ready once every remote has acknowledged all that programs wrote to it, and every close.
    /// Flows that programs hold and write nothing to do not count. The last one to ask is woken.
    pub fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = &*self.core;
        let mut delivered = Poll::Ready(());
        for flow in core.table.flows(|_| true) {
            core.run(&flow, None, |flow, _| {
                if !flow.is_delivered() {
                    flow.wakers_mut().delivered = Some(cx.waker().clone());
                    delivered = Poll::Pending;
                }
            });
        }
        delivered
    }

    /// Resets every flow, whichever side opened it: programs get `ConnectionAborted`.
    pub fn reset_flows(&self, now: Instant) {
        let core = &*self.core;
        let now = core.ticks(now);
        for flow in core.table.flows(|_| true) {
            core.run(&flow, Some(now), |flow, _| {
                flow.reset(&core.config, End::Aborted)
            });
        }
    }

    /// Opens a connection to `remote` from the stack's first address of the same family and a
    /// random free port. Dropping the future gives up.
    ///
    /// # Errors
    /// At once for what is known at once; the future resolves to what the network has to say.
    pub fn connect(&self, now: Instant, remote: SocketAddr) -> Result<Connecting, ConnectError> {
        let flow = self.core.connect(self.core.ticks(now), remote)?;
        Ok(Connecting::new(self.core.clone(), flow))
    }

    /// Takes inbound connections to `port` on every address of the stack.
    ///
    /// # Errors
    /// If the port has a listener already, or is 0.
    pub fn listen(&self, port: u16) -> Result<TcpListener, ListenError> {
        TcpListener::new(self.core.clone(), port)
    }

    /// A UDP socket on `port` of every address of the stack; 0 chooses a free one.
    ///
    /// # Errors
    /// If the port, or every port, is in use.
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, BindError> {
        UdpSocket::new(self.core.clone(), port)
    }

    /// Sends an echo request to `remote`. The future resolves when the reply arrives and waits for
    /// ever otherwise: its owner brings the patience. Dropping it forgets the request.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn ping(&self, now: Instant, remote: IpAddr, payload: &[u8]) -> Result<Ping, PingError> {
        Ping::new(self.core.clone(), now, remote, payload)
    }

    /// The counters of the stack.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

/// The address of the same family that names no host.
fn unspecified(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests;
