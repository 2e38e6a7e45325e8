//! Two engines and two relays under one virtual clock. The relays are a few lines: they stamp,
//! deliver, release credit at once and say who is not there; what goes over them is written down.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use overlan_netstack::{ConnectError, TcpListener, TcpStream};
use overlan_protocol::exchange::{Batch, Exchange as _};
use overlan_protocol::frame::{self, Address, BODY_MAX, Frame, GoneReason};
use overlan_protocol::netmap::Network;

use super::*;

mod deployment;

use deployment::device;
pub(super) use deployment::{
    BACKUP, HOME, HOSTS, NETWORK, PORT, VNI, address_of, identity, netmap, network, tunnel,
};

pub(super) struct Lab {
    pub(super) now: Instant,
    pub(super) sides: [Side; 2],
    /// Relays give credit back as soon as they have delivered.
    pub(super) gives_credit: bool,
    /// The window of links that are attached from now on, bytes.
    pub(super) window: u32,
    /// DATA frames: who sent over which relay how many bytes.
    pub(super) sent: Vec<(usize, RelayId, usize)>,
    /// Sides that do nothing, as a suspended host; relays have ended their links.
    pub(super) asleep: [bool; 2],
    /// Links of sides that relays believe in: what is sent there goes nowhere, and its credit stays
    /// away.
    pub(super) zombies: Vec<(usize, RelayId)>,
    /// Links that a client's end ended.
    pub(super) ended: Vec<(usize, RelayId, LinkEnd)>,
}

pub(super) struct Side {
    pub(super) engine: Arc<Engine>,
    woken: Arc<Flag>,
    pub(super) links: BTreeMap<RelayId, Attachment>,
    /// Bytes the relay released, by relay.
    released: BTreeMap<RelayId, u64>,
    pub(super) known: KnownPeers,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Lab {
    /// Both know and trust each other and are attached to `HOME`.
    pub(super) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// The same lab, after `change` changed the netmap's network of side `usize`.
    pub(super) fn with(change: impl Fn(usize, &mut Network)) -> Self {
        let mut lab = Self::detached(change);
        lab.attach(0, HOME);
        lab.attach(1, HOME);
        lab
    }

    pub(super) fn detached(change: impl Fn(usize, &mut Network)) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let sides = [0, 1].map(|index| Side::new(index, now));
        let mut lab = Self {
            now,
            sides,
            gives_credit: true,
            window: 512 * 1024,
            sent: Vec::new(),
            asleep: [false; 2],
            zombies: Vec::new(),
            ended: Vec::new(),
        };
        for index in 0..2 {
            let distrusted = lab.tell(index, |network| change(index, network));
            assert_eq!(distrusted, []);
        }
        lab
    }

