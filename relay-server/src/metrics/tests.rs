use super::*;

#[test]
fn every_reason_has_its_own_line() {
    let metrics = Metrics::default();
    metrics.count_dropped(Dropped::Overrun, 2);
    metrics.count_rejected(RejectCode::Silent);
    metrics.count_refused(Refusal::Source);
    let gauges = Gauges {
        clients: 3,
        unproven: 1,
        queued_bytes: 4_096,
        grown_bytes: 8,
        pooled_buffers: 7,
        orders_version: 9,
    };
    for micros in [0, 1, 2, 3, 1_000_000, 90_000_000] {
        metrics.note_wait(Duration::from_micros(micros));
    }
    let text = metrics.render(gauges);
    for line in [
        "overlan_relay_clients 3",
        "overlan_relay_pooled_buffers 7",
        "overlan_relay_queue_delay_seconds_bucket{le=\"0.000001\"} 2",
        "overlan_relay_queue_delay_seconds_bucket{le=\"0.000002\"} 3",
        "overlan_relay_queue_delay_seconds_bucket{le=\"0.000004\"} 4",
        "overlan_relay_queue_delay_seconds_bucket{le=\"1.048576\"} 5",
        "overlan_relay_queue_delay_seconds_bucket{le=\"8.388608\"} 5",
        "overlan_relay_queue_delay_seconds_bucket{le=\"+Inf\"} 6",
        "overlan_relay_queue_delay_seconds_sum 91.000006",
        "overlan_relay_queue_delay_max_seconds 90.000000",
        "overlan_relay_dropped_total{reason=\"overrun\"} 2",
        "overlan_relay_dropped_total{reason=\"relay_full\"} 0",
        "overlan_relay_rejected_total{code=\"silent\"} 1",
        "overlan_relay_refused_total{limit=\"source\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
