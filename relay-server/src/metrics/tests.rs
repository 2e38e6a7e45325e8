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
        "overlan_relay_queue_delay_max_seconds 90.0",
        "overlan_relay_dropped_total{reason=\"overrun\"} 2",
        "overlan_relay_dropped_total{reason=\"relay_full\"} 0",
        "overlan_relay_rejected_total{code=\"silent\"} 1",
        "overlan_relay_refused_total{limit=\"source\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// Every metric of a scrape: name, type and, where there is one, the label.
const SCRAPED: &str = "\
overlan_relay_clients gauge
overlan_relay_unproven_connections gauge
overlan_relay_queued_bytes gauge
overlan_relay_windows_grown_bytes gauge
overlan_relay_pooled_buffers gauge
overlan_relay_queue_delay_max_seconds gauge
overlan_relay_orders_version gauge
overlan_relay_connections_total counter
overlan_relay_attaches_total counter
overlan_relay_tls_failures_total counter
overlan_relay_deadlines_missed_total counter
overlan_relay_frames_in_total counter
overlan_relay_bytes_in_total counter
overlan_relay_frames_out_total counter
overlan_relay_bytes_out_total counter
overlan_relay_peer_gone_total counter
overlan_relay_refused_total counter limit: unproven source clients
overlan_relay_rejected_total counter code: version ticket_expired ticket_invalid proof_invalid \
revoked overloaded draining superseded protocol silent held_by_others
overlan_relay_dropped_total counter reason: foreign_network no_such_host not_attached overrun \
receiver_full relay_full receiver_slow receiver_gone
overlan_relay_queue_delay_seconds histogram
";

#[test]
fn a_scrape_has_the_names_types_and_labels_that_dashboards_know() {
    let text = Metrics::default().render(Gauges {
        clients: 0,
        unproven: 0,
        queued_bytes: 0,
        grown_bytes: 0,
        pooled_buffers: 0,
        orders_version: 0,
    });
    let has = |line: &str| text.lines().any(|found| found == line);
    let mut names = 0;
    for scraped in SCRAPED.lines() {
        let (metric, labels) = scraped.split_once(": ").unwrap_or((scraped, ""));
        let words: Vec<_> = metric.split(' ').collect();
        let (name, kind) = (words[0], words[1]);
        assert!(has(&format!("# TYPE {name} {kind}")), "{name}\n{text}");
        for value in labels.split_ascii_whitespace() {
            let line = format!("{name}{{{}=\"{value}\"}} 0", words[2]);
            assert!(has(&line), "{line}\n{text}");
        }
        names += 1;
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE"));
    assert_eq!(types.count(), names, "{text}");
    let labelled = text
        .lines()
        .filter(|line| line.contains('{') && !line.contains("le="));
    assert_eq!(
        labelled.count(),
        REFUSALS.len() + REJECTS.len() + DROPS.len()
    );
}