    /// Gives side `index` its netmap again, with this change.
    pub(super) fn tell(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Network),
    ) -> Vec<Distrusted> {
        let mut network = network(index);
        change(&mut network);
        let netmap = netmap(index, BTreeMap::from([(NETWORK, network)]));
        let side = &mut self.sides[index];
        side.engine.apply(self.now, &netmap, &mut side.known)
    }

    /// Side `index` was killed: no farewell is sent, and relays see the end of its connections.
    pub(super) fn kill(&mut self, index: usize) {
        self.asleep[index] = true;
    }

    /// Another process of the same device starts.
    pub(super) fn start_anew(&mut self, index: usize) {
        self.asleep[index] = false;
        self.sides[index] = Side::new(index, self.now);
        let device = LocalDevice {
            instance: [index as u8 + 100; 8],
            ..self.sides[index].engine.local.clone()
        };
        let side = &mut self.sides[index];
        let wake = side.woken.clone();
        side.engine = Engine::new(
            device,
            netstack::Config::default(),
            PATIENCE,
            [index as u8 + 101; 32],
            Box::new(move || wake.wake_by_ref()),
        );
        side.engine.handle_controller(true);
        self.tell(index, |_| {});
        self.attach(index, HOME);
    }

    /// Side `index` sleeps; relays end its links for its silence.
    pub(super) fn suspend(&mut self, index: usize) {
        self.asleep[index] = true;
    }

    /// It wakes up, finds its links dead and attaches again.
    pub(super) fn resume(&mut self, index: usize) {
        self.asleep[index] = false;
        self.end(index, HOME, LinkEnd::Silent);
        self.attach(index, HOME);
    }

    pub(super) fn attach(&mut self, index: usize, relay: RelayId) {
        let welcome = Welcome {
            version: 1,
            credit_window: self.window,
            keepalive_ms: 15_000,
            reconnect_spread_ms: 0,
        };
        let side = &mut self.sides[index];
        let link = side
            .engine
            .handle_attached(self.now, relay, &welcome, &[], index as u64);
        side.links.insert(relay, link);
        side.released.insert(relay, 0);
    }

    /// Hands a frame of the relay to a client.
    pub(super) fn deliver(
        &mut self,
        index: usize,
        relay: RelayId,
        frame: &Frame<'_>,
    ) -> Result<(), LinkEnd> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.deliver_bytes(index, relay, &mut bytes)
    }

    pub(super) fn deliver_bytes(
        &mut self,
        index: usize,
        relay: RelayId,
        bytes: &mut [u8],
    ) -> Result<(), LinkEnd> {
        let length = bytes.len();
        let link = self.sides[index].links.get_mut(&relay).unwrap();
        let taken = link.handle_bytes(self.now, bytes)?;
        assert_eq!(taken, length, "whole frames are taken whole");
        Ok(())
    }

    /// The bytes that the client puts on this link next.
    pub(super) fn fill(&mut self, index: usize, relay: RelayId) -> Vec<u8> {
        let mut out = Batch::new();
        let link = self.sides[index].links.get_mut(&relay).unwrap();
        link.fill(self.now, Waker::noop(), &mut out).unwrap();
        out.take_bytes()
    }

    /// Does what is due now until nothing moves any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for index in 0..2 {
                if self.asleep[index] {
                    continue;
                }
                let side = &self.sides[index];
                let due = side.engine.poll_timeout().is_some_and(|at| at <= self.now);
                if side.woken.0.swap(false, SeqCst) || due {
                    side.engine.handle_timeout(self.now);
                    moved = true;
                }
                for wanted in side.engine.poll_wanted() {
                    // Only the test attaches; whatever else is wanted cannot be reached.
                    if !side.links.contains_key(&wanted) {
                        side.engine.handle_attach_failed(self.now, wanted);
                    }
                }
                let relays: Vec<RelayId> = side.links.keys().copied().collect();
                for relay in relays {
                    moved |= self.run_link(index, relay);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn run_link(&mut self, index: usize, relay: RelayId) -> bool {
        let link = self.sides[index].links.get_mut(&relay).unwrap();
        if let Err(end) = link.handle_timeout(self.now) {
            self.end(index, relay, end);
            return true;
        }
        let mut out = Batch::new();
        let link = self.sides[index].links.get_mut(&relay).unwrap();
        if let Err(end) = link.fill(self.now, Waker::noop(), &mut out) {
            self.end(index, relay, end);
            return true;
        }
        let out = out.take_bytes();
        let mut rest = &out[..];
        while let Some((frame, taken)) = frame::decode(rest, BODY_MAX).unwrap() {
            let answers = self.switch(index, relay, &frame, taken);
            for (to, mut bytes) in answers {
                if let Err(end) = self.deliver_bytes(to, relay, &mut bytes) {
                    self.end(to, relay, end);
                    return true;
                }
            }
            rest = &rest[taken..];
        }
        assert!(rest.is_empty(), "a link is filled with whole frames");
        !out.is_empty()
    }

    /// Handles a frame as a relay does.
    fn switch(
        &mut self,
        index: usize,
        relay: RelayId,
        frame: &Frame<'_>,
        length: usize,
    ) -> Vec<(usize, Vec<u8>)> {
        let mut answers: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut answer = |to: usize, frame: Frame<'_>| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            answers.push((to, bytes));
        };
        match *frame {
            Frame::Ping { token } => answer(index, Frame::Pong { token }),
            Frame::Pong { .. } => {}
            Frame::Data { address, message } => {
                self.sent.push((index, relay, length));
                let other = 1 - index;
                if self.zombies.contains(&(other, relay)) {
                    return answers;
                }
                assert_eq!((address.vni, address.host), (VNI.get(), HOSTS[other].get()));
                let stamped = Address {
                    host: HOSTS[index].get(),
                    ..address
                };
                if self.sides[other].links.contains_key(&relay) && !self.asleep[other] {
                    let address = stamped;
                    answer(other, Frame::Data { address, message });
                } else {
                    let reason = GoneReason::NotHere;
                    answer(index, Frame::PeerGone { address, reason });
                }
                let released = self.sides[index].released.get_mut(&relay).unwrap();
                *released += length as u64;
                if self.gives_credit {
                    let (released, window) = (*released, self.window);
                    let credit = Frame::Credit {
                        address,
                        released,
                        window,
                    };
                    answer(index, credit);
                }
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Reject(_)
            | Frame::Drain { .. }
            | Frame::Credit { .. }
            | Frame::PeerGone { .. }
            | Frame::Unknown { .. } => panic!("a client does not send {frame:?}"),
        }
        answers
    }

    /// Ends a link as the node does when its pump returned.
    pub(super) fn end(&mut self, index: usize, relay: RelayId, end: LinkEnd) {
        let side = &mut self.sides[index];
        let link = side.links.remove(&relay).unwrap();
        side.engine.handle_detached(self.now, link);
        if matches!(end, LinkEnd::Drained | LinkEnd::Rejected(_)) {
            side.engine.handle_attach_failed(self.now, relay);
        }
        self.ended.push((index, relay, end));
    }

    /// Lets time pass, doing what is due on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..ROUNDS_MAX {
            self.settle();
            let mut due: Vec<Instant> = Vec::new();
            for (side, asleep) in self.sides.iter_mut().zip(self.asleep) {
                if asleep {
                    continue;
                }
                due.extend(side.engine.poll_timeout());
                due.extend(
                    side.links
                        .values_mut()
                        .filter_map(|link| link.poll_timeout()),
                );
            }
            match due.into_iter().min().filter(|at| *at <= until) {
                Some(at) => self.now = at.max(self.now),
                None => {
                    self.now = until;
                    return self.settle();
                }
            }
        }
        panic!("it is always due again");
    }

    /// Bytes that side `index` has sent over `relay`, as the relay counts them.
    pub(super) fn released(&self, index: usize, relay: RelayId) -> u64 {
        self.sides[index].released[&relay]
    }

    pub(super) fn engine(&self, index: usize) -> &Arc<Engine> {
        &self.sides[index].engine
    }

    pub(super) fn membership(&self, index: usize) -> Arc<Membership> {
        self.engine(index).memberships()[&NETWORK].clone()
    }

    pub(super) fn drops(&self, index: usize, reason: &str) -> u64 {
        self.engine(index).counters().drops.get(reason)
    }

    pub(super) fn listen(&self, index: usize) -> TcpListener {
        self.membership(index).stack().listen(PORT).unwrap()
    }

    /// Connects from one to the other; `None` = nothing is decided after `within`.
    pub(super) fn connect(
        &mut self,
        from: usize,
        to: SocketAddr,
        listener: &TcpListener,
        within: Duration,
    ) -> Option<Result<(TcpStream, TcpStream), ConnectError>> {
        let mut cx = Context::from_waker(Waker::noop());
        let connecting = self.membership(from).stack().connect(self.now, to);
        let mut connecting = Box::pin(match connecting {
            Ok(connecting) => connecting,
            Err(error) => return Some(Err(error)),
        });
        let until = self.now + within;
        let mut accepted = None;
        loop {
            self.settle();
            if let Poll::Ready(incoming) = listener.poll_accept(&mut cx) {
                accepted = Some(incoming.accept());
                self.settle();
            }
            match connecting.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(opener)) => return Some(Ok((opener, accepted.unwrap()))),
                Poll::Ready(Err(error)) => return Some(Err(error)),
                Poll::Pending if self.now >= until => return None,
                Poll::Pending => self.pass(STEP),
            }
        }
    }

    /// A stream from one side to the other, both ends.
    pub(super) fn open(&mut self, from: usize, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let to = address_of(1 - from);
        let opened = self.connect(from, to, listener, Duration::from_secs(3));
        opened.expect("it comes to a decision").unwrap()
    }
}

