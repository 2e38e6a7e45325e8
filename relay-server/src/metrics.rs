//! Counts what the relay does and prints the counts. Decides nothing.

use std::array;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overlan_protocol::hello::RejectCode;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::limits::Refusal;

/// The counters of one relay. All of them grow only, and none needs a lock to be counted up.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) attached: Counter,
    pub(crate) tls_failed: Counter,
    pub(crate) deadline_missed: Counter,
    pub(crate) frames_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) peer_gone: Counter,
    refused: Labelled<{ REFUSALS.len() }>,
    rejected: Labelled<{ REJECTS.len() }>,
    dropped: Labelled<{ DROPS.len() }>,
    /// By the power of two, in µs, that is not exceeded; the last holds all others.
    waits: [AtomicU64; WAITS],
    waited_us: AtomicU64,
    waited_max_us: AtomicU64,
}

/// Counters of one name that a label tells apart. Its values are known from the start, so that all
/// of them are shown from the start, and each counter is at hand.
#[derive(Debug)]
struct Labelled<const N: usize> {
    family: Family<Label, Counter>,
    counters: [Counter; N],
}

/// The name of a label and its value.
type Label = [(&'static str, &'static str); 1];

impl<const N: usize> Labelled<N> {
    fn new(label: &'static str, values: [&'static str; N]) -> Self {
        let family = Family::<Label, Counter>::default();
        let counters = values.map(|value| family.get_or_create_owned(&[(label, value)]));
        Self { family, counters }
    }
}

/// The reason why a frame was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The VNI is not in the sender's ticket.
    ForeignNetwork,
    /// No host can have that index, or it is the sender's own.
    NoSuchHost,
    /// The sender is about to be closed.
    NotAttached,
    /// The sender ignores its credit.
    Overrun,
    /// Too much waits for the receiver.
    ReceiverFull,
    /// Too much waits on the whole relay.
    RelayFull,
    /// The receiver took too little for what waited for it.
    ReceiverSlow,
    /// The receiver went away while the frame waited.
    ReceiverGone,
}

