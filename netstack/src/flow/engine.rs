//! The engine of one flow: decides how smoltcp is set up, and what of the remote's data reaches it.

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::wire::HardwareAddress;

use super::ticks;
use crate::config::Config;
use crate::device::Wire;
use crate::packet::{self, Tcp};

/// The smoltcp interface of exactly one socket: with more, every packet would be compared with every socket.
pub(super) struct Engine {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) handle: SocketHandle,
}

impl Engine {
    pub(super) fn new(config: &Config, seed: u64, clock: i64) -> Engine {
        let mut interface_config = InterfaceConfig::new(HardwareAddress::Ip);
        interface_config.random_seed = seed;
        let mut nothing = Vec::new();
        let mut wire = Wire {
            mtu: config.mtu,
            inbound: None,
            outbound: &mut nothing,
        };
        let mut interface = Interface::new(interface_config, &mut wire, ticks(clock));
        // The table has matched the addresses already.
        interface.set_any_ip(true);
        let rx = SocketBuffer::new(vec![0; config.rx_ring]);
        let tx = SocketBuffer::new(vec![0; config.tx_ring]);
        let mut socket = Socket::new(rx, tx);
        socket.set_nagle_enabled(false);
        // Acknowledgements are merged by when they are polled, not by a timer.
        socket.set_ack_delay(None);
        // Explicit, because another crate's features may change the default. The tunnel below does it.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_tsval_generator(None);
        socket.set_hop_limit(Some(packet::HOP_LIMIT));
        // Would kill idle connections.
        socket.set_timeout(None);
        socket.set_keep_alive(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Engine {
            interface,
            sockets,
            handle,
        }
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// What the remote may send. The engine has a check of its own that a hostile remote can get past.
#[derive(Debug)]
pub(super) struct Window {
    /// The remote's first sequence number, once it is known.
    pub(super) start: Option<u32>,
    /// Bytes the program has read, modulo 2^32.
    pub(super) read: u32,
    pub(super) capacity: usize,
}

impl Window {
    pub(super) fn admits(&self, tcp: &Tcp) -> bool {
        let Some(start) = self.start else { return true };
        let first_free = start.wrapping_add(1).wrapping_add(self.read);
        let offset = i64::from(tcp.seq.wrapping_sub(first_free) as i32);
        offset + tcp.payload_len as i64 <= self.capacity as i64
    }
}
