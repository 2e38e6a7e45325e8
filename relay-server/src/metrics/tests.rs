use super::*;

#[test]
fn every_reason_has_its_own_line() {
    let metrics = Metrics::default();
    metrics.count_dropped(Dropped::Overrun);
    metrics.count_rejected(RejectCode::Silent);
    metrics.count_refused(Refusal::Source);
    let gauges = Gauges {
        clients: 3,
        unproven: 1,
        queued_bytes: 4_096,
        orders_version: 9,
    };
    let text = metrics.render(gauges);
    for line in [
        "overlan_relay_clients 3",
        "overlan_relay_dropped_total{reason=\"overrun\"} 1",
        "overlan_relay_dropped_total{reason=\"relay_full\"} 0",
        "overlan_relay_rejected_total{code=\"silent\"} 1",
        "overlan_relay_refused_total{limit=\"source\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
