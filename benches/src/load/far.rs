//! One download over a long path: the rate that it reaches, and how soon.

use std::thread;
use std::time::{Duration, Instant};

use super::bulk::{Bulk, Direction};
use super::{Pace, Values};
use crate::chain::Chain;
use crate::stats;
use crate::trouble::{Result, Trouble};

/// Watches one download from its first moment.
pub(crate) fn far(chain: &Chain, pace: Pace) -> Result<Values> {
    let length = if pace.quick { LENGTH_QUICK } else { LENGTH };
    let load = Bulk::start(chain, 1, Direction::Down)?;
    let begin = Instant::now();
    let mut totals = Vec::new();
    let mut next = begin;
    while next < begin + length {
        totals.push(load.received()?.iter().sum());
        next += STEP;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    load.stop()?;
    let half = totals.len() / 2;
    let steps = totals.len() - 1 - half;
    let bytes = totals[totals.len() - 1] - totals[half];
    let reached =
        stats::ramp(&totals, RAMPED).ok_or_else(|| Trouble::failed("not one byte came through"))?;
    Ok(Values::from([
        (
            "mbit_s",
            bytes as f64 * 8.0 / (steps as f64 * STEP.as_secs_f64()) / 1e6,
        ),
        ("ramp_s", reached as f64 * STEP.as_secs_f64()),
    ]))
}

/// Between two looks.
const STEP: Duration = Duration::from_millis(50);

/// The rate is that of the second half.
const LENGTH: Duration = Duration::from_secs(10);

/// The same for a quick look.
const LENGTH_QUICK: Duration = Duration::from_secs(5);

/// The share of its final rate at which a download counts as ramped up.
const RAMPED: f64 = 0.9;
