//! Workloads of two joined stacks: packets of one go straight into the other, in virtual time.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use overlan_netstack::{Config, Shell, Stack, TcpListener, TcpStream};
use overlan_protocol::OVERLAY_MTU;
use parking_lot::Mutex;

use crate::trouble::{During, Result, Trouble};

/// `count` full packets of data one way, with their acknowledgements.
pub(super) fn bulk(count: u64) -> Result<()> {
    let mut pair = Pair::new()?;
    let (client, server) = pair.open()?;
    let mut cx = Context::from_waker(Waker::noop());
    let total = count as usize * (OVERLAY_MTU - HEADERS);
    let (mut sent, mut received) = (0, 0);
    while received < total {
        let before = received;
        let left = total - sent;
        if let Poll::Ready(filled) = client.poll_fill(&mut cx, |room| Ok(room.len().min(left))) {
            sent += filled.during("filling")?;
        }
        pair.exchange();
        while let Poll::Ready(drained) = server.poll_drain(&mut cx, |bytes| Ok(bytes.len())) {
            received += drained.during("draining")?;
        }
        pair.exchange();
        if received == before {
            pair.expire()?;
        }
    }
    Ok(())
}

/// `count` requests of 64 bytes and their echoes on one stream.
pub(super) fn small(count: u64) -> Result<()> {
    let mut pair = Pair::new()?;
    let (client, server) = pair.open()?;
    for _ in 0..count {
        pair.echo(&client, &server)?;
    }
    Ok(())
}

/// `count` streams: each is opened, carries one request and its echo, and is closed by both.
pub(super) fn flows(count: u64) -> Result<()> {
    let mut pair = Pair::new()?;
    for _ in 0..count {
        let (client, server) = pair.open()?;
        pair.echo(&client, &server)?;
        client.try_shutdown();
        pair.exchange();
        server.try_shutdown();
        pair.exchange();
        drop((client, server));
        pair.exchange();
    }
    Ok(())
}

/// Virtual time between two exchanges.
pub(super) const STEP: Duration = Duration::from_micros(50);

struct Pair {
    near: End,
    far: End,
    listener: TcpListener,
    now: Instant,
    packet: Vec<u8>,
}

struct End {
    stack: Stack,
    ready: Arc<Ready>,
}

/// The remotes for which packets wait.
#[derive(Default)]
struct Ready(Mutex<BTreeSet<IpAddr>>);

impl Shell for Ready {
    fn packets_ready(&self, remote: IpAddr) {
        self.0.lock().insert(remote);
    }

    fn timer_changed(&self) {}
}

impl End {
    fn new(local: [u8; 4], now: Instant) -> Self {
        let ready = Arc::new(Ready::default());
        let seed = [local[3]; 32];
        let stack = Stack::new(Config::default(), &[local.into()], now, seed, ready.clone());
        Self { stack, ready }
    }

    fn hand_over(&self, other: &Self, now: Instant, packet: &mut Vec<u8>) -> bool {
        let next = self.ready.0.lock().pop_first();
        let Some(remote) = next else {
            return false;
        };
        while let Some(emitted) = self.stack.poll_packet_at(now, remote, packet, 0) {
            let bytes = &packet[..emitted.len];
            other.stack.handle_packet(now, bytes, &|_, _, _| true);
        }
        true
    }
}

impl Pair {
    fn new() -> Result<Self> {
        let now = Instant::now();
        let far = End::new(FAR, now);
        Ok(Self {
            listener: far.stack.listen(PORT).during("listening")?,
            near: End::new(NEAR, now),
            far,
            now,
            packet: Vec::new(),
        })
    }

    /// Lets a moment pass and carries packets to and fro until there are none.
    fn exchange(&mut self) {
        self.now += STEP;
        for end in [&self.near, &self.far] {
            if end.stack.poll_timeout().is_some_and(|due| due <= self.now) {
                end.stack.handle_timeout(self.now);
            }
        }
        let (near, far) = (&self.near, &self.far);
        while near.hand_over(far, self.now, &mut self.packet)
            | far.hand_over(near, self.now, &mut self.packet)
        {}
    }

    /// Lets time pass until one of the stacks has something to do.
    fn expire(&mut self) -> Result<()> {
        let due = [&self.near, &self.far]
            .into_iter()
            .filter_map(|end| end.stack.poll_timeout())
            .min()
            .ok_or_else(|| Trouble::failed("the stream stands still"))?;
        self.now = self.now.max(due);
        self.exchange();
        Ok(())
    }

    fn open(&mut self) -> Result<(TcpStream, TcpStream)> {
        let mut cx = Context::from_waker(Waker::noop());
        let remote = SocketAddr::from((FAR, PORT));
        let connecting = self.near.stack.connect(self.now, remote);
        let mut connecting = connecting.during("connecting")?;
        self.exchange();
        let Poll::Ready(incoming) = self.listener.poll_accept(&mut cx) else {
            return Err(Trouble::failed("nobody came"));
        };
        let server = incoming.accept();
        self.exchange();
        match Pin::new(&mut connecting).poll(&mut cx) {
            Poll::Ready(client) => Ok((client.during("connecting")?, server)),
            Poll::Pending => Err(Trouble::failed("nobody answered")),
        }
    }

    fn echo(&mut self, client: &TcpStream, server: &TcpStream) -> Result<()> {
        let mut request = [0x71; 64];
        for (from, to) in [(client, server), (server, client)] {
            let written = from.try_write(&request).during("writing")?;
            self.exchange();
            let read = to.try_read(&mut request).during("reading")?;
            if written != request.len() || read != request.len() {
                return Err(Trouble::failed("a message was cut"));
            }
        }
        Ok(())
    }
}

const NEAR: [u8; 4] = [100, 64, 0, 1];
const FAR: [u8; 4] = [100, 64, 0, 2];
const PORT: u16 = 7;

/// Bytes of the IPv4 and TCP headers of a packet with data.
const HEADERS: usize = 40;
