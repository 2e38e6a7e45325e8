//! The tests of the suite: their names, what each needs of its chain, and which load runs it.

use std::path::Path;
use std::time::Duration;

use crate::chain::Chain;
use crate::load::{self, Cores, Direction, Pace, Values};
use crate::trouble::{Result, Trouble};

/// A test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// Bulk streams.
    Bulk {
        streams: usize,
        direction: Direction,
    },
    /// System calls, sleeps and allocations of the processes for each MiB of downloads.
    Work { streams: usize },
    /// Connect, request, answer, close.
    Crr,
    /// Round trips.
    RoundTrip(Cores),
    /// Round trips beside downloads.
    Loaded,
    /// Memory at its highest under bulk streams.
    Peak { streams: usize },
    /// Thousands of open connections.
    Flows,
    /// A chain that is not used.
    Idle,
    /// Every byte compared.
    Verify,
    /// One stream over a long path.
    LongPath { round_trip: Duration },
    /// Everything for minutes.
    Soak { length: Duration },
}

impl Test {
    /// All of them, in the order in which they run.
    pub(crate) fn all(soak_minutes: u64) -> Vec<Self> {
        let bulk = [1, 8, 100].into_iter().flat_map(|streams| {
            [Direction::Down, Direction::Up].map(|direction| Self::Bulk { streams, direction })
        });
        let others = [
            Self::Work { streams: 1 },
            Self::Work { streams: 100 },
            Self::Crr,
            Self::RoundTrip(Cores::Natural),
            Self::RoundTrip(Cores::Awake),
            Self::Loaded,
            Self::Peak { streams: 1 },
            Self::Peak { streams: 100 },
            Self::Flows,
            Self::Idle,
            Self::Verify,
            Self::LongPath {
                round_trip: Duration::from_millis(50),
            },
            Self::LongPath {
                round_trip: Duration::from_millis(100),
            },
            Self::Soak {
                length: Duration::from_secs(60 * soak_minutes),
            },
        ];
        bulk.chain(others).collect()
    }

    /// Those whose names begin with one of `only`; all but the soak if that is empty.
    pub(crate) fn chosen(only: &[String], soak_minutes: u64) -> Result<Vec<Self>> {
        let chosen: Vec<Self> = Self::all(soak_minutes)
            .into_iter()
            .filter(|test| match only {
                [] => !matches!(test, Self::Soak { .. }),
                _ => only.iter().any(|wanted| begins_with(&test.name(), wanted)),
            })
            .collect();
        if chosen.is_empty() {
            return Err(Trouble::failed(format!(
                "no test begins with {}",
                only.join(" or ")
            )));
        }
        Ok(chosen)
    }

    /// As on the command line and in the table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bulk { streams, direction } => {
                let way = match direction {
                    Direction::Down => "down",
                    Direction::Up => "up",
                };
                format!("bulk-{streams}-{way}")
            }
            Self::Work { streams } => format!("work-{streams}"),
            Self::Crr => "crr".to_owned(),
            Self::RoundTrip(Cores::Natural) => "rtt-natural".to_owned(),
            Self::RoundTrip(Cores::Awake) => "rtt-awake".to_owned(),
            Self::Loaded => "rtt-loaded".to_owned(),
            Self::Peak { streams } => format!("peak-{streams}"),
            Self::Flows => "flows".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Verify => "verify".to_owned(),
            Self::LongPath { round_trip } => format!("longpath-{}", round_trip.as_millis()),
            Self::Soak { .. } => "soak".to_owned(),
        }
    }

    /// Returns whether each run needs a chain that has done nothing before.
    pub(crate) fn fresh(&self) -> bool {
        match self {
            // Memory is compared with that of a new chain, or is the highest since its start.
            Self::Peak { .. } | Self::Flows | Self::Idle => true,
            // Windows that have grown would hide the ramp.
            Self::LongPath { .. } => true,
            Self::Bulk { .. }
            | Self::Work { .. }
            | Self::Crr
            | Self::RoundTrip(_)
            | Self::Loaded
            | Self::Verify
            | Self::Soak { .. } => false,
        }
    }

    /// Returns whether it also measures other projects' VPNs.
    pub(crate) fn of_foreign_vpns(&self) -> bool {
        match self {
            Self::Bulk { .. }
            | Self::Crr
            | Self::RoundTrip(_)
            | Self::Loaded
            | Self::Peak { .. } => true,
            Self::Work { .. }
            | Self::Flows
            | Self::Idle
            | Self::Verify
            | Self::LongPath { .. }
            | Self::Soak { .. } => false,
        }
    }

    /// Returns whether one run is enough.
    pub(crate) fn once(&self) -> bool {
        matches!(self, Self::Verify | Self::Soak { .. })
    }

    /// The delay that its chains have between their ends.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self {
            Self::LongPath { round_trip } => Some(*round_trip),
            Self::Bulk { .. }
            | Self::Work { .. }
            | Self::Crr
            | Self::RoundTrip(_)
            | Self::Loaded
            | Self::Peak { .. }
            | Self::Flows
            | Self::Idle
            | Self::Verify
            | Self::Soak { .. } => None,
        }
    }

    /// Runs it once. `directory` is for logs.
    pub(crate) fn run(&self, chain: &Chain, pace: Pace, directory: &Path) -> Result<Values> {
        match *self {
            Self::Bulk { streams, direction } => load::bulk(chain, streams, direction, pace),
            Self::Work { streams } => load::work(chain, streams, pace),
            Self::Crr => load::crr(chain, pace),
            Self::RoundTrip(cores) => load::round_trip(chain, cores, pace, directory),
            Self::Loaded => load::round_trip_beside_bulk(chain, pace),
            Self::Peak { streams } => load::bulk(chain, streams, Direction::Down, pace),
            Self::Flows => load::flows(chain, pace),
            Self::Idle => load::quiet(chain, pace),
            Self::Verify => load::verify(chain, pace),
            Self::LongPath { .. } => load::far(chain, pace),
            Self::Soak { length } => load::soak(chain, length, pace),
        }
    }
}

/// Returns whether `name` begins with the whole words of `wanted`, so that `bulk-1` is not
/// `bulk-100`.
fn begins_with(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(only: &[&str]) -> Vec<String> {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        let tests = Test::chosen(&only, 1).unwrap();
        tests.iter().map(Test::name).collect()
    }

    #[test]
    fn tests_are_chosen_by_whole_words() {
        assert_eq!(chosen(&["bulk-1"]), ["bulk-1-down", "bulk-1-up"]);
        assert_eq!(chosen(&["crr", "rtt-awake"]), ["crr", "rtt-awake"]);
        assert_eq!(chosen(&["bulk"]).len(), 6);
        assert!(Test::chosen(&["bul".to_owned()], 1).is_err());
    }
}
