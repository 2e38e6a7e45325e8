//! The wire between two stacks: delay, loss, reordering, duplicates, cuts; and a clock that jumps
//! to the next event.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::{Config, Protocol, Shell, Stack, TcpListener, TcpStream};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) nodes: [Node; 2],
    /// From A to B, and from B to A.
    pub(super) links: [Link; 2],
    random: fastrand::Rng,
    events_now: u32,
    sequence: u64,
    scratch: Vec<u8>,
}

pub(super) struct Node {
    pub(super) stack: Stack,
    pub(super) admits: bool,
    shell: Arc<Signals>,
    /// The answer that the shell last got from `poll_timeout`; asked again only when it has reason
    /// to.
    timeout: Option<Instant>,
}

#[derive(Default)]
struct Signals {
    ready: Mutex<BTreeSet<IpAddr>>,
    timer: AtomicBool,
    silent: AtomicBool,
}

impl Shell for Signals {
    fn packets_ready(&self, remote: IpAddr) {
        self.ready.lock().insert(remote);
    }

    fn timer_changed(&self) {
        self.timer.store(true, Relaxed);
    }

    fn may_send(&self, _local: u16, _remote: SocketAddr) -> bool {
        !self.silent.load(Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Link {
    pub(super) delay: Duration,
    /// Chances out of 1,000.
    pub(super) loss: u64,
    pub(super) reorder: u64,
    pub(super) duplicate: u64,
    /// Everything is lost.
    pub(super) cut: bool,
    /// Nothing is pulled out of the sending stack.
    pub(super) blocked: bool,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    in_flight: BTreeMap<(Instant, u64), Vec<u8>>,
}

impl Net {
    pub(super) fn new(config: Config) -> Net {
        Net::with(config.clone(), config, 1)
    }

    pub(super) fn with(config_a: Config, config_b: Config, seed: u64) -> Net {
        let now = tokio::time::Instant::now().into_std();
        let node = |config: Config, side: usize| {
            let shell = Arc::new(Signals::default());
            let mut key = [side as u8 + 1; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let local = [address(side, false), address(side, true)];
            let stack = Stack::new(config, &local, now, key, shell.clone());
            Node {
                stack,
                admits: true,
                shell,
                timeout: None,
            }
        };
        let delay = Duration::from_millis(5);
        let link = || Link {
            delay,
            ..Link::default()
        };
        Net {
            now,
            nodes: [node(config_a, A), node(config_b, B)],
            links: [link(), link()],
            random: fastrand::Rng::with_seed(seed),
            events_now: 0,
            sequence: 0,
            scratch: Vec::new(),
        }
    }

    pub(super) fn stack(&self, side: usize) -> &Stack {
        &self.nodes[side].stack
    }

    /// From now on that side may begin no exchange of datagrams.
    pub(super) fn silence(&self, side: usize) {
        self.nodes[side].shell.silent.store(true, Relaxed);
    }

    /// Does everything that can be done without time passing. Returns whether anything was.
    pub(super) fn settle(&mut self) -> bool {
        let mut any = false;
        loop {
            let moved = self.pull(A) | self.pull(B) | self.deliver(A) | self.deliver(B);
            if !moved {
                return any;
            }
            any = true;
        }
    }

    /// Lets time pass until the next event, and handles it. Returns whether there was one before
    /// `limit`.
    pub(super) fn advance(&mut self, limit: Instant) -> bool {
        self.settle();
        for node in &mut self.nodes {
            if node.shell.timer.swap(false, Relaxed) {
                node.timeout = node.stack.poll_timeout();
            }
        }
        let arrivals = self
            .links
            .iter()
            .filter_map(|link| Some(link.in_flight.first_key_value()?.0.0));
        let timeouts = self.nodes.iter().filter_map(|node| node.timeout);
        let Some(next) = arrivals.chain(timeouts).min().filter(|next| *next <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        // A clock that stands still while events go on is a spin.
        self.events_now = if next > self.now {
            0
        } else {
            self.events_now + 1
        };
        assert!(
            self.events_now < 1_000,
            "spins: {:?} {:?}",
            self.stack(A).stats(),
            self.stack(B).stats()
        );
        self.now = self.now.max(next);
        for node in &mut self.nodes {
            if node.timeout.is_some_and(|at| at <= self.now) {
                node.stack.handle_timeout(self.now);
                node.shell.timer.store(false, Relaxed);
                node.timeout = node.stack.poll_timeout();
            }
        }
        self.settle();
        true
    }

    /// Lets time pass until `done`; panics if that takes longer than `limit`.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Net) -> bool,
    ) -> Duration {
        let start = self.now;
        self.settle();
        while !done(self) {
            let more = self.advance(start + limit);
            self.settle();
            assert!(
                more || done(self),
                "not done after {limit:?}: {:?} {:?}",
                self.stack(A).stats(),
                self.stack(B).stats()
            );
            if !more {
                break;
            }
        }
        self.now - start
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.advance(end) {}
        self.settle();
    }

    fn pull(&mut self, side: usize) -> bool {
        if self.links[side].blocked {
            return false;
        }
        let mut any = false;
        loop {
            let Some(remote) = self.nodes[side].shell.ready.lock().pop_first() else {
                return any;
            };
            loop {
                self.scratch.clear();
                let emitted =
                    self.nodes[side]
                        .stack
                        .poll_packet(self.now, remote, &mut self.scratch);
                let Some(emitted) = emitted else { break };
                assert_eq!(emitted.len, self.scratch.len());
                any = true;
                self.send(side);
            }
        }
    }

    fn send(&mut self, side: usize) {
        let (lost, late, twice) = (self.roll(), self.roll(), self.roll());
        let link = &mut self.links[side];
        link.packets += 1;
        link.bytes += self.scratch.len() as u64;
        if link.cut || lost < link.loss {
            return;
        }
        let extra = if late < link.reorder {
            link.delay
        } else {
            Duration::ZERO
        };
        let copies = if twice < link.duplicate { 2 } else { 1 };
        for _ in 0..copies {
            self.sequence += 1;
            link.in_flight.insert(
                (self.now + link.delay + extra, self.sequence),
                self.scratch.clone(),
            );
        }
    }

    fn deliver(&mut self, side: usize) -> bool {
        let mut any = false;
        while let Some(first) = self.links[side].in_flight.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            let packet = first.remove();
            let node = &self.nodes[1 - side];
            let admits = node.admits;
            node.stack
                .handle_packet(self.now, &packet, &|_: Protocol, _, _| admits);
            any = true;
        }
        any
    }

    /// Loses what is under way.
    pub(super) fn lose_in_flight(&mut self) {
        for link in &mut self.links {
            link.in_flight.clear();
        }
    }

    /// Takes what is under way off the wire.
    pub(super) fn hold_in_flight(&mut self) -> [Vec<Vec<u8>>; 2] {
        [A, B].map(|side| {
            std::mem::take(&mut self.links[side].in_flight)
                .into_values()
                .collect()
        })
    }

    /// Puts it back, to arrive now.
    pub(super) fn release_in_flight(&mut self, held: [Vec<Vec<u8>>; 2]) {
        for (link, packets) in self.links.iter_mut().zip(held) {
            for packet in packets {
                self.sequence += 1;
                link.in_flight.insert((self.now, self.sequence), packet);
            }
        }
    }

    fn roll(&mut self) -> u64 {
        self.random.u64(..1_000)
    }

    /// A connection from A to `port` of B, whose listener must exist.
    pub(super) fn pair(&mut self, listener: &TcpListener, v6: bool) -> (TcpStream, TcpStream) {
        let remote = SocketAddr::new(address(B, v6), listener.port());
        let mut connecting = pin!(self.stack(A).connect(self.now, remote).unwrap());
        let mut accepted = None;
        let mut connected = None;
        self.until(Duration::from_secs(60), |_| {
            if accepted.is_none() {
                accepted = poll(pin!(listener.accept())).map(|incoming| incoming.accept());
            }
            if connected.is_none() {
                connected = poll(connecting.as_mut()).map(|connected| connected.unwrap());
            }
            accepted.is_some() && connected.is_some()
        });
        // The last acknowledgement of the handshake is under way.
        self.pass(self.links[A].delay);
        (connected.unwrap(), accepted.unwrap())
    }
}

pub(super) fn address(side: usize, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, side as u16 + 1])
    } else {
        IpAddr::from([100, 64, 0, side as u8 + 1])
    }
}

