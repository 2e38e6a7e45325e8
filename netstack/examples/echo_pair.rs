//! Two stacks and no network: bytes go from one to the other and back, and their rate is printed.
//!
//! `cargo run --release -p overlan-netstack --example echo_pair [MiB] [round trip in ms]`; the
//! round trip chooses the size of the rings.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use overlan_netstack::{Config, Shell, Stack, TcpStream};
use parking_lot::Mutex;

/// Remembers which remotes have packets waiting.
#[derive(Default)]
struct Ready(Mutex<BTreeSet<IpAddr>>);

impl Shell for Ready {
    fn packets_ready(&self, remote: IpAddr) {
        self.0.lock().insert(remote);
    }

    fn timer_changed(&self) {}
}

struct End {
    stack: Stack,
    ready: Arc<Ready>,
}

impl End {
    fn new(local: [u8; 4], seed: u8) -> End {
        let ready = Arc::new(Ready::default());
        let stack = Stack::new(
            Config::default(),
            &[local.into()],
            now(),
            [seed; 32],
            ready.clone(),
        );
        End { stack, ready }
    }

    /// Hands over what is ready, at most `BURST` bytes at a time so that it stays in the cache.
    fn hand_over(&self, other: &End, packet: &mut Vec<u8>) -> bool {
        let Some(remote) = self.ready.0.lock().pop_first() else {
            return false;
        };
        let now = now();
        let mut moved = 0;
        while moved < BURST {
            let Some(emitted) = self.stack.poll_packet_at(now, remote, packet, 0) else {
                return true;
            };
            moved += emitted.len;
            let packet = &packet[..emitted.len];
            other.stack.handle_packet(now, packet, &|_, _, _| true);
        }
        self.ready.packets_ready(remote);
        true
    }
}

const BURST: usize = 256 * 1_024;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn main() -> std::io::Result<()> {
    let mebibytes = argument(1).unwrap_or(4_096);
    let total = mebibytes << 20;
    let (a, b) = (End::new([100, 64, 0, 1], 1), End::new([100, 64, 0, 2], 2));
    let round_trip = argument(2).unwrap_or(0);
    for (end, other) in [(&a, [100, 64, 0, 2]), (&b, [100, 64, 0, 1])] {
        let time = Duration::from_millis(round_trip as u64);
        end.stack.set_round_trip(other.into(), time);
    }
    let listener = b.stack.listen(7).map_err(std::io::Error::other)?;
    let mut connecting = Box::pin(
        a.stack
            .connect(now(), SocketAddr::from(([100, 64, 0, 2], 7)))
            .map_err(std::io::Error::other)?,
    );
    let mut cx = Context::from_waker(Waker::noop());
    let mut packet = Vec::new();
    let mut server = None;
    let client = loop {
        while a.hand_over(&b, &mut packet) | b.hand_over(&a, &mut packet) {}
        if let Poll::Ready(incoming) = listener.poll_accept(&mut cx) {
            server = Some(incoming.accept());
        }
        if let Poll::Ready(client) = connecting.as_mut().poll(&mut cx) {
            break client.map_err(std::io::Error::other)?;
        }
    };
    let server = server.ok_or(ErrorKind::NotConnected)?;

    let start = now();
    let (mut sent, mut received) = (0, 0);
    while received < total {
        sent += fill(&client, &mut cx, total - sent)?;
        while a.hand_over(&b, &mut packet) | b.hand_over(&a, &mut packet) {}
        echo(&server, &mut cx)?;
        while a.hand_over(&b, &mut packet) | b.hand_over(&a, &mut packet) {}
        received += drain(&client, &mut cx)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let gigabits = (total * 2 * 8) as f64 / seconds / 1e9;
    writeln!(
        std::io::stdout(),
        "{mebibytes} MiB there and back in {seconds:.2} s: {gigabits:.1} Gbit/s through two \
         stacks on one core, {:.3} s per GiB; {} packets",
        seconds / (total as f64 * 2.0 / (1_u64 << 30) as f64),
        a.stack.stats().packets_out + b.stack.stats().packets_out,
    )
}

fn argument(number: usize) -> Option<usize> {
    std::env::args().nth(number)?.parse().ok()
}

fn fill(stream: &TcpStream, cx: &mut Context<'_>, left: usize) -> std::io::Result<usize> {
    match stream.poll_fill(cx, |room| Ok(room.len().min(left).min(BURST))) {
        Poll::Ready(filled) => filled,
        Poll::Pending => Ok(0),
    }
}

fn drain(stream: &TcpStream, cx: &mut Context<'_>) -> std::io::Result<usize> {
    let mut drained = 0;
    while let Poll::Ready(count) = stream.poll_drain(cx, |bytes| Ok(bytes.len())) {
        drained += count?;
    }
    Ok(drained)
}

/// Copies from the receive ring to the transmit ring of one stream.
fn echo(stream: &TcpStream, cx: &mut Context<'_>) -> std::io::Result<()> {
    let mut bytes = vec![0; BURST];
    loop {
        let mut len = 0;
        match stream.poll_drain(cx, |ring| {
            len = ring.len().min(bytes.len());
            bytes[..len].copy_from_slice(&ring[..len]);
            Ok(len)
        }) {
            Poll::Ready(drained) => drop(drained?),
            Poll::Pending => return Ok(()),
        }
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            match stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                // Both rings have the same size and the other side reads before it sends more.
                Err(error) => return Err(error),
            }
        }
    }
}
