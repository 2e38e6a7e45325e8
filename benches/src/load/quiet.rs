//! A chain that nobody uses: what its near end holds and does.

use std::thread;
use std::time::{Duration, Instant};

use super::{Pace, Values};
use crate::chain::Chain;
use crate::trouble::Result;

/// Memory and CPU time of the process that programs speak to, which has carried one byte and then
/// nothing.
pub(crate) fn quiet(chain: &Chain, pace: Pace) -> Result<Values> {
    let watched = if pace.quick { WATCHED_QUICK } else { WATCHED };
    let ((before, _), begin) = (chain.near()?, Instant::now());
    thread::sleep(watched);
    let ((after, resident_kib), seconds) = (chain.near()?, begin.elapsed().as_secs_f64());
    Ok(Values::from([
        ("near_mb", resident_kib as f64 * 1024.0 / 1e6),
        ("near_cpu_percent", 100.0 * (after - before) / seconds),
        ("chain_mb", chain.resident_kib()? as f64 * 1024.0 / 1e6),
        ("apart_mb", chain.apart_kib()? as f64 * 1024.0 / 1e6),
    ]))
}

/// The time for which it is watched: a clock tick in it is 0.017 % of a core.
const WATCHED: Duration = Duration::from_secs(60);

/// The same for a quick look.
const WATCHED_QUICK: Duration = Duration::from_secs(5);
