//! The numbers that the engine counts, and those of the netstacks beside it. Numbers only grow, so
//! a rate is a difference of two readings; the few that describe the moment or the last interval
//! say so. Holds no clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use overlan_netstack::{Drops, Stats};
use parking_lot::Mutex;

/// Counters of one engine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets that came in and passed the filter.
    pub packets_in: Count,
    /// Bytes of the packets that came in.
    pub bytes_in: Count,
    /// Packets that went out.
    pub packets_out: Count,
    /// Bytes of the packets that went out.
    pub bytes_out: Count,
    /// The number of times that a peer had packets and no credit.
    pub credit_waits: Count,
    /// The duration of those waits that are over, microseconds, all peers together.
    pub credit_wait_us: Count,
    /// The credit window that a relay announced last, in its welcome or with credit, bytes. A value
    /// of the moment.
    pub credit_window: Count,
    /// The number of times that a link had bytes to send and its socket took none.
    pub link_stalls: Count,
    /// The duration of those stalls that are over, microseconds, all links together.
    pub link_stall_us: Count,
    /// The time for which peers with packets waited for their turn on a link.
    pub queue_delays: QueueDelays,
    /// The number of dropped packets, by reason.
    pub drops: Reasons,
}

impl Counters {
    /// All counters by name, drops as `drop_<reason>`.
    pub fn snapshot(&self, now: Instant) -> BTreeMap<String, u64> {
        let (total, newest) = self.queue_delays.at(now);
        let mut all: BTreeMap<String, u64> = [
            ("packets_in", self.packets_in.get()),
            ("bytes_in", self.bytes_in.get()),
            ("packets_out", self.packets_out.get()),
            ("bytes_out", self.bytes_out.get()),
            ("credit_waits", self.credit_waits.get()),
            ("credit_wait_us", self.credit_wait_us.get()),
            ("credit_window", self.credit_window.get()),
            ("link_stalls", self.link_stalls.get()),
            ("link_stall_us", self.link_stall_us.get()),
            ("queue_turns", total.turns),
            ("queue_delay_us", total.sum_us),
            ("queue_delay_mean_us", newest.mean_us()),
            ("queue_delay_max_us", newest.max_us),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (reason, count) in self.drops.counts.lock().iter() {
            all.insert(format!("drop_{reason}"), *count);
        }
        all
    }
}

/// Adds the counters of one netstack to `all`. The one place that names them: if the netstack gets
/// a new reason to drop packets, the program compiles only once it is named here.
pub fn add_stack(all: &mut BTreeMap<String, u64>, stats: &Stats) {
    let mut add = |name: &str, value: u64| *all.entry(name.to_owned()).or_default() += value;
    add("flows", stats.flows);
    add("flows_half_open", stats.half_open);
    add("flows_time_wait", stats.time_wait);
    add("flows_opened", stats.flows_opened);
    add("flows_panicked", stats.flows_panicked);
    add("retransmits", stats.retransmits);
    let Drops {
        malformed,
        unsupported,
        protocol,
        address,
        denied,
        no_flow,
        flow_limit,
        backlog,
        out_of_window,
        inbox_full,
        no_socket,
        datagram_queue,
        answer_limit,
        remotes,
        ring_budget,
    } = stats.drops;
    for (reason, count) in [
        ("malformed", malformed),
        ("unsupported", unsupported),
        ("protocol", protocol),
        ("address", address),
        ("denied", denied),
        ("no_flow", no_flow),
        ("flow_limit", flow_limit),
        ("backlog", backlog),
        ("out_of_window", out_of_window),
        ("inbox_full", inbox_full),
        ("no_socket", no_socket),
        ("datagram_queue", datagram_queue),
        ("answer_limit", answer_limit),
        ("remotes", remotes),
        ("ring_budget", ring_budget),
    ] {
        // As with the engine's own, a reason appears with its first packet.
        if count > 0 {
            add(&format!("drop_stack_{reason}"), count);
        }
    }
    // All stacks take their rings from one arena, and each counts all of it.
    for (name, bytes) in [
        ("ring_bytes", stats.ring_bytes),
        ("ring_committed", stats.ring_committed),
    ] {
        let known = all.entry(name.to_owned()).or_default();
        *known = bytes.max(*known);
    }
}

/// A number that grows, or a value of the moment.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(crate) fn add_time(&self, time: Duration) {
        self.add(micros(time));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Numbers by reason; reasons are names in the code, so there are few.
#[derive(Debug, Default)]
pub struct Reasons {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Reasons {
    pub(crate) fn add(&self, reason: &'static str) {
        *self.counts.lock().entry(reason).or_default() += 1;
    }

