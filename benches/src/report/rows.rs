//! The rows of the table and the bars that they must reach, and when a bar is met.

use std::fmt;

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the test.
    pub(crate) test: &'static str,
    /// Name of the value in a run.
    pub(crate) value: &'static str,
    /// For the reader, with the unit.
    pub(crate) label: &'static str,
    /// What Overlan must reach.
    pub(crate) bar: Bar,
}

/// What Overlan must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// Shown for the reader.
    None,
    /// At least this much.
    AtLeast(f64),
    /// At most this much.
    AtMost(f64),
    /// At least this many times the yardstick of the same run.
    TimesAtLeast(f64),
    /// At most this many times the yardstick of the same run.
    TimesAtMost(f64),
}

/// Whether a bar is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Missed,
}

impl Bar {
    /// `None` where there is no bar, or not what it needs: a missing measurement is no verdict.
    pub(crate) fn verdict(self, median: Option<f64>, ratio: Option<f64>) -> Option<Verdict> {
        let met = match self {
            Self::None => return None,
            Self::AtLeast(bar) => median? >= bar,
            Self::AtMost(bar) => median? <= bar,
            Self::TimesAtLeast(bar) => ratio? >= bar,
            Self::TimesAtMost(bar) => ratio? <= bar,
        };
        Some(if met { Verdict::Met } else { Verdict::Missed })
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::AtLeast(bar) => write!(f, "≥ {bar}"),
            Self::AtMost(bar) => write!(f, "≤ {bar}"),
            Self::TimesAtLeast(bar) => write!(f, "≥ {bar} ×"),
            Self::TimesAtMost(bar) => write!(f, "≤ {bar} ×"),
        }
    }
}

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    row("bulk-1-down", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.85)),
    row(
        "bulk-1-down",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-1-up", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.85)),
    row(
        "bulk-1-up",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-8-down", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.9)),
    row(
        "bulk-8-down",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-8-down", "jain", "Jain", Bar::AtLeast(0.97)),
    row("bulk-8-up", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.9)),
    row(
        "bulk-8-up",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-8-up", "jain", "Jain", Bar::AtLeast(0.97)),
    row("bulk-100-down", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.9)),
    row(
        "bulk-100-down",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-100-down", "jain", "Jain", Bar::AtLeast(0.97)),
    row("bulk-100-up", "gbit_s", "Gbit/s", Bar::TimesAtLeast(0.9)),
    row(
        "bulk-100-up",
        "cpu_s_per_gib",
        "CPU-s/GiB",
        Bar::TimesAtMost(1.25),
    ),
    row("bulk-100-up", "jain", "Jain", Bar::AtLeast(0.97)),
    row("crr", "per_s", "1/s", Bar::AtLeast(8000.0)),
    row("crr", "p50_us", "p50 µs", Bar::None),
    row("crr", "p99_us", "p99 µs", Bar::None),
    row("crr", "cpu_us", "CPU µs each", Bar::None),
    row("crr", "errors", "errors", Bar::AtMost(0.0)),
    row("rtt-natural", "p50_us", "p50 µs", Bar::None),
    row("rtt-natural", "p99_us", "p99 µs", Bar::None),
    row("rtt-natural", "p999_us", "p99.9 µs", Bar::None),
    row("rtt-natural", "cpu_us", "CPU µs each", Bar::None),
    row("rtt-awake", "p50_us", "p50 µs", Bar::AtMost(115.0)),
    row("rtt-awake", "p99_us", "p99 µs", Bar::AtMost(300.0)),
    row("rtt-awake", "p999_us", "p99.9 µs", Bar::None),
    row("rtt-awake", "cpu_us", "CPU µs each", Bar::None),
    row("rtt-loaded", "p50_us", "p50 µs", Bar::AtMost(350.0)),
    row("rtt-loaded", "p99_us", "p99 µs", Bar::AtMost(4000.0)),
    row("rtt-loaded", "p999_us", "p99.9 µs", Bar::None),
    row("rtt-loaded", "bulk_gbit_s", "Gbit/s of the bulk", Bar::None),
    row("peak-1", "peak_mib", "MiB", Bar::AtMost(40.0)),
    row("peak-100", "peak_mib", "MiB", Bar::AtMost(100.0)),
    row("flows", "flows", "opened", Bar::None),
    row("flows", "failed", "not opened", Bar::AtMost(0.0)),
    row("flows", "open_s", "opened in, s", Bar::AtMost(1.5)),
    row(
        "flows",
        "kib_each",
        "KiB each after an echo",
        Bar::AtMost(24.0),
    ),
    row(
        "flows",
        "kib_each_rested",
        "KiB each after 30 s",
        Bar::AtMost(16.0),
    ),
    // One tick of the clock in the ten seconds is 0.1 %.
    row(
        "flows",
        "held_cpu_percent",
        "CPU % while held",
        Bar::AtMost(0.1),
    ),
    row("flows", "silent", "echoes missing", Bar::AtMost(0.0)),
    row(
        "flows",
        "bulk_gbit_s",
        "Gbit/s of a copy beside them",
        Bar::None,
    ),
    row(
        "flows",
        "bulk_beside_to_alone",
        "the same / without them",
        Bar::AtLeast(0.9),
    ),
    row(
        "idle",
        "near_mb",
        "RSS of the client, MB",
        Bar::AtMost(12.0),
    ),
    row(
        "idle",
        "near_cpu_percent",
        "CPU % of the client",
        Bar::AtMost(0.1),
    ),
    row("idle", "chain_mb", "RSS of the chain, MB", Bar::None),
    row("idle", "apart_mb", "RSS of the controller, MB", Bar::None),
    row("verify", "connections", "connections", Bar::None),
    row("verify", "gib", "GiB", Bar::None),
    row("verify", "wrong", "wrong or broken", Bar::AtMost(0.0)),
    row("longpath-50", "mbit_s", "Mbit/s", Bar::AtLeast(500.0)),
    row("longpath-50", "ramp_s", "s to 90 %", Bar::AtMost(2.0)),
    row("longpath-100", "mbit_s", "Mbit/s", Bar::AtLeast(300.0)),
    row("longpath-100", "ramp_s", "s to 90 %", Bar::AtMost(2.0)),
    row(
        "soak",
        "growth",
        "RSS, last third / middle third",
        Bar::AtMost(1.1),
    ),
    row("soak", "errors", "errors", Bar::AtMost(0.0)),
    row("soak", "bulk_gib", "GiB of bulk", Bar::None),
    row("soak", "short", "short connections", Bar::None),
    row("soak", "verified", "verified connections", Bar::None),
    row("soak", "peak_mib", "peak MiB", Bar::None),
];

const fn row(test: &'static str, value: &'static str, label: &'static str, bar: Bar) -> Row {
    Row {
        test,
        value,
        label,
        bar,
    }
}
