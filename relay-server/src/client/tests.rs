//! Credit and queues in virtual time: senders and receivers on links with delay and rate, and the
//! real `Client` of each between them. Only the links are models; the decisions are made by the
//! code that a relay runs.

#![expect(clippy::print_stdout, reason = "`--nocapture` shows the figures")]

use std::collections::BTreeMap;

use overlan_protocol::credit::{SendCredit, TARGET, WINDOW_MAX};
use overlan_protocol::frame::{self, BODY_MAX};

use super::*;
use crate::memory::{Memory, QUEUED_MAX};

const MBIT: u64 = 125_000;
const GBIT: u64 = 1_000 * MBIT;

/// One frame, bytes.
const FRAME: usize = 16_384;

/// Bytes that a receiver's socket holds beyond those that its link has taken: the relay's low-water
/// mark.
const SOCKET: u64 = 128 * 1024;

struct Sender {
    client: Arc<Client>,
    /// One way to the relay.
    delay: Duration,
    /// Bytes per second.
    rate: u64,
    credits: Vec<SendCredit>,
    /// Receivers that it sends to, and whose turn it is.
    to: Vec<usize>,
    turn: usize,
    /// It sends nothing before, and nothing from then on.
    active: (Duration, Duration),
    busy: bool,
}

struct Receiver {
    client: Arc<Client>,
    rate: u64,
    /// Bytes in the socket at the time.
    socket: (u64, Instant),
    writing: bool,
    /// Bytes by sender since the last `measure`, longest wait and sum of the longest waits of each
    /// fill.
    bytes: BTreeMap<usize, u64>,
    waits: Vec<Duration>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The sender's link is free, or it has work again.
    Send(usize),
    /// A frame of a sender for a receiver comes.
    Arrive(usize, usize),
    /// The receiver's socket has taken the last batch.
    Written(usize),
    /// A CREDIT comes to a sender.
    Credit(usize, usize, u64, u32),
}

struct Net {
    start: Instant,
    now: Instant,
    memory: Arc<Memory>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    events: BTreeMap<(Instant, u64), Event>,
    next: u64,
    queued_max: usize,
}

fn client(id: u64, memory: &Arc<Memory>) -> Arc<Client> {
    let welcome = Welcome {
        version: 1,
        credit_window: overlan_protocol::credit::DEFAULT_WINDOW,
        keepalive_ms: 1_000,
        reconnect_spread_ms: 0,
    };
    let device = DeviceId([id as u8; 16]);
    let accounts = vec![memory.account(destination(0).vni, device)];
    let client = Client::new(
        AttachId(id),
        device,
        welcome,
        accounts,
        memory.receiver_max(),
    );
    let (mut control, mut filled) = (Vec::new(), Filled::default());
    let now = overlan_transport::clock::now();
    let done = client.fill(now, Waker::noop(), &mut control, &mut filled, 1_000);
    assert!(done.is_ok() && !control.is_empty(), "the WELCOME");
    client
}

impl Net {
    fn new(receivers: &[u64]) -> Self {
        let memory = Memory::new(QUEUED_MAX);
        let start = overlan_transport::clock::now();
        let receivers = receivers.iter().enumerate().map(|(index, rate)| Receiver {
            client: client(100 + index as u64, &memory),
            rate: *rate,
            socket: (0, start),
            writing: false,
            bytes: BTreeMap::new(),
            waits: Vec::new(),
        });
        Self {
            start,
            now: start,
            receivers: receivers.collect(),
            senders: Vec::new(),
            events: BTreeMap::new(),
            next: 0,
            queued_max: 0,
            memory,
        }
    }

    fn sender(&mut self, rtt: Duration, rate: u64, to: &[usize], active: (Duration, Duration)) {
        let index = self.senders.len();
        let client = client(1 + index as u64, &self.memory);
        let window = overlan_protocol::credit::DEFAULT_WINDOW;
        self.senders.push(Sender {
            client,
            delay: rtt / 2,
            rate,
            credits: to.iter().map(|_| SendCredit::new(window)).collect(),
            to: to.to_vec(),
            turn: 0,
            active,
            busy: true,
        });
        self.at(active.0, Event::Send(index));
    }

