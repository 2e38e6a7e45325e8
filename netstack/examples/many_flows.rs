//! The cost of flows for each other and in memory: two stacks, no network, many connections.
//!
//! `cargo run --release -p overlan-netstack --example many_flows MODE [flows] [rounds]`, where MODE
//! is one of:
//!
//! `hot`: one small message per round, with its packet and acknowledgement, on ten of the flows
//! that are open; `spread`: on all of them at random, so that every flow is out of the cache when
//! its turn comes. `short`: open, one request, one reply, close, 16 at once. `memory`: resident
//! memory per flow of both ends together. Under `perf stat -e instructions:u` or callgrind, two
//! runs with different rounds give the instructions of one round.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Error, ErrorKind, Result, Write};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use overlan_netstack::{Config, Connecting, Shell, Stack, TcpListener, TcpStream};
use parking_lot::Mutex;

#[derive(Default)]
struct Ready(Mutex<BTreeSet<IpAddr>>);

impl Shell for Ready {
    fn packets_ready(&self, remote: IpAddr) {
        let mut ready = self.0.lock();
        ready.insert(remote);
    }

    fn timer_changed(&self) {}
}

struct End {
    stack: Stack,
    ready: Arc<Ready>,
}

impl End {
    fn new(local: [u8; 4], other: [u8; 4], now: Instant) -> End {
        let ready = Arc::new(Ready::default());
        let config = Config {
            max_flows: 200_000,
            ..Config::default()
        };
        let seed = [local[3]; 32];
        let stack = Stack::new(config, &[local.into()], now, seed, ready.clone());
        stack.set_round_trip(other.into(), Duration::ZERO);
        End { stack, ready }
    }

    fn hand_over(&self, other: &End, now: Instant, packet: &mut Vec<u8>) -> bool {
        let mut ready = self.ready.0.lock();
        let Some(remote) = ready.pop_first() else {
            return false;
        };
        drop(ready);
        loop {
            let Some(emitted) = self.stack.poll_packet_at(now, remote, packet, 0) else {
                return true;
            };
            let packet = &packet[..emitted.len];
            other.stack.handle_packet(now, packet, &|_, _, _| true);
        }
    }
}

/// Both ends, and a clock that is only moved by hand.
struct Pair {
    a: End,
    b: End,
    listener: TcpListener,
    now: Instant,
    packet: Vec<u8>,
}

impl Pair {
    fn new() -> Result<Pair> {
        let now = tokio::time::Instant::now().into_std();
        let a = End::new([100, 64, 0, 1], [100, 64, 0, 2], now);
        let b = End::new([100, 64, 0, 2], [100, 64, 0, 1], now);
        let listener = b.stack.listen(7).map_err(Error::other)?;
        Ok(Pair {
            a,
            b,
            listener,
            now,
            packet: Vec::new(),
        })
    }

    fn settle(&mut self) {
        let Pair { a, b, now, .. } = self;
        while a.hand_over(b, *now, &mut self.packet) | b.hand_over(a, *now, &mut self.packet) {}
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.a.stack.handle_timeout(self.now);
        self.b.stack.handle_timeout(self.now);
        self.settle();
    }

    /// Opens `count` flows at once.
    fn open(&mut self, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
        let mut cx = Context::from_waker(Waker::noop());
        let remote = SocketAddr::from(([100, 64, 0, 2], 7));
        let connect = |_| self.a.stack.connect(self.now, remote).map_err(Error::other);
        let connecting: Vec<Connecting> = (0..count).map(connect).collect::<Result<_>>()?;
        self.settle();
        let mut servers = Vec::with_capacity(count);
        while let Poll::Ready(incoming) = self.listener.poll_accept(&mut cx) {
            servers.push(incoming.accept());
        }
        self.settle();
        let mut pairs = Vec::with_capacity(count);
        for (mut connecting, server) in connecting.into_iter().zip(servers) {
            match Pin::new(&mut connecting).poll(&mut cx) {
                Poll::Ready(client) => pairs.push((client.map_err(Error::other)?, server)),
                Poll::Pending => return Err(ErrorKind::TimedOut.into()),
            }
        }
        Ok(pairs)
    }

    fn say(&mut self, from: &TcpStream, to: &TcpStream, data: &mut [u8]) -> Result<()> {
        from.try_write(b"one small message of sixty-four bytes, as of a busy terminal....")?;
        self.settle();
        to.try_read(data).map(drop)
    }
}

