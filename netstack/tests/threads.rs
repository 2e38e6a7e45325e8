//! Several threads on one stack: the same flows are read, written, fed and polled at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use overlan_netstack::{Config, Shell, Stack, TcpStream};
use parking_lot::Mutex;

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
    /// Packets of one remote must leave in order, so one thread at a time carries them.
    carrying: Mutex<Vec<u8>>,
}

impl End {
    fn new(local: [u8; 4], seed: u8) -> End {
        let ready = Arc::new(Ready::default());
        let config = Config {
            mtu: 1_500,
            rx_ring: 65_535,
            tx_ring: 65_535,
            ..Config::default()
        };
        let stack = Stack::new(config, &[local.into()], now(), [seed; 32], ready.clone());
        End {
            stack,
            ready,
            carrying: Mutex::default(),
        }
    }

    fn carry(&self, other: &End) -> bool {
        let mut packet = self.carrying.lock();
        let Some(remote) = self.ready.0.lock().pop_first() else {
            return false;
        };
        loop {
            packet.clear();
            if self.stack.poll_packet(now(), remote, &mut packet).is_none() {
                return true;
            }
            other.stack.handle_packet(now(), &packet, &|_, _, _| true);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sends `total` counted bytes on each stream and checks what arrives on it.
fn run(streams: &[TcpStream], total: usize) {
    let (mut sent, mut received) = (vec![0; streams.len()], vec![0; streams.len()]);
    let mut shut = vec![false; streams.len()];
    let mut data = vec![0; 20_000];
    let byte = |index: usize| ((index * 31) >> 4) as u8;
    let deadline = now() + std::time::Duration::from_secs(40);
    while received.iter().any(|received| *received < total) || shut.iter().any(|shut| !shut) {
        let mut idle = true;
        for (number, stream) in streams.iter().enumerate() {
            let piece: Vec<u8> = (sent[number]..total.min(sent[number] + 20_000))
                .map(byte)
                .collect();
            if let Ok(count @ 1..) = stream.try_write(&piece) {
                sent[number] += count;
                idle = false;
            }
            if sent[number] == total && !shut[number] {
                shut[number] = true;
                stream.try_shutdown();
            }
            if let Ok(count @ 1..) = stream.try_read(&mut data) {
                for (offset, value) in data[..count].iter().enumerate() {
                    assert_eq!(*value, byte(received[number] + offset));
                }
                received[number] += count;
                idle = false;
            }
        }
        if idle {
            assert!(
                now() < deadline,
                "sent {sent:?} received {received:?} of {total}"
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn nothing_is_lost_or_left_waiting_between_threads() {
    const FLOWS: usize = 8;
    const TOTAL: usize = 2_000_000;
    let (a, b) = (End::new([100, 64, 0, 1], 1), End::new([100, 64, 0, 2], 2));
    let listener = b.stack.listen(80).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let remote = SocketAddr::from(([100, 64, 0, 2], 80));
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..FLOWS {
        let mut connecting = Box::pin(a.stack.connect(now(), remote).unwrap());
        loop {
            while a.carry(&b) | b.carry(&a) {}
            if let Poll::Ready(incoming) = listener.poll_accept(&mut cx) {
                servers.push(incoming.accept());
            }
            if let Poll::Ready(client) = connecting.as_mut().poll(&mut cx) {
                clients.push(client.unwrap());
                break;
            }
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let programs = [
            scope.spawn(|| run(&clients[..FLOWS / 2], TOTAL)),
            scope.spawn(|| run(&clients[FLOWS / 2..], TOTAL)),
            scope.spawn(|| run(&servers, TOTAL)),
        ];
        for (from, to) in [(&a, &b), (&b, &a), (&a, &b)] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    if from.stack.poll_timeout().is_some_and(|at| at <= now()) {
                        from.stack.handle_timeout(now());
                    }
                    if !from.carry(to) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let results = programs.map(|program| program.join());
        done.store(true, Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    while a.carry(&b) | b.carry(&a) {}
    for end in [&a, &b] {
        let stats = end.stack.stats();
        assert_eq!((stats.flows, stats.retransmits), (0, 0), "{stats:?}");
        assert_eq!(stats.drops.inbox_full + stats.drops.out_of_window, 0);
    }
}