    /// Returns the number of times that `reason` occurred.
    pub fn get(&self, reason: &str) -> u64 {
        self.counts.lock().get(reason).copied().unwrap_or_default()
    }
}

/// A summary of waiting times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delays {
    /// The number of waits.
    pub turns: u64,
    /// The sum of the waits, microseconds.
    pub sum_us: u64,
    /// The longest wait, microseconds.
    pub max_us: u64,
}

impl Delays {
    pub(super) fn note(&mut self, delay: Duration) {
        self.merge(Self {
            turns: 1,
            sum_us: micros(delay),
            max_us: micros(delay),
        });
    }

    fn merge(&mut self, other: Self) {
        self.turns += other.turns;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Their mean, microseconds; 0 if there are none.
    #[must_use]
    pub fn mean_us(&self) -> u64 {
        self.sum_us.checked_div(self.turns).unwrap_or_default()
    }
}

/// Waiting times since the start, and those of the last interval, which is between 10 and 20 s
/// long.
#[derive(Debug, Default)]
pub struct QueueDelays {
    // A link takes this once for everything it gives its socket at a time, so it is hardly ever
    // contended.
    intervals: Mutex<Intervals>,
}

#[derive(Debug, Default)]
struct Intervals {
    total: Delays,
    began: Option<Instant>,
    current: Delays,
    before: Delays,
}

impl QueueDelays {
    /// Adds a batch and leaves it empty.
    pub(super) fn take(&self, now: Instant, batch: &mut Delays) {
        let batch = std::mem::take(batch);
        if batch.turns == 0 {
            return;
        }
        let mut intervals = self.intervals.lock();
        intervals.roll(now);
        intervals.total.merge(batch);
        intervals.current.merge(batch);
    }

    /// The waits since the start, and those of the last interval.
    pub fn at(&self, now: Instant) -> (Delays, Delays) {
        let mut intervals = self.intervals.lock();
        intervals.roll(now);
        let mut newest = intervals.current;
        newest.merge(intervals.before);
        (intervals.total, newest)
    }
}

impl Intervals {
    fn roll(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age < INTERVAL {
            return;
        }
        let current = std::mem::take(&mut self.current);
        if age < 2 * INTERVAL {
            self.before = current;
            self.began = Some(began + INTERVAL);
        } else {
            self.before = Delays::default();
            self.began = Some(now);
        }
    }
}

/// The length of an interval: long enough to show a stutter that is over by the time a person
/// looks, short enough to describe the present.
const INTERVAL: Duration = Duration::from_secs(10);

/// Measures the time for which a link's socket takes nothing, by the turns of its pump: each turn
/// begins with [`WriteStall::handle_turn`], and a turn that finds that the socket has taken
/// everything comes to [`WriteStall::handle_fill`].
#[derive(Debug, Default)]
pub(super) struct WriteStall {
    /// The time at which the socket was given the bytes that it may still be taking.
    given: Option<Instant>,
    turns: u32,
}

impl WriteStall {
    /// A turn begins.
    pub(super) fn handle_turn(&mut self) {
        self.turns = self.turns.saturating_add(1);
    }

    /// Everything given before has been taken. Returns the time that it took, unless it was taken
    /// at once.
    pub(super) fn handle_fill(&mut self, now: Instant) -> Option<Duration> {
        let given = self.given.take();
        // After bytes that are taken at once, the very next turn comes to a fill.
        let was_stalled = std::mem::take(&mut self.turns) > 1;
        given
            .filter(|_| was_stalled)
            .map(|given| now.saturating_duration_since(given))
    }

    /// The fill gave the socket something to take.
    pub(super) fn handle_given(&mut self, now: Instant) {
        self.given = Some(now);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