    fn at(&mut self, wait: Duration, event: Event) {
        self.next += 1;
        self.events.insert((self.now + wait, self.next), event);
    }

    /// Runs until `until` since the start.
    fn run(&mut self, until: Duration) {
        let until = self.start + until;
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= until
        {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            match event {
                Event::Send(from) => self.send(from),
                Event::Arrive(from, to) => self.arrive(from, to),
                Event::Written(to) => {
                    self.receivers[to].writing = false;
                    self.fill(to);
                }
                Event::Credit(from, to, released, window) => {
                    let sender = &mut self.senders[from];
                    let at = sender.to.iter().position(|it| *it == to).unwrap();
                    sender.credits[at].handle_credit(released, window).unwrap();
                    if !std::mem::replace(&mut sender.busy, true) {
                        self.send(from);
                    }
                }
            }
            self.queued_max = self.queued_max.max(self.memory.queued());
            assert!(self.memory.grown() <= QUEUED_MAX / 2);
        }
        self.now = until;
    }

    fn send(&mut self, from: usize) {
        let elapsed = self.now - self.start;
        let sender = &mut self.senders[from];
        let count = sender.to.len();
        let ready = (0..count)
            .map(|step| (sender.turn + step) % count)
            .find(|at| sender.credits[*at].may_send());
        let Some(at) = ready.filter(|_| elapsed < sender.active.1) else {
            sender.busy = false;
            return;
        };
        sender.turn = at + 1;
        sender.credits[at].handle_sent(FRAME);
        let (to, delay, time) = (
            sender.to[at],
            sender.delay,
            time_of(FRAME as u64, sender.rate),
        );
        self.at(time, Event::Send(from));
        self.at(time + delay, Event::Arrive(from, to));
    }

    fn arrive(&mut self, from: usize, to: usize) {
        let place = destination(to);
        let sender = self.senders[from].client.clone();
        let allowance = sender.allowance(place).unwrap();
        assert!(allowance > 0, "an honest sender is refused");
        sender.admit(place, FRAME);
        let run = Run {
            flow: 1,
            frames: 1,
            bytes: vec![from as u8; FRAME],
        };
        let receiver = self.receivers[to].client.clone();
        let mut runs = VecDeque::from([run]);
        let cost = runs.iter().map(Run::cost).sum();
        assert!(sender.account(place.vni).unwrap().charge(cost));
        let mut shed = Vec::new();
        let taken = receiver.deliver(self.now, &sender, place, &mut runs, &mut shed);
        assert!(taken == Ok(()) && shed.is_empty(), "nothing is dropped");
        self.fill(to);
    }

    fn fill(&mut self, to: usize) {
        let now = self.now;
        let receiver = &mut self.receivers[to];
        if receiver.writing {
            return;
        }
        // Where the pump's pace settles: what the link takes in 2 ms.
        let budget = (receiver.rate / 500).clamp(16_384, 262_144) as usize;
        let (mut control, mut filled) = (Vec::new(), Filled::default());
        let done = receiver
            .client
            .fill(now, Waker::noop(), &mut control, &mut filled, budget);
        assert!(done.is_ok(), "it ends");
        let Filled {
            runs,
            written,
            waited,
        } = filled;
        if !runs.is_empty() {
            receiver.waits.push(waited);
            let mut bytes = 0;
            for run in runs {
                *receiver.bytes.entry(run.bytes[0].into()).or_default() += run.bytes.len() as u64;
                bytes += run.bytes.len() as u64;
            }
            let passed = (now - receiver.socket.1).as_nanos() * u128::from(receiver.rate);
            let held = receiver
                .socket
                .0
                .saturating_sub((passed / 1_000_000_000) as u64)
                + bytes;
            receiver.socket = (held, now);
            receiver.writing = true;
            let wait = time_of(held.saturating_sub(SOCKET), receiver.rate);
            self.at(wait, Event::Written(to));
        }
        for release in written {
            let from = release.source.id.0 as usize - 1;
            release
                .source
                .release(now, release.to, release.bytes, release.stood);
            self.credit(from);
        }
    }

