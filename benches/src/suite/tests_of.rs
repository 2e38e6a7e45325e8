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
    /// Connect, request, answer, close.
    Crr,
    /// Round trips.
    RoundTrip(Cores),
    /// Round trips beside downloads.
    Loaded,
}

impl Test {
    /// Those whose names begin with one of `only`; all but the soak if that is empty.
    pub(crate) fn chosen(only: &[String], _soak_minutes: u64) -> Result<Vec<Self>> {
        let all = [1, 8, 100]
            .into_iter()
            .flat_map(|streams| {
                [Direction::Down, Direction::Up].map(|direction| Self::Bulk { streams, direction })
            })
            .chain([
                Self::Crr,
                Self::RoundTrip(Cores::Natural),
                Self::RoundTrip(Cores::Awake),
                Self::Loaded,
            ]);
        let chosen: Vec<Self> = all
            .filter(|test| {
                only.is_empty() || only.iter().any(|wanted| begins_with(&test.name(), wanted))
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
            Self::Crr => "crr".to_owned(),
            Self::RoundTrip(Cores::Natural) => "rtt-natural".to_owned(),
            Self::RoundTrip(Cores::Awake) => "rtt-awake".to_owned(),
            Self::Loaded => "rtt-loaded".to_owned(),
        }
    }

    /// Whether each run needs a chain that has done nothing before.
    pub(crate) fn fresh(&self) -> bool {
        false
    }

    /// Whether one run says it all.
    pub(crate) fn once(&self) -> bool {
        false
    }

    /// The delay that its chains have between their ends.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// Runs it once. `directory` is for logs.
    pub(crate) fn run(&self, chain: &Chain, pace: Pace, directory: &Path) -> Result<Values> {
        match *self {
            Self::Bulk { streams, direction } => load::bulk(chain, streams, direction, pace),
            Self::Crr => load::crr(chain, pace),
            Self::RoundTrip(cores) => load::round_trip(chain, cores, pace, directory),
            Self::Loaded => load::round_trip_beside_bulk(chain, pace),
        }
    }
}

/// Whether whole words of `name` are `wanted`, so that `bulk-1` is not `bulk-100`.
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
