//! Counts what the relay does and prints the counts. Decides nothing.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overlan_protocol::hello::RejectCode;

use crate::limits::Refusal;

/// One relay's counters. All grow only, except where a gauge is given to [`Metrics::render`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) accepted: AtomicU64,
    pub(crate) attached: AtomicU64,
    pub(crate) tls_failed: AtomicU64,
    pub(crate) deadline_missed: AtomicU64,
    pub(crate) frames_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) peer_gone: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    rejected: [AtomicU64; REJECTS.len()],
    dropped: [AtomicU64; DROPS.len()],
    /// By the power of two, in µs, that is not exceeded; the last holds all others.
    waits: [AtomicU64; WAITS],
    waited_us: AtomicU64,
    waited_max_us: AtomicU64,
}

/// Why a frame was not delivered.
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

/// What is counted elsewhere at the moment of printing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) clients: usize,
    pub(crate) unproven: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) grown_bytes: usize,
    pub(crate) pooled_buffers: usize,
    pub(crate) orders_version: u64,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, refusal: Refusal) {
        if let Some(at) = REFUSALS.iter().position(|(known, _)| *known == refusal) {
            Self::add(&self.refused[at], 1);
        }
    }

    pub(crate) fn count_rejected(&self, code: RejectCode) {
        if let Some(at) = REJECTS.iter().position(|(known, _)| *known == code) {
            Self::add(&self.rejected[at], 1);
        }
    }

    pub(crate) fn count_dropped(&self, reason: Dropped, frames: u64) {
        if let Some(at) = DROPS.iter().position(|(known, _)| *known == reason) {
            Self::add(&self.dropped[at], frames);
        }
    }

    /// Notes the longest wait among frames that left together.
    pub(crate) fn note_wait(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // Up to 1 µs, up to 2 µs, up to 4 µs …: the number of bits of what is below.
        let at = u64::BITS - micros.saturating_sub(1).leading_zeros();
        Self::add(&self.waits[(at as usize).min(WAITS - 1)], 1);
        Self::add(&self.waited_us, micros);
        self.waited_max_us.fetch_max(micros, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: Dropped) -> u64 {
        let at = DROPS.iter().position(|(known, _)| *known == reason);
        at.map_or(0, |at| self.dropped[at].load(Ordering::Relaxed))
    }

    /// The counts as Prometheus text, version 0.0.4.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut out = String::new();
        for (name, help, value) in [
            ("clients", "attached devices", gauges.clients.to_string()),
            (
                "unproven_connections",
                "connections that have not proved who they are",
                gauges.unproven.to_string(),
            ),
            (
                "queued_bytes",
                "bytes of frames that wait for receivers",
                gauges.queued_bytes.to_string(),
            ),
            (
                "windows_grown_bytes",
                "bytes by which all credit windows together are larger than at first",
                gauges.grown_bytes.to_string(),
            ),
            (
                "pooled_buffers",
                "buffers of 16 KiB that wait for their next frame",
                gauges.pooled_buffers.to_string(),
            ),
            (
                "queue_delay_max_seconds",
                "longest time that a frame waited for its receiver so far",
                seconds(self.waited_max_us.load(Ordering::Relaxed)),
            ),
            (
                "orders_version",
                "version of the controller's orders in force",
                gauges.orders_version.to_string(),
            ),
        ] {
            head(&mut out, name, help, "gauge");
            line(&mut out, format_args!("overlan_relay_{name} {value}"));
        }
        for (name, help, counter) in [
            (
                "connections_total",
                "TCP connections accepted",
                &self.accepted,
            ),
            ("attaches_total", "devices attached", &self.attached),
            (
                "tls_failures_total",
                "connections whose TLS handshake failed",
                &self.tls_failed,
            ),
            (
                "deadlines_missed_total",
                "connections closed because TLS or HELLO took too long",
                &self.deadline_missed,
            ),
            (
                "frames_in_total",
                "DATA frames from clients",
                &self.frames_in,
            ),
            (
                "bytes_in_total",
                "bytes of DATA frames from clients",
                &self.bytes_in,
            ),
            (
                "frames_out_total",
                "DATA frames to clients",
                &self.frames_out,
            ),
            (
                "bytes_out_total",
                "bytes of DATA frames to clients",
                &self.bytes_out,
            ),
            (
                "peer_gone_total",
                "frames for somebody who is not attached",
                &self.peer_gone,
            ),
        ] {
            head(&mut out, name, help, "counter");
            let value = counter.load(Ordering::Relaxed);
            line(&mut out, format_args!("overlan_relay_{name} {value}"));
        }
        let refused = REFUSALS.iter().map(|(_, label)| *label);
        family(
            &mut out,
            "refused_total",
            "connections closed before TLS or for want of room",
            "limit",
            refused.zip(&self.refused),
        );
        let rejected = REJECTS.iter().map(|(_, label)| *label);
        family(
            &mut out,
            "rejected_total",
            "connections ended with a REJECT",
            "code",
            rejected.zip(&self.rejected),
        );
        let dropped = DROPS.iter().map(|(_, label)| *label);
        family(
            &mut out,
            "dropped_total",
            "DATA frames not delivered",
            "reason",
            dropped.zip(&self.dropped),
        );
        self.render_waits(&mut out);
        out
    }

    fn render_waits(&self, out: &mut String) {
        let name = "queue_delay_seconds";
        let help = "longest wait among frames that left together";
        head(out, name, help, "histogram");
        let mut count = 0;
        for (power, waits) in self.waits.iter().enumerate() {
            count += waits.load(Ordering::Relaxed);
            let limit = if power == WAITS - 1 {
                "+Inf".to_owned()
            } else {
                seconds(1 << power)
            };
            line(
                out,
                format_args!("overlan_relay_{name}_bucket{{le=\"{limit}\"}} {count}"),
            );
        }
        let sum = seconds(self.waited_us.load(Ordering::Relaxed));
        line(out, format_args!("overlan_relay_{name}_sum {sum}"));
        line(out, format_args!("overlan_relay_{name}_count {count}"));
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn family<'a>(
    out: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = (&'a str, &'a AtomicU64)>,
) {
    head(out, name, help, "counter");
    for (value, counter) in values {
        let count = counter.load(Ordering::Relaxed);
        line(
            out,
            format_args!("overlan_relay_{name}{{{label}=\"{value}\"}} {count}"),
        );
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP overlan_relay_{name} {help}"));
    line(out, format_args!("# TYPE overlan_relay_{name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every text");
}

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
