//! Counts what the controller does, and prints the counts for a scraper. Decides nothing.

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::limits::{ConnectionBudget, NoRoom, OpenConnections};
use crate::store::Totals;

/// The counters of one controller; they only grow.
#[derive(Debug)]
pub(crate) struct Counts {
    accepted: Counter,
    refused: Family<LimitLabel, Counter>,
    requests: Family<StatusLabel, Counter>,
}

/// The numbers that are taken when they are printed.
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

/// The kind of caller that holds connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HolderLabel {
    holder: &'static str,
}

/// The limit that a connection or request met.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// The hundreds of an HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

impl Default for Counts {
    /// All counters stand at 0, and are shown from the start.
    fn default() -> Self {
        let counts = Self {
            accepted: Counter::default(),
            refused: Family::default(),
            requests: Family::default(),
        };
        for reason in [
            NoRoom::Strangers,
            NoRoom::Source,
            NoRoom::Callers,
            NoRoom::Caller,
        ] {
            drop(counts.refused.get_or_create(&limit(reason)));
        }
        for status in [200, 300, 400, 500] {
            drop(counts.requests.get_or_create(&status_class(status)));
        }
        counts
    }
}

impl Counts {
    /// Counts a TCP connection that was accepted.
    pub(crate) fn add_accepted(&self) {
        self.accepted.inc();
    }

    /// Counts a connection or request that found no room.
    pub(crate) fn add_refused(&self, reason: NoRoom) {
        self.refused.get_or_create(&limit(reason)).inc();
    }

    /// Counts an answer by its HTTP status.
    pub(crate) fn add_request(&self, status: u16) {
        self.requests.get_or_create(&status_class(status)).inc();
    }

    /// Prints the counts as Prometheus text.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix("overlan_controller");
        register_gauges(&mut registry, gauges);
        registry.register(
            "connections",
            "TCP connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "refused",
            "connections and requests refused for want of room",
            self.refused.clone(),
        );
        registry.register("requests", "requests answered", self.requests.clone());
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a String takes every write");
        text
    }
}

fn register_gauges(registry: &mut Registry, gauges: Gauges) {
    let mut gauge = |name, help, value: u64| registry.register(name, help, ConstGauge::new(value));
    let writes = u64::from(gauges.can_write);
    gauge("can_write", "whether the database takes writes", writes);
    gauge(
        "changes_version",
        "version of the newest change",
        gauges.version,
    );
    if let Some(totals) = gauges.totals {
        gauge("devices", "enrolled devices", totals.devices);
        let online = totals.devices_online;
        gauge("devices_online", "devices with a control session", online);
        gauge("relays", "registered relays", totals.relays);
        let online = totals.relays_online;
        gauge("relays_online", "relays that send heartbeats", online);
        gauge("networks", "networks", totals.networks);
    }
    let Gauges { open, budget, .. } = gauges;
    let connections = [
        ("strangers", open.strangers, budget.strangers),
        ("devices", open.devices, budget.devices),
        ("relays", open.relays, budget.relays),
        ("people", open.people, budget.people),
    ];
    let (now, most) = (Connections::default(), Connections::default());
    for (holder, open, budget) in connections {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        now.get_or_create(&HolderLabel { holder }).set(number(open));
        most.get_or_create(&HolderLabel { holder })
            .set(number(budget));
    }
    let help = "open connections, by the kind of caller that holds them";
    registry.register("connections", help, now);
    let help = "most connections, by the kind of caller that holds them";
    registry.register("connections_max", help, most);
}

type Connections = Family<HolderLabel, Gauge>;

fn limit(reason: NoRoom) -> LimitLabel {
    let limit = match reason {
        NoRoom::Strangers => "strangers",
        NoRoom::Source => "source",
        NoRoom::Callers => "callers",
        NoRoom::Caller => "caller",
    };
    LimitLabel { limit }
}

fn status_class(status: u16) -> StatusLabel {
    let status = match status / 100 {
        ..=2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5.. => "5xx",
    };
    StatusLabel { status }
}

#[cfg(test)]
mod tests;
