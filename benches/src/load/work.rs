//! Counts the work of each process of a chain for a MiB of downloads besides computing: its sleeps,
//! the times that it loses its core, its system calls and its allocations. The last two are counted
//! by `perf`, where that is allowed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::bulk::{Bulk, Direction};
use super::{MIB, Pace, Values, WARM_UP};
use crate::chain::{Chain, Position};
use crate::process;
use crate::procfs::{self, Switches};
use crate::trouble::{During, Result, Trouble};

/// `streams` downloads for the time that `pace` says, after a warm-up.
pub(crate) fn work(chain: &Chain, streams: usize, pace: Pace) -> Result<Values> {
    let positions = chain.positions();
    if positions.is_empty() {
        return Err(Trouble::Absent("this chain has no processes".to_owned()));
    }
    let load = Bulk::start(chain, streams, Direction::Down)?;
    thread::sleep(WARM_UP);
    let bytes = received(&load)?;
    let before = switches(&positions)?;
    thread::sleep(pace.measure);
    let after = switches(&positions)?;
    let mib = (received(&load)? - bytes) / MIB;

    // Afterwards, as counting costs something: the rate is measured again.
    let bytes = received(&load)?;
    let counting: Vec<Child> = positions
        .iter()
        .filter_map(|(_, pids)| perf(pids, pace).transpose())
        .collect::<Result<_>>()?;
    let counted: Vec<Counted> = counting
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().during("perf")?;
            Ok(Counted::parse(&String::from_utf8_lossy(&output.stderr)))
        })
        .collect::<Result<_>>()?;
    let mib_counted = (received(&load)? - bytes) / MIB;
    load.stop()?;
    if mib == 0.0 {
        return Err(Trouble::failed("not one byte came through"));
    }

    let mut values = Values::new();
    for (at, (position, _)) in positions.iter().enumerate() {
        let [slept, displaced, calls, allocations] = names(*position);
        let (before, after) = (before[at], after[at]);
        let per_mib = |after: u64, before: u64| after.saturating_sub(before) as f64 / mib;
        values.insert(slept, per_mib(after.slept, before.slept));
        values.insert(displaced, per_mib(after.displaced, before.displaced));
        let Some(counted) = counted.get(at) else {
            continue;
        };
        let per_mib = |count: u64| count as f64 / mib_counted;
        values.extend(counted.calls.map(|count| (calls, per_mib(count))));
        let count = counted.allocations;
        values.extend(count.map(|count| (allocations, per_mib(count))));
    }
    Ok(values)
}

fn names(position: Position) -> [&'static str; 4] {
    match position {
        Position::Near => [
            "near_slept",
            "near_displaced",
            "near_calls",
            "near_allocations",
        ],
        Position::Relay => [
            "relay_slept",
            "relay_displaced",
            "relay_calls",
            "relay_allocations",
        ],
        Position::Far => ["far_slept", "far_displaced", "far_calls", "far_allocations"],
    }
}

fn received(load: &Bulk) -> Result<f64> {
    Ok(load.received()?.iter().sum::<u64>() as f64)
}

fn switches(positions: &[(Position, Vec<u32>)]) -> Result<Vec<Switches>> {
    let positions = positions.iter();
    positions
        .map(|(_, pids)| procfs::switches(pids.iter().copied()))
        .collect()
}

/// Starts counting for the time that `pace` says; `None` where it cannot be done.
fn perf(pids: &[u32], pace: Pace) -> Result<Option<Child>> {
    let Ok(perf) = process::find("perf") else {
        return Ok(None);
    };
    let allocations = ALLOCATIONS
        .into_iter()
        .filter(|event| Path::new(EVENTS).join(event.replace(':', "/")).is_dir());
    let events: Vec<&str> = [CALLS].into_iter().chain(allocations).collect();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut command: Command = process::clean(perf);
    command
        .args(["stat", "-x", ",", "-e", &events.join(",")])
        .args(["-p", &pids.join(","), "sleep"])
        .arg(pace.measure.as_secs().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().during("perf").map(Some)
}

/// The events that the kernel counts, in the words of `perf`.
const CALLS: &str = "raw_syscalls:sys_enter";

/// Probes that must be set first, as docs/benchmarks.md says: all ways in which Rust gets memory.
const ALLOCATIONS: [&str; 4] = [
    "probe_libc:malloc",
    "probe_libc:calloc",
    "probe_libc:realloc",
    "probe_libc:posix_memalign",
];

/// Directory in which the kernel lists the events that it can count.
const EVENTS: &str = "/sys/kernel/tracing/events";

/// The counts of `perf`; `None` where it could not count.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    calls: Option<u64>,
    allocations: Option<u64>,
}

impl Counted {
    /// Reads lines of count, unit and event, with more fields after them. Any other line is a
    /// complaint, and nothing was counted.
    fn parse(text: &str) -> Self {
        let mut counted = Self {
            calls: None,
            allocations: None,
        };
        for line in text.lines() {
            let mut fields = line.split(',');
            let count = fields.next().and_then(|count| count.parse::<u64>().ok());
            let (Some(count), Some(event)) = (count, fields.nth(1)) else {
                continue;
            };
            if event == CALLS {
                counted.calls = Some(count);
            } else if ALLOCATIONS.contains(&event) {
                *counted.allocations.get_or_insert(0) += count;
            }
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_from_complaints() {
        let text = "120,,raw_syscalls:sys_enter,2000,100.00,,\n\
                    7,,probe_libc:malloc,2000,100.00,,\n2,,probe_libc:realloc,2000,100.00,,\n";
        let expected = Counted {
            calls: Some(120),
            allocations: Some(9),
        };
        assert_eq!(Counted::parse(text), expected);
        let nothing = Counted {
            calls: None,
            allocations: None,
        };
        assert_eq!(Counted::parse("Error:\nNo permission, sorry\n"), nothing);
        let refused = "<not counted>,,raw_syscalls:sys_enter,0,100.00,,";
        assert_eq!(Counted::parse(refused), nothing);
    }
}
