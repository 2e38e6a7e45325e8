//! The rows of the table and their bars. Decides whether a bar is met.

use std::fmt;

use self::Bar::{AtLeast, AtMost, Shown, TimesAtLeast, TimesAtMost};

/// A line of the table: one value of a test.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the value in a run.
    pub(crate) value: &'static str,
    /// Text for the reader, with the unit.
    pub(crate) label: &'static str,
    /// The bar that Overlan must reach.
    pub(crate) bar: Bar,
}

/// All lines in the order of the table, each with the name of its test.
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, &'static Row)> {
    TABLE.iter().flat_map(|(tests, rows)| {
        let lines = |test: &'static str| rows.iter().map(move |row| (test, row));
        tests.iter().copied().flat_map(lines)
    })
}

/// A bar that Overlan must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// No bar: shown for the reader.
    Shown,
    /// At least this much.
    AtLeast(f64),
    /// At most this much.
    AtMost(f64),
    /// At least this many times the yardstick of the same run.
    TimesAtLeast(f64),
    /// At most this many times the yardstick of the same run.
    TimesAtMost(f64),
}

/// Says whether a bar is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Missed,
}

impl Bar {
    /// Judges a bar. `None` if there is none, or if the value that it needs was not measured.
    pub(crate) fn verdict(self, median: Option<f64>, ratio: Option<f64>) -> Option<Verdict> {
        let met = match self {
            Self::Shown => return None,
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
            Self::Shown => Ok(()),
            Self::AtLeast(bar) => write!(f, "≥ {bar}"),
            Self::AtMost(bar) => write!(f, "≤ {bar}"),
            Self::TimesAtLeast(bar) => write!(f, "≥ {bar} ×"),
            Self::TimesAtMost(bar) => write!(f, "≤ {bar} ×"),
        }
    }
}

/// The values of each test that are shown. Tests with the same rows and bars share an entry.
const TABLE: &[(&[&str], &[Row])] = &[
    (
        &["bulk-1-down", "bulk-1-up"],
        &[
            row("gbit_s", "Gbit/s", TimesAtLeast(0.85)),
            row("cpu_s_per_gib", "CPU-s/GiB", TimesAtMost(1.25)),
            row("wakes_per_mib", "wake-ups/MiB", Shown),
        ],
    ),
    (
        &["bulk-8-down", "bulk-8-up", "bulk-100-down", "bulk-100-up"],
        &[
            row("gbit_s", "Gbit/s", TimesAtLeast(0.9)),
            row("cpu_s_per_gib", "CPU-s/GiB", TimesAtMost(1.25)),
            row("wakes_per_mib", "wake-ups/MiB", Shown),
            row("jain", "Jain", AtLeast(0.97)),
        ],
    ),
    (
        &["work-1", "work-100"],
        &[
            row("near_slept", "wake-ups/MiB, near", Shown),
            row("relay_slept", "wake-ups/MiB, relay", Shown),
            row("far_slept", "wake-ups/MiB, far", Shown),
            row("near_displaced", "displaced/MiB, near", Shown),
            row("relay_displaced", "displaced/MiB, relay", Shown),
            row("far_displaced", "displaced/MiB, far", Shown),
            row("near_calls", "system calls/MiB, near", Shown),
            row("relay_calls", "system calls/MiB, relay", Shown),
            row("far_calls", "system calls/MiB, far", Shown),
            row("near_allocations", "allocations/MiB, near", Shown),
            row("relay_allocations", "allocations/MiB, relay", Shown),
            row("far_allocations", "allocations/MiB, far", Shown),
        ],
    ),
    (
        &["crr"],
        &[
            row("per_s", "1/s", AtLeast(8000.0)),
            row("p50_us", "p50 µs", Shown),
            row("p99_us", "p99 µs", Shown),
            row("cpu_us", "CPU µs each", Shown),
            row("errors", "errors", AtMost(0.0)),
        ],
    ),
    (
        &["rtt-natural"],
        &[
            row("p50_us", "p50 µs", Shown),
            row("p99_us", "p99 µs", Shown),
            row("p999_us", "p99.9 µs", Shown),
            row("cpu_us", "CPU µs each", Shown),
        ],
    ),
    (
        &["rtt-awake"],
        &[
            row("p50_us", "p50 µs", AtMost(115.0)),
            row("p99_us", "p99 µs", AtMost(300.0)),
            row("p999_us", "p99.9 µs", Shown),
            row("cpu_us", "CPU µs each", Shown),
        ],
    ),
    (
        &["rtt-loaded"],
        &[
            row("p50_us", "p50 µs", AtMost(350.0)),
            row("p99_us", "p99 µs", AtMost(4000.0)),
            row("p999_us", "p99.9 µs", Shown),
            row("bulk_gbit_s", "Gbit/s of the bulk", Shown),
        ],
    ),
    (&["peak-1"], &[row("peak_mib", "MiB", AtMost(40.0))]),
    (&["peak-100"], &[row("peak_mib", "MiB", AtMost(100.0))]),
    (
        &["flows"],
        &[
            row("flows", "opened", Shown),
            row("failed", "not opened", AtMost(0.0)),
            row("open_s", "opened in, s", AtMost(1.5)),
            row("kib_each", "KiB each after an echo", AtMost(24.0)),
            row("kib_each_rested", "KiB each after 30 s", AtMost(16.0)),
            // One tick of the clock in the ten seconds is 0.1 %.
            row("held_cpu_percent", "CPU % while held", AtMost(0.1)),
            row("silent", "echoes missing", AtMost(0.0)),
            row("bulk_gbit_s", "Gbit/s of a copy beside them", Shown),
            row("bulk_kept", "the same / without them", AtLeast(0.9)),
        ],
    ),
    (
        &["idle"],
        &[
            row("near_mb", "RSS of the client, MB", AtMost(12.0)),
            row("near_cpu_percent", "CPU % of the client", AtMost(0.1)),
            row("chain_mb", "RSS of the chain, MB", Shown),
            row("apart_mb", "RSS of the controller, MB", Shown),
        ],
    ),
    (
        &["verify"],
        &[
            row("connections", "connections", Shown),
            row("gib", "GiB", Shown),
            row("wrong", "wrong or broken", AtMost(0.0)),
        ],
    ),
    (
        &["longpath-50"],
        &[
            row("mbit_s", "Mbit/s", AtLeast(500.0)),
            row("ramp_s", "s to 90 %", AtMost(2.0)),
        ],
    ),
    (
        &["longpath-100"],
        &[
            row("mbit_s", "Mbit/s", AtLeast(300.0)),
            row("ramp_s", "s to 90 %", AtMost(2.0)),
        ],
    ),
    (
        &["soak"],
        &[
            row("growth", "RSS, last third / middle third", AtMost(1.1)),
            row("errors", "errors", AtMost(0.0)),
            row("bulk_gib", "GiB of bulk", Shown),
            row("short", "short connections", Shown),
            row("verified", "verified connections", Shown),
            row("peak_mib", "peak MiB", Shown),
        ],
    ),
];

const fn row(value: &'static str, label: &'static str, bar: Bar) -> Row {
    Row { value, label, bar }
}
