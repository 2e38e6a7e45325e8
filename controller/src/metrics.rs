//! Counts what the controller does and prints the counts. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use overlan_transport::operator::Exposition;

use crate::limits::{ConnectionBudget, NoRoom, OpenConnections};
use crate::store::Totals;

/// One controller's counters; all only grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    requests: [AtomicU64; CLASSES.len()],
}

/// What is counted elsewhere at the moment of printing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) open: OpenConnections,
    pub(crate) budget: ConnectionBudget,
    pub(crate) can_write: bool,
    /// `None` if the database does not answer.
    pub(crate) totals: Option<Totals>,
    /// Version of the change log.
    pub(crate) version: u64,
}

impl Counts {
    pub(crate) fn add_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_refused(&self, refusal: NoRoom) {
        if let Some(at) = REFUSALS.iter().position(|(known, _)| *known == refusal) {
            self.refused[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an answer by the hundreds of its HTTP status.
    pub(crate) fn add_request(&self, status: u16) {
        let at = usize::from((status / 100).clamp(2, 5) - 2);
        self.requests[at].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts as Prometheus text.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut out = Exposition::new("overlan_controller_");
        let writes = u8::from(gauges.can_write);
        out.gauge("can_write", "whether the database takes writes", writes);
        let Gauges { open, budget, .. } = gauges;
        let held = [
            ("strangers", open.strangers, budget.strangers),
            ("devices", open.devices, budget.devices),
            ("relays", open.relays, budget.relays),
            ("people", open.people, budget.people),
        ];
        let head = (
            "connections",
            "open connections, by who proved to hold them",
            "gauge",
        );
        out.family(head, "holder", held.map(|(name, open, _)| (name, open)));
        let head = ("connections_max", "connections that there may be", "gauge");
        out.family(head, "holder", held.map(|(name, _, most)| (name, most)));
        if let Some(totals) = gauges.totals {
            out.gauge("devices", "enrolled devices", totals.devices);
            out.gauge(
                "devices_online",
                "devices with a control session",
                totals.devices_online,
            );
            out.gauge("relays", "registered relays", totals.relays);
            out.gauge(
                "relays_online",
                "relays that send heartbeats",
                totals.relays_online,
            );
            out.gauge("networks", "networks", totals.networks);
        }
        out.gauge(
            "changes_version",
            "version of the newest change",
            gauges.version,
        );
        let accepted = self.accepted.load(Ordering::Relaxed);
        out.counter("connections_total", "TCP connections accepted", accepted);
        let refused = REFUSALS.iter().map(|(_, label)| *label).zip(&self.refused);
        let head = (
            "refused_total",
            "connections and requests refused for want of room",
            "counter",
        );
        let load = |(label, counter): (_, &AtomicU64)| (label, counter.load(Ordering::Relaxed));
        out.family(head, "limit", refused.map(load));
        let requests = CLASSES.into_iter().zip(&self.requests);
        let head = ("requests_total", "requests answered", "counter");
        out.family(head, "status", requests.map(load));
        out.finish()
    }
}

/// HTTP statuses by their hundreds.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Each with its label.
const REFUSALS: [(NoRoom, &str); 4] = [
    (NoRoom::Strangers, "strangers"),
    (NoRoom::Source, "source"),
    (NoRoom::Callers, "callers"),
    (NoRoom::Caller, "caller"),
];