    /// Sends what the relay has to say to a sender.
    fn credit(&mut self, from: usize) {
        let (client, delay) = (self.senders[from].client.clone(), self.senders[from].delay);
        let (mut control, mut filled) = (Vec::new(), Filled::default());
        let done = client.fill(self.now, Waker::noop(), &mut control, &mut filled, 10_000);
        assert!(done.is_ok() && filled.runs.is_empty());
        let mut rest = &control[..];
        while let Some((frame, length)) = frame::decode(rest, BODY_MAX).unwrap() {
            rest = &rest[length..];
            let Frame::Credit {
                address,
                released,
                window,
            } = frame
            else {
                panic!("{frame:?}");
            };
            let to = address.host as usize - 1_000;
            self.at(delay, Event::Credit(from, to, released, window));
        }
    }

    /// Runs from `from` to `until` and tells what each receiver got meanwhile.
    fn measure(&mut self, from: Duration, until: Duration) -> Vec<Measured> {
        self.run(from);
        for receiver in &mut self.receivers {
            receiver.bytes.clear();
            receiver.waits.clear();
        }
        self.run(until);
        let seconds = (until - from).as_secs_f64();
        let measured = self.receivers.iter_mut().map(|receiver| {
            receiver.waits.sort();
            let waits = &receiver.waits;
            Measured {
                rates: receiver
                    .bytes
                    .values()
                    .map(|bytes| *bytes as f64 / seconds)
                    .collect(),
                wait: waits.get(waits.len() / 2).copied().unwrap_or_default(),
                wait_p95: waits
                    .get(waits.len() * 95 / 100)
                    .copied()
                    .unwrap_or_default(),
            }
        });
        measured.collect()
    }
}

#[derive(Debug)]
struct Measured {
    /// Bytes per second from each sender.
    rates: Vec<f64>,
    /// The longest wait of each batch: median and 95th percentile.
    wait: Duration,
    wait_p95: Duration,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }

    fn jain(&self) -> f64 {
        let squares: f64 = self.rates.iter().map(|rate| rate * rate).sum();
        self.rate() * self.rate() / (self.rates.len() as f64 * squares)
    }
}

fn destination(to: usize) -> Place {
    let host = overlan_protocol::HostIndex::new(1_000 + to as u32).unwrap();
    Place { vni: 0x1000, host }
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64)
}

const ALWAYS: (Duration, Duration) = (Duration::ZERO, Duration::MAX);

