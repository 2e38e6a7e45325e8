use std::collections::BTreeSet;

use super::*;

/// The types and samples that scrapers know, each sample with its labels and a value.
const KNOWN: &str = "\
# TYPE overlan_controller_can_write gauge
overlan_controller_can_write 1
# TYPE overlan_controller_connections gauge
overlan_controller_connections{holder=\"strangers\"} 1
overlan_controller_connections{holder=\"devices\"} 2
overlan_controller_connections{holder=\"relays\"} 3
overlan_controller_connections{holder=\"people\"} 4
# TYPE overlan_controller_connections_max gauge
overlan_controller_connections_max{holder=\"strangers\"} 5
overlan_controller_connections_max{holder=\"devices\"} 6
overlan_controller_connections_max{holder=\"relays\"} 7
overlan_controller_connections_max{holder=\"people\"} 8
# TYPE overlan_controller_devices gauge
overlan_controller_devices 10
# TYPE overlan_controller_devices_online gauge
overlan_controller_devices_online 9
# TYPE overlan_controller_relays gauge
overlan_controller_relays 12
# TYPE overlan_controller_relays_online gauge
overlan_controller_relays_online 11
# TYPE overlan_controller_networks gauge
overlan_controller_networks 13
# TYPE overlan_controller_changes_version gauge
overlan_controller_changes_version 14
# TYPE overlan_controller_connections_total counter
overlan_controller_connections_total 1
# TYPE overlan_controller_refused_total counter
overlan_controller_refused_total{limit=\"strangers\"} 0
overlan_controller_refused_total{limit=\"source\"} 1
overlan_controller_refused_total{limit=\"callers\"} 0
overlan_controller_refused_total{limit=\"caller\"} 0
# TYPE overlan_controller_requests_total counter
overlan_controller_requests_total{status=\"2xx\"} 1
overlan_controller_requests_total{status=\"3xx\"} 0
overlan_controller_requests_total{status=\"4xx\"} 2
overlan_controller_requests_total{status=\"5xx\"} 0
";

#[test]
fn scrapers_find_the_names_types_and_labels_that_they_know() {
    let counts = Counts::default();
    counts.add_accepted();
    counts.add_refused(NoRoom::Source);
    for status in [200, 401, 429] {
        counts.add_request(status);
    }
    let text = counts.render(Gauges {
        open: OpenConnections {
            strangers: 1,
            devices: 2,
            relays: 3,
            people: 4,
        },
        budget: ConnectionBudget {
            strangers: 5,
            strangers_per_source: 0,
            devices: 6,
            relays: 7,
            people: 8,
        },
        can_write: true,
        totals: Some(Totals {
            devices: 10,
            devices_online: 9,
            relays: 12,
            relays_online: 11,
            networks: 13,
        }),
        version: 14,
    });
    let lines = text.lines().filter(|line| !line.starts_with("# HELP "));
    let shown: BTreeSet<&str> = lines.collect();
    assert_eq!(shown, KNOWN.lines().collect(), "{text}");
    let families = KNOWN.matches("# TYPE ").count();
    assert_eq!(text.matches("# HELP ").count(), families);
}