/// Values that other rooms hold, read at the moment of printing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) clients: usize,
    pub(crate) unproven: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) grown_bytes: usize,
    pub(crate) pooled_buffers: usize,
    pub(crate) orders_version: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let counter = Counter::default;
        Self {
            accepted: counter(),
            attached: counter(),
            tls_failed: counter(),
            deadline_missed: counter(),
            frames_in: counter(),
            bytes_in: counter(),
            frames_out: counter(),
            bytes_out: counter(),
            peer_gone: counter(),
            refused: Labelled::new("limit", REFUSALS.map(|(_, value)| value)),
            rejected: Labelled::new("code", REJECTS.map(|(_, value)| value)),
            dropped: Labelled::new("reason", DROPS.map(|(_, value)| value)),
            waits: array::from_fn(|_| AtomicU64::new(0)),
            waited_us: AtomicU64::new(0),
            waited_max_us: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn count_refused(&self, refusal: Refusal) {
        if let Some(at) = REFUSALS.iter().position(|(known, _)| *known == refusal) {
            self.refused.counters[at].inc();
        }
    }

    pub(crate) fn count_rejected(&self, code: RejectCode) {
        if let Some(at) = REJECTS.iter().position(|(known, _)| *known == code) {
            self.rejected.counters[at].inc();
        }
    }

    pub(crate) fn count_dropped(&self, reason: Dropped, frames: u64) {
        if let Some(at) = DROPS.iter().position(|(known, _)| *known == reason) {
            self.dropped.counters[at].inc_by(frames);
        }
    }

    /// Notes the longest wait among frames that left together.
    pub(crate) fn note_wait(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // Up to 1 µs, up to 2 µs, up to 4 µs …: the number of bits of what is below.
        let at = u64::BITS - micros.saturating_sub(1).leading_zeros();
        self.waits[(at as usize).min(WAITS - 1)].fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(micros, Ordering::Relaxed);
        self.waited_max_us.fetch_max(micros, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: Dropped) -> u64 {
        let at = DROPS.iter().position(|(known, _)| *known == reason);
        at.map_or(0, |at| self.dropped.counters[at].get())
    }

    /// Prints the counts as Prometheus text, version 0.0.4.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        self.register_gauges(&mut registry, gauges);
        self.register_counters(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a String takes every write");
        self.render_waits(&mut text)
            .expect("a String takes every write");
        text
    }

    fn register_gauges(&self, registry: &mut Registry, gauges: Gauges) {
        let mut gauge = |name, help, value: usize| {
            registry.register(name, help, ConstGauge::new(value as u64));
        };
        gauge("clients", "attached devices", gauges.clients);
        gauge(
            "unproven_connections",
            "connections that have not proved an identity",
            gauges.unproven,
        );
        gauge(
            "queued_bytes",
            "bytes of frames that wait for receivers",
            gauges.queued_bytes,
        );
        gauge(
            "windows_grown_bytes",
            "bytes by which all credit windows together are larger than at first",
            gauges.grown_bytes,
        );
        gauge(
            "pooled_buffers",
            "buffers of 16 KiB that wait for their next frame",
            gauges.pooled_buffers,
        );
        registry.register(
            "orders_version",
            "version of the controller's orders in force",
            ConstGauge::new(gauges.orders_version),
        );
        let longest = Duration::from_micros(self.waited_max_us.load(Ordering::Relaxed));
        registry.register(
            "queue_delay_max_seconds",
            "longest time that a frame waited for its receiver so far",
            ConstGauge::new(longest.as_secs_f64()),
        );
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("connections", "TCP connections accepted", &self.accepted),
            ("attaches", "devices attached", &self.attached),
            (
                "tls_failures",
                "connections whose TLS handshake failed",
                &self.tls_failed,
            ),
            (
                "deadlines_missed",
                "connections closed because TLS or HELLO took too long",
                &self.deadline_missed,
            ),
            ("frames_in", "DATA frames from clients", &self.frames_in),
            (
                "bytes_in",
                "bytes of DATA frames from clients",
                &self.bytes_in,
            ),
            ("frames_out", "DATA frames to clients", &self.frames_out),
            (
                "bytes_out",
                "bytes of DATA frames to clients",
                &self.bytes_out,
            ),
            (
                "peer_gone",
                "frames for a device that is not attached",
                &self.peer_gone,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "connections refused because a limit was reached";
        registry.register("refused", help, self.refused.family.clone());
        let help = "connections ended with a REJECT";
        registry.register("rejected", help, self.rejected.family.clone());
        let help = "DATA frames not delivered";
        registry.register("dropped", help, self.dropped.family.clone());
    }

    /// Appends the histogram of waits. The library's own takes a lock for each wait, and would
    /// print the shorter limits with an exponent, as labels that no scrape had before.
    fn render_waits(&self, out: &mut String) -> std::fmt::Result {
        let name = format!("{PREFIX}_queue_delay_seconds");
        writeln!(
            out,
            "# HELP {name} longest wait among frames that left together."
        )?;
        writeln!(out, "# TYPE {name} histogram")?;
        let mut count = 0;
        for (power, waits) in self.waits.iter().enumerate() {
            count += waits.load(Ordering::Relaxed);
            let limit = match power == WAITS - 1 {
                true => "+Inf".to_owned(),
                false => seconds(1 << power),
            };
            writeln!(out, "{name}_bucket{{le=\"{limit}\"}} {count}")?;
        }
        let sum = seconds(self.waited_us.load(Ordering::Relaxed));
        writeln!(out, "{name}_sum {sum}")?;
        writeln!(out, "{name}_count {count}")
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// The beginning of every name.
const PREFIX: &str = "overlan_relay";

/// Steps of the queue delay: 1 µs to 8.4 s, and beyond.
const WAITS: usize = 25;

const REFUSALS: [(Refusal, &str); 3] = [
    (Refusal::Unproven, "unproven"),
    (Refusal::Source, "source"),
    (Refusal::Proven, "clients"),
];

const REJECTS: [(RejectCode, &str); 11] = [
    (RejectCode::Version, "version"),
    (RejectCode::TicketExpired, "ticket_expired"),
    (RejectCode::TicketInvalid, "ticket_invalid"),
    (RejectCode::ProofInvalid, "proof_invalid"),
    (RejectCode::Revoked, "revoked"),
    (RejectCode::Overloaded, "overloaded"),
    (RejectCode::Draining, "draining"),
    (RejectCode::Superseded, "superseded"),
    (RejectCode::Protocol, "protocol"),
    (RejectCode::Silent, "silent"),
    (RejectCode::HeldByOthers, "held_by_others"),
];

const DROPS: [(Dropped, &str); 8] = [
    (Dropped::ForeignNetwork, "foreign_network"),
    (Dropped::NoSuchHost, "no_such_host"),
    (Dropped::NotAttached, "not_attached"),
    (Dropped::Overrun, "overrun"),
    (Dropped::ReceiverFull, "receiver_full"),
    (Dropped::RelayFull, "relay_full"),
    (Dropped::ReceiverSlow, "receiver_slow"),
    (Dropped::ReceiverGone, "receiver_gone"),
];

#[cfg(test)]
mod tests;
