//! The counters of a client as lines for people. Decides which are shown, and in which unit; counts
//! nothing.

use std::collections::BTreeMap;

/// Returns lines with their labels: the traffic, the waits, the drops. Empty if nothing is counted
/// yet.
pub(super) fn lines(counters: &BTreeMap<String, u64>) -> Vec<(&'static str, String)> {
    if !counters.contains_key("bytes_in") {
        return Vec::new();
    }
    let of = |name: &str| counters.get(name).copied().unwrap_or_default();
    let mut lines = vec![
        (
            "traffic",
            format!(
                "in {} in {} packets, out {} in {} packets; {} flows with rings of {}",
                bytes(of("bytes_in")),
                of("packets_in"),
                bytes(of("bytes_out")),
                of("packets_out"),
                of("flows"),
                bytes(of("ring_bytes")),
            ),
        ),
        (
            "waits",
            format!(
                "for a turn {} on average and {} at most lately; for credit {} times, {}; for a \
                 link's socket {} times, {}; {} retransmits",
                time(of("queue_delay_mean_us")),
                time(of("queue_delay_max_us")),
                of("credit_waits"),
                time(of("credit_wait_us")),
                of("link_stalls"),
                time(of("link_stall_us")),
                of("retransmits"),
            ),
        ),
    ];
    let drops: Vec<String> = counters
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("drop_")?, count)))
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !drops.is_empty() {
        lines.push(("drops", drops.join(", ")));
    }
    lines
}

/// Returns the traffic in one line. `None` if nothing is counted yet.
pub(super) fn summary(counters: &BTreeMap<String, u64>) -> Option<(&'static str, String)> {
    let (into, out) = (counters.get("bytes_in")?, counters.get("bytes_out")?);
    Some((
        "traffic",
        format!("in {}, out {}", bytes(*into), bytes(*out)),
    ))
}

/// Writes `count` bytes in the largest unit with a digit other than 0 before the point.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Writes a round trip of `us` microseconds as people say it: with tenths of milliseconds where
/// they matter.
#[must_use]
pub fn trip(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000.. => format!("{} ms", us / 1_000),
    }
}

/// Writes `us` microseconds in the unit that people use for such a time.
#[must_use]
pub fn time(us: u64) -> String {
    match us {
        0 => "0 ms".to_owned(),
        1..100_000 => format!("{:.2} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000.. => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests;