impl Side {
    fn new(index: usize, now: Instant) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let wake = woken.clone();
        let local = LocalDevice {
            device: device(index),
            instance: [index as u8; 8],
            tunnel: Arc::new(tunnel(index)),
        };
        let engine = Engine::new(
            local,
            netstack::Config::default(),
            PATIENCE,
            [index as u8 + 1; 32],
            Box::new(move || wake.wake_by_ref()),
        );
        engine.handle_controller(true);
        engine.apply(now, &netmap(index, BTreeMap::new()), &mut KnownPeers::new());
        Self {
            engine,
            woken,
            links: BTreeMap::new(),
            released: BTreeMap::new(),
            known: KnownPeers::new(),
        }
    }
}

/// Returns whether bytes pass from one end of a stream to the other, or the error of either end.
pub(super) fn pass_bytes(
    lab: &mut Lab,
    from: &TcpStream,
    to: &TcpStream,
) -> std::io::Result<Vec<u8>> {
    from.try_write(b"overlay")?;
    lab.pass(Duration::from_millis(10));
    let mut bytes = [0; 16];
    let count = to.try_read(&mut bytes)?;
    Ok(bytes[..count].to_vec())
}

/// The time between two looks at a connection that is being opened.
const STEP: Duration = Duration::from_millis(50);

/// More rounds mean that something wakes itself without end.
const ROUNDS_MAX: usize = 10_000;