/// Small rings, so that windows close and rings wrap.
pub(super) fn small() -> Config {
    Config {
        mtu: 1_500,
        rx_ring: 65_535,
        tx_ring: 65_535,
        ..Config::default()
    }
}

pub(super) fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A program that sends some bytes, closes, and keeps what it reads.
pub(super) struct Program<'a> {
    stream: &'a TcpStream,
    to_send: &'a [u8],
    shut: bool,
    pub(super) received: Vec<u8>,
    pub(super) eof: bool,
}

impl<'a> Program<'a> {
    pub(super) fn new(stream: &'a TcpStream, to_send: &'a [u8]) -> Program<'a> {
        Program {
            stream,
            to_send,
            shut: false,
            received: Vec::new(),
            eof: false,
        }
    }

    /// Moves what can be moved.
    pub(super) fn work(&mut self) {
        while !self.to_send.is_empty() {
            match self.stream.try_write(self.to_send) {
                Ok(sent) => self.to_send = &self.to_send[sent..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("write failed: {error}"),
            }
        }
        if self.to_send.is_empty() && !self.shut {
            self.shut = true;
            self.stream.try_shutdown();
        }
        let mut buffer = [0; 16_384];
        while !self.eof {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => self.eof = true,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("read failed: {error}"),
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.shut && self.eof
    }
}
