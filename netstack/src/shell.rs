//! The words between a stack and its owner; decides nothing.

use std::net::{IpAddr, SocketAddr};

/// The owner of a stack, as the stack calls it: without any lock of the stack held, and from the
/// thread that caused it. It must not block. A shell that holds its stack should hold it weakly, or
/// neither is ever dropped.
pub trait Shell: Send + Sync + 'static {
    /// Packets for `remote` are waiting: call [`Stack::poll_packet`](crate::Stack::poll_packet)
    /// until it returns `None`. Not called again for that remote until then.
    fn packets_ready(&self, remote: IpAddr);
    /// [`Stack::poll_timeout`](crate::Stack::poll_timeout) is earlier than what it last returned.
    fn timer_changed(&self);
    /// Returns whether a program may send its first datagram from our port `local` to `remote`.
    /// Asked once for each pair; later [`Stack::retain_flows`](crate::Stack::retain_flows) asks.
    fn may_send(&self, _local: u16, _remote: SocketAddr) -> bool {
        true
    }
}

/// The protocol of an inbound packet that opens something new.
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

/// Something that was opened and goes on: a connection, a pair of ports that exchange datagrams, or
/// an echo request that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowInfo {
    /// Its protocol. The ports of [`Protocol::Icmp`] are 0.
    pub protocol: Protocol,
    /// True if the other end opened it.
    pub inbound: bool,
    /// The other end.
    pub remote: SocketAddr,
    /// Our end; of UDP and ICMP only the port counts, and the address is unspecified.
    pub local: SocketAddr,
}