#[test]
fn one_pair_uses_its_path_and_its_frames_do_not_stand() {
    let mut failed = Vec::new();
    for rtt in [0, 1, 10, 50, 150, 300].map(Duration::from_millis) {
        for rate in [MBIT, 10 * MBIT, 100 * MBIT, GBIT, 10 * GBIT] {
            let window = f64::from(WINDOW_MAX) / rtt.as_secs_f64();
            let possible = window.min(rate as f64);
            let mut net = Net::new(&[rate]);
            net.sender(rtt, 12 * GBIT, &[0], ALWAYS);
            // Twenty round trips, and what the first window takes to leave a slow link.
            let ramp = 20 * rtt + Duration::from_millis(200) + time_of(1 << 20, rate);
            let span =
                (time_of(400 * FRAME as u64, rate) + 4 * rtt).max(Duration::from_millis(200));
            let measured = &net.measure(ramp, ramp + span)[0];
            let used = measured.rate() / possible;
            let text = format!(
                "{rtt:?} {} Mbit/s: used {used:.3}, wait {:?} p95 {:?}, queued at most {} KiB",
                rate / MBIT,
                measured.wait,
                measured.wait_p95,
                net.queued_max / 1_024
            );
            println!("{text}");
            // Above what stands there are bursts, and what the first window left at 1 Mbit/s.
            let target = TARGET.max(2 * time_of(FRAME as u64, rate));
            if used < 0.95 || measured.wait > 3 * target {
                failed.push(text);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_long_path_is_full_within_two_seconds() {
    let mut net = Net::new(&[GBIT]);
    net.sender(Duration::from_millis(100), 12 * GBIT, &[0], ALWAYS);
    let measured = net.measure(Duration::from_millis(1_700), Duration::from_millis(2_000));
    let used = measured[0].rate() / GBIT as f64;
    println!("{used:.3} of 1 Gbit/s at 100 ms");
    assert!(used >= 0.9, "{used}");
}

#[test]
fn many_senders_to_one_receiver_get_equal_parts() {
    for rtts in [[10; 8], [1, 1, 10, 10, 50, 50, 100, 100]] {
        let mut net = Net::new(&[GBIT]);
        for rtt in rtts {
            net.sender(Duration::from_millis(rtt), 2 * GBIT, &[0], ALWAYS);
        }
        let measured = &net.measure(Duration::from_secs(2), Duration::from_secs(4))[0];
        let used = measured.rate() / GBIT as f64;
        println!(
            "{rtts:?}: used {used:.3}, Jain {:.3}, wait {:?} p95 {:?}, queued at most {} KiB",
            measured.jain(),
            measured.wait,
            measured.wait_p95,
            net.queued_max / 1_024
        );
        assert_eq!(measured.rates.len(), rtts.len());
        assert!(used >= 0.95 && measured.jain() >= 0.95, "{measured:?}");
        assert!(net.queued_max < net.memory.receiver_max());
    }
}

#[test]
fn a_slow_receiver_takes_nothing_from_a_fast_one_of_the_same_sender() {
    let rtt = Duration::from_millis(20);
    let mut net = Net::new(&[MBIT, 500 * MBIT]);
    net.sender(rtt, GBIT, &[0, 1], ALWAYS);
    let measured = net.measure(Duration::from_secs(2), Duration::from_secs(4));
    let used = [
        measured[0].rate() / MBIT as f64,
        measured[1].rate() / (500 * MBIT) as f64,
    ];
    println!("slow and fast receiver of one sender: used {used:.3?}");
    assert!(used[1] >= 0.95, "{used:?}");
    assert!(used[0] >= 0.9, "{used:?}");
}

#[test]
fn twice_the_offered_load_brings_as_much_as_the_peak() {
    let rtt = Duration::from_millis(5);
    let mut rates = Vec::new();
    for offered in [GBIT / 4, GBIT / 2] {
        let mut net = Net::new(&[GBIT]);
        for _ in 0..4 {
            net.sender(rtt, offered, &[0], ALWAYS);
        }
        let measured = &net.measure(Duration::from_secs(1), Duration::from_secs(2))[0];
        println!(
            "4 × {} Mbit/s offered: {:.0} Mbit/s, Jain {:.3}",
            offered / MBIT,
            measured.rate() / MBIT as f64,
            measured.jain()
        );
        assert!(measured.jain() >= 0.95);
        rates.push(measured.rate());
    }
    assert!(rates[1] >= 0.95 * rates[0], "{rates:?}");
}

#[test]
fn memory_stays_bounded_when_all_receivers_stall_at_once() {
    let mut net = Net::new(&[GBIT; 24]);
    for index in 0..24 {
        let rtt = Duration::from_millis(100);
        net.sender(rtt, GBIT, &[index], ALWAYS);
    }
    net.run(Duration::from_millis(1_500));
    let grown = net.memory.grown();
    for receiver in &mut net.receivers {
        // One byte per second: as good as dead.
        receiver.rate = 1;
    }
    net.run(Duration::from_secs(4));
    println!(
        "windows grown by {} MiB, then queued {} MiB",
        grown >> 20,
        net.queued_max >> 20
    );
    assert!(grown > 64 << 20, "the test has windows that matter");
    assert!(net.queued_max <= QUEUED_MAX);
}
