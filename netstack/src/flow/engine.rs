//! The engine of one flow: decides how smoltcp is set up and which pages of the rings it may use.

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant as Ticks};
use smoltcp::wire::HardwareAddress;

use super::window::Window;
use crate::arena::{RingPair, SocketsOnRings};
use crate::config::Config;
use crate::device::{Blocked, Room, Wire};
use crate::key::FlowKey;
use crate::packet::{self, Tcp};

/// The smoltcp interface of exactly one socket: with more, every packet would be compared with
/// every socket (<https://github.com/smoltcp-rs/smoltcp/pull/934>).
pub(super) struct Engine {
    pub(super) interface: Interface,
    pub(super) sockets: SocketsOnRings,
    handle: SocketHandle,
    /// Bytes the program has read since the receive ring was last given back, up to its size.
    rx_passed: usize,
    /// Bytes the program has written since the transmit ring was last empty.
    tx_run: usize,
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
            rx_passed: 0,
            tx_run: 0,
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

    /// Waits for a SYN and does not answer it before `accept`. Returns whether the engine took it.
    pub(super) fn listen(&mut self, key: &FlowKey) -> bool {
        self.with_socket(|socket| {
            // Made for proxies that answer once they have connected themselves:
            // <https://github.com/smoltcp-rs/smoltcp/pull/1063>.
            socket.pause_synack(true);
            socket.listen(key.local).is_ok()
        })
    }

    /// Lets the SYN-ACK go.
    pub(super) fn accept(&mut self) {
        self.with_socket(|socket| socket.pause_synack(false));
    }

    /// Sends a FIN after what is queued.
    pub(super) fn close(&mut self) {
        self.with_socket(|socket| {
            // No answer follows that could carry an acknowledgement, and the engine would delay
            // small window updates with it: <https://github.com/smoltcp-rs/smoltcp/pull/935>.
            socket.set_ack_delay(None);
            socket.close();
        });
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

    /// Lets the time of everything that is not acknowledged be up at `clock`: it counts as not
    /// sent, and its round trip is not measured. Nothing goes out.
    pub(super) fn expire(&mut self, clock: i64, mtu: usize) {
        let interface = &mut self.interface;
        self.sockets.with(|sockets| {
            interface.poll_egress(ticks(clock), &mut Blocked { mtu }, sockets);
        });
    }

    pub(super) fn poll_at(&mut self, clock: i64) -> Option<Ticks> {
        self.interface.poll_at(ticks(clock), self.sockets.get())
    }

    pub(super) fn state(&self) -> State {
        self.socket().state()
    }

    /// Bytes the program may read.
    pub(super) fn unread(&self) -> usize {
        // In the half-open state the bytes may still be replaced by those of another SYN.
        if is_opening(self.state()) {
            return 0;
        }
        self.socket().recv_queue()
    }

    /// Bytes the program has written and the remote has not acknowledged.
    pub(super) fn unsent(&self) -> usize {
        self.socket().send_queue()
    }

    /// Returns whether a segment that `window` admits finds memory in the receive ring, and takes
    /// note that it is used.
    pub(super) fn make_room(&mut self, window: &Window, tcp: &Tcp) -> bool {
        let (extent, capacity) = (window.extent(tcp), window.capacity);
        let mut reached = (self.rx_passed + extent).min(capacity);
        if !self.sockets.rx.has_room(reached, false) {
            // There is nothing after what was read: the same pages can be used from their start.
            let is_empty = window.is_empty();
            if is_empty {
                self.sockets.reclaim_rx();
                self.rx_passed = 0;
                reached = extent.min(capacity);
            }
            if !self.sockets.rx.has_room(reached, is_empty) {
                return false;
            }
        }
        self.sockets.rx.touch(reached);
        true
    }

    /// Gives the pages of both rings, which are empty, back to the kernel.
    pub(super) fn reclaim(&mut self) {
        self.sockets.reclaim();
        self.rx_passed = 0;
    }

    /// Lets `take` have what lies in one piece of the receive ring. Returns the bytes taken and its
    /// result, or `None` where the engine does not allow to read.
    pub(super) fn read<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> (usize, Option<R>) {
        let mut taken = 0;
        let result = self.with_socket(|socket| {
            socket.recv(|bytes| {
                let (count, result) = take(bytes);
                taken = count;
                (count, result)
            })
        });
        self.rx_passed = (self.rx_passed + taken).min(self.sockets.rx.len());
        (taken, result.ok())
    }

    /// Bytes of the transmit ring that may be written now, of the `share` that the flow may have
    /// queued.
    pub(super) fn room_to_write(&self, share: usize) -> usize {
        let queued = self.unsent();
        self.socket()
            .send_capacity()
            .min(share)
            .saturating_sub(queued)
            .min(
                self.sockets
                    .tx
                    .reach()
                    .saturating_sub(self.run_from(queued)),
            )
    }

    /// Lets `fill` have the first `room` bytes, as far as they lie in one piece. `None` where the
    /// engine does not allow to write.
    pub(super) fn write<R>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Option<R> {
        let before = self.run_from(self.unsent());
        let mut filled = 0;
        let sent = self.with_socket(|socket| {
            socket.send(|piece| {
                let len = piece.len().min(room);
                let (count, result) = fill(&mut piece[..len]);
                filled = count;
                (count, result)
            })
        });
        self.tx_run = (before + filled).min(self.sockets.tx.len());
        self.sockets.tx.touch(self.tx_run);
        sent.ok()
    }

    /// Returns whether a writer that waits is worth waking: each wake-up moves a good piece.
    pub(super) fn is_writable(&self, share: usize) -> bool {
        let socket = self.socket();
        let limit = socket.send_capacity().min(share);
        let free = limit.saturating_sub(socket.send_queue());
        let has_memory = socket.send_queue() == 0 || self.sockets.tx.reach() > self.tx_run;
        !socket.may_send() || free >= limit / WRITER_SHARE && has_memory
    }

    pub(super) fn abort(&mut self) {
        self.with_socket(|socket| socket.abort());
    }

    /// The place in the transmit ring, counted from where it was last empty, at which the next
    /// bytes go.
    fn run_from(&self, queued: usize) -> usize {
        // An empty ring is filled from its start.
        if queued == 0 { 0 } else { self.tx_run }
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get().get(self.handle)
    }

    fn with_socket<R>(&mut self, work: impl for<'a> FnOnce(&mut Socket<'a>) -> R) -> R {
        let handle = self.handle;
        self.sockets.with(|sockets| work(sockets.get_mut(handle)))
    }
}

pub(super) fn is_opening(state: State) -> bool {
    matches!(state, State::Listen | State::SynSent | State::SynReceived)
}

pub(super) fn ticks(clock: i64) -> Ticks {
    Ticks::from_micros(clock)
}

fn socket_on<'a>(rx: SocketBuffer<'a>, tx: SocketBuffer<'a>) -> Socket<'a> {
    let mut socket = Socket::new(rx, tx);
    socket.set_nagle_enabled(false);
    // The answer of a program that answers at once carries the acknowledgement: a round trip is two
    // packets, not four. One acknowledgement serves several segments.
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

/// Time that a program has for its answer; far below any time after which the remote repeats what
/// was not acknowledged.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// A writer that waits is woken when a quarter of the ring is free.
const WRITER_SHARE: usize = 4;
