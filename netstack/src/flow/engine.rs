//! The engine of one flow: decides how smoltcp is set up, and what of the remote's data reaches it.

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Duration;
use smoltcp::wire::HardwareAddress;

use super::{Ticks, ticks};
use crate::arena::{RingPair, SocketsOnRings};
use crate::config::Config;
use crate::device::{Blocked, Room, Wire};
use crate::packet::{self, Tcp};
use crate::table::FlowKey;

/// The smoltcp interface of exactly one socket: with more, every packet would be compared with every socket.
pub(super) struct Engine {
    pub(super) interface: Interface,
    pub(super) sockets: SocketsOnRings,
    handle: SocketHandle,
}

impl Engine {
    pub(super) fn new(config: &Config, rings: RingPair, seed: u64, clock: i64) -> Engine {
        let mut interface_config = InterfaceConfig::new(HardwareAddress::Ip);
        interface_config.random_seed = seed;
        let mut nothing = Vec::new();
        let mut wire = Wire {
            mtu: config.mtu,
            inbound: None,
            outbound: Room::new(&mut nothing, 0),
        };
        let mut interface = Interface::new(interface_config, &mut wire, ticks(clock));
        // The table has matched the addresses already.
        interface.set_any_ip(true);
        let mut handle = SocketHandle::default();
        let sockets = SocketsOnRings::new(rings, |rx, tx| {
            let mut sockets = SocketSet::new(Vec::with_capacity(1));
            handle = sockets.add(socket_on(SocketBuffer::new(rx), SocketBuffer::new(tx)));
            sockets
        });
        Engine {
            interface,
            sockets,
            handle,
        }
    }

    /// Starts to open towards the remote. Returns whether the engine took it.
    pub(super) fn connect(&mut self, key: &FlowKey) -> bool {
        let (handle, interface) = (self.handle, &mut self.interface);
        self.sockets.with(|sockets| {
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            socket
                .connect(interface.context(), key.remote, key.local)
                .is_ok()
        })
    }

    /// Takes the packet of `wire`, if there is one.
    pub(super) fn ingress(&mut self, clock: i64, wire: &mut Wire<'_>) {
        let interface = &mut self.interface;
        self.sockets.with(|sockets| {
            interface.poll_ingress_single(ticks(clock), wire, sockets);
        });
    }

    /// Puts the next packet into `wire`, if there is one.
    pub(super) fn egress(&mut self, clock: i64, wire: &mut Wire<'_>) {
        let interface = &mut self.interface;
        self.sockets.with(|sockets| {
            interface.poll_egress(ticks(clock), wire, sockets);
        });
    }

    /// Lets the time of everything that is not acknowledged be up at `clock`: it counts as not sent, and its round trip is not
    /// measured. Nothing goes out.
    pub(super) fn expire(&mut self, clock: i64, mtu: usize) {
        let interface = &mut self.interface;
        self.sockets.with(|sockets| {
            interface.poll_egress(ticks(clock), &mut Blocked { mtu }, sockets);
        });
    }

    pub(super) fn poll_at(&mut self, clock: i64) -> Option<Ticks> {
        self.interface.poll_at(ticks(clock), self.sockets.get())
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.sockets.get().get(self.handle)
    }

    pub(super) fn with_socket<R>(&mut self, work: impl for<'a> FnOnce(&mut Socket<'a>) -> R) -> R {
        let handle = self.handle;
        self.sockets.with(|sockets| work(sockets.get_mut(handle)))
    }
}

fn socket_on<'a>(rx: SocketBuffer<'a>, tx: SocketBuffer<'a>) -> Socket<'a> {
    let mut socket = Socket::new(rx, tx);
    socket.set_nagle_enabled(false);
    // The answer of a program that answers at once carries the acknowledgement: a round trip is two packets, not four. More
    // than one segment is acknowledged at once.
    socket.set_ack_delay(Some(ACK_DELAY));
    // Explicit, because another crate's features may change the default. The tunnel below does it.
    socket.set_congestion_control(CongestionControl::None);
    socket.set_tsval_generator(None);
    socket.set_hop_limit(Some(packet::HOP_LIMIT));
    // Would kill idle connections.
    socket.set_timeout(None);
    socket.set_keep_alive(None);
    socket
}

/// Time that a program has for its answer; far below any time after which the remote repeats what was not acknowledged.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// What the remote may send. The engine has a check of its own that a hostile remote can get past.
#[derive(Debug)]
pub(super) struct Window {
    /// The remote's first sequence number, once it is known.
    pub(super) start: Option<u32>,
    /// Bytes the program has read, modulo 2^32.
    pub(super) read: u32,
    /// One past the furthest byte let in, once there was one.
    pub(super) reach: Option<u32>,
    pub(super) capacity: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Window {
        Window {
            start: None,
            read: 0,
            reach: None,
            capacity,
        }
    }

    pub(super) fn admits(&self, tcp: &Tcp) -> bool {
        self.end_of(tcp) <= self.capacity as i64
    }

    /// Takes note of data that is let in.
    pub(super) fn note(&mut self, tcp: &Tcp) {
        if tcp.payload_len == 0 || self.start.is_none() {
            return;
        }
        let end = tcp
            .seq
            .wrapping_add(u32::from(tcp.syn))
            .wrapping_add(tcp.payload_len as u32);
        if self
            .reach
            .is_none_or(|reach| (end.wrapping_sub(reach) as i32) > 0)
        {
            self.reach = Some(end);
        }
    }

    /// How far into the ring the data of a segment may be put, in bytes beyond the first unread one.
    pub(super) fn extent(&self, tcp: &Tcp) -> usize {
        match (tcp.payload_len, self.start) {
            (0, _) => 0,
            (len, None) => len,
            // A SYN among the data moves it by one.
            (_, Some(_)) => usize::try_from(self.end_of(tcp) + 1).unwrap_or(0),
        }
    }

    /// Whether no byte is in the ring, read or not yet in order.
    pub(super) fn is_empty(&self) -> bool {
        match (self.reach, self.start) {
            (Some(reach), Some(_)) => reach == self.first_free(),
            _ => true,
        }
    }

    /// Where a segment's data ends, in bytes beyond the first unread one.
    fn end_of(&self, tcp: &Tcp) -> i64 {
        if self.start.is_none() {
            return 0;
        }
        let offset = i64::from(tcp.seq.wrapping_sub(self.first_free()) as i32);
        offset + tcp.payload_len as i64
    }

    /// The sequence number of the first byte the program has not read.
    fn first_free(&self) -> u32 {
        let start = self.start.unwrap_or(0);
        start.wrapping_add(1).wrapping_add(self.read)
    }
}