fn main() -> Result<()> {
    let argument = |number| std::env::args().nth(number);
    let count = |number| argument(number).and_then(|text: String| text.parse().ok());
    match argument(1).as_deref() {
        Some("hot") => {
            let flows = count(2).unwrap_or(10_000);
            let cost = messages(flows, flows.min(FEW), count(3).unwrap_or(ROUNDS))?;
            say(&format!("{cost:.0} ns per round"))
        }
        Some("spread") => {
            let flows = count(2).unwrap_or(10_000);
            let cost = messages(flows, flows, count(3).unwrap_or(ROUNDS))?;
            say(&format!("{cost:.0} ns per round"))
        }
        Some("short") => short(count(3).unwrap_or(100_000)),
        Some("memory") => memory(count(2).unwrap_or(9_900)),
        _ => {
            let few = messages(FEW, FEW, ROUNDS)?;
            let hot = messages(10_000, FEW, ROUNDS)?;
            let spread = messages(10_000, 10_000, ROUNDS)?;
            say(&format!(
                "a small message, its packet and acknowledgement: {few:.0} ns with 10 flows; \
                 with 10,000 open {hot:.0} ns ({:.2} times) on 10 of them, {spread:.0} ns \
                 ({:.2} times) on all of them at random",
                hot / few,
                spread / few
            ))?;
            short(100_000)?;
            memory(9_900)
        }
    }
}

const FEW: usize = 10;
const ROUNDS: usize = 500_000;

/// Nanoseconds per message on one of the first `busy` flows, the others being idle.
fn messages(flows: usize, busy: usize, rounds: usize) -> Result<f64> {
    let mut pair = Pair::new()?;
    let mut streams = Vec::new();
    while streams.len() < flows {
        streams.extend(pair.open((flows - streams.len()).min(1_000))?);
    }
    let mut data = [0; 64];
    for (client, server) in &streams {
        pair.say(client, server, &mut data)?;
    }
    let mut random = 1_u64;
    let start = tokio::time::Instant::now();
    for _ in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (client, server) = &streams[(random >> 33) as usize % busy];
        pair.say(client, server, &mut data)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / rounds as f64)
}

fn short(rounds: usize) -> Result<()> {
    const AT_ONCE: usize = 16;
    let mut pair = Pair::new()?;
    let mut data = [0; 64];
    let start = tokio::time::Instant::now();
    for _ in 0..rounds / AT_ONCE {
        let streams = pair.open(AT_ONCE)?;
        for (client, server) in &streams {
            pair.say(client, server, &mut data)?;
            pair.say(server, client, &mut data)?;
        }
        drop(streams);
        // As fast as ten thousand in a second.
        pair.pass(Duration::from_micros(100 * AT_ONCE as u64));
    }
    let stats = pair.a.stack.stats();
    let cost = start.elapsed().as_nanos() as f64 / rounds as f64;
    say(&format!(
        "open, request, reply, close: {cost:.0} ns for both ends; {} packets each; \
         {} remembered, {} bytes of ring committed",
        (stats.packets_out + stats.packets_in) / stats.flows_opened.max(1),
        stats.time_wait,
        stats.ring_committed,
    ))
}

fn memory(flows: usize) -> Result<()> {
    let mut pair = Pair::new()?;
    let before = resident()?;
    let mut streams = Vec::with_capacity(flows);
    while streams.len() < flows {
        streams.extend(pair.open((flows - streams.len()).min(1_000))?);
    }
    let opened = resident()?;
    let mut data = [0; 64];
    for (client, server) in &streams {
        pair.say(client, server, &mut data)?;
        pair.say(server, client, &mut data)?;
    }
    let echoed = resident()?;
    let start = tokio::time::Instant::now();
    pair.pass(Duration::from_millis(1_001));
    pair.pass(Duration::from_secs(30));
    let took = start.elapsed();
    let idle = resident()?;
    let each = |now: usize| (now.saturating_sub(before)) as f64 / flows as f64 / 1_024.0;
    say(&format!(
        "memory per flow, both ends: {:.1} KiB opened, {:.1} KiB after an echo, \
         {:.1} KiB after 30 s idle; giving back took {:.1} µs per flow; {} timers left",
        each(opened),
        each(echoed),
        each(idle),
        took.as_secs_f64() * 1e6 / flows as f64,
        pair.a.stack.stats().timers + pair.b.stack.stats().timers,
    ))
}

/// Bytes of memory this process has, as Linux counts them.
fn resident() -> Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    Ok(pages.ok_or(ErrorKind::InvalidData)? * 4_096)
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
