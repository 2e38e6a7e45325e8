//! Decides how often one source may ask for things that cost everybody: writes to disk, messages to
//! every member or all relays, signatures. Each source has its own share, so that a looping one
//! waits and no other does. Holds no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlan_protocol::key::DeviceId;

use crate::rate::{Allowance, Pace};

/// All budgets of a controller.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Changes that a device makes for others: networks and routes.
    pub(crate) changes: Budget<DeviceId>,
    /// Netmap streams that a device opens: each is a snapshot or a look at the log, and a write for
    /// an ephemeral device.
    pub(crate) streams: Budget<DeviceId>,
    /// Rounds of certificates for a device: a signature for each of its networks.
    pub(crate) certificates: Budget<DeviceId>,
    /// Policies that a person checks, sets or asks about: each is compiled, which takes a processor
    /// for up to a quarter of a second.
    pub(crate) policies: Budget<i64>,
    /// New devices by one right, which is an auth key, a trust rule or an account: writes, and a
    /// message for every member.
    pub(crate) enrolments: Budget<Right>,
}

/// The right by which a device is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    /// The id of an auth key or a trust rule.
    Key(String),
    /// The account of a person.
    Account(i64),
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            changes: Budget::new(CHANGES),
            streams: Budget::new(STREAMS),
            certificates: Budget::new(CERTIFICATES),
            policies: Budget::new(POLICIES),
            enrolments: Budget::new(ENROLMENTS),
        }
    }
}

/// The recent use of one kind, by source.
#[derive(Debug)]
pub(crate) struct Budget<S> {
    pace: Pace,
    sources: BTreeMap<S, Allowance>,
}

impl<S: Ord> Budget<S> {
    fn new(pace: Pace) -> Self {
        let sources = BTreeMap::new();
        Self { pace, sources }
    }

    /// Counts one use of a source, or returns how long it must wait before one.
    pub(crate) fn count(&mut self, now: Instant, source: S) -> Result<(), Duration> {
        if self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, allowance| !allowance.is_whole(now));
        }
        let allowance = self.sources.entry(source);
        let allowance = allowance.or_insert_with(|| Allowance::new(now));
        allowance.take(now, self.pace)
    }
}

/// The changes that a person or a starting program makes in a row fit into the burst; a loop goes
/// on at one in six seconds.
const CHANGES: Pace = Pace {
    burst: 40,
    every: Duration::from_secs(6),
};

/// A device whose link flaps comes back some times in a minute, with pauses that grow to a minute.
const STREAMS: Pace = Pace {
    burst: 40,
    every: Duration::from_secs(3),
};

/// Certificates are requested at a start, when networks or names change, and once in their life of
/// weeks.
const CERTIFICATES: Pace = Pace {
    burst: 20,
    every: Duration::from_secs(30),
};

/// A pipeline that checks and asks some dozen things in a row passes at once; a loop goes on at two
/// in a second.
const POLICIES: Pace = Pace {
    burst: 120,
    every: Duration::from_millis(500),
};

/// A rollout of some hundred machines by one key passes at once; a leaked key makes fewer than two
/// thousand devices in an hour.
const ENROLMENTS: Pace = Pace {
    burst: 500,
    every: Duration::from_secs(3),
};

/// Sources that are remembered before those with a whole allowance are forgotten: as many as one
/// network has devices. Each is a device or a right that was proved, and used something within the
/// last half hour.
const SOURCES_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_one_source_is_slowed_down_and_no_other() {
        for (pace, in_an_hour) in [
            (CHANGES, 40 + 600 - 1),
            (STREAMS, 40 + 1_200 - 1),
            (CERTIFICATES, 20 + 120 - 1),
            (POLICIES, 120 + 7_200 - 1),
            (ENROLMENTS, 500 + 1_200 - 1),
        ] {
            let start = tokio::time::Instant::now().into_std();
            let mut budget = Budget::new(pace);
            let mut made = 0;
            for tenth in 0..36_000u64 {
                let now = start + Duration::from_millis(100 * tenth);
                made += u32::from(budget.count(now, "looping").is_ok());
                if tenth % 600 == 0 {
                    let other = budget.count(now, "other");
                    assert_eq!(other, Ok(()), "{pace:?} in minute {}", tenth / 600);
                }
            }
            assert_eq!(made, in_an_hour, "{pace:?}");
            assert!(budget.count(start, "looping").is_err());
        }
    }

    #[test]
    fn sources_whose_share_is_whole_are_forgotten() {
        let start = tokio::time::Instant::now().into_std();
        let mut budget = Budget::new(STREAMS);
        for source in 0..SOURCES_MAX {
            budget.count(start, source).unwrap();
        }
        budget.count(start + STREAMS.every, SOURCES_MAX).unwrap();
        assert_eq!(budget.sources.len(), 1);
    }
}
