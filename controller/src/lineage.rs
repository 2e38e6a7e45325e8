//! Decides whether a version that a device or relay reports still counts: after a restore the same
//! numbers are given out again, for other things. Holds no clock and no store.
//!
//! ```text
//! run  A ── 5 ── B ── 9 ── C (now)    B gave out 6 to 9: "8 by B" goes on from here,
//!                                     "12 by B" belongs to a time that is lost
//! ```

use overlan_protocol::HostIndex;
use overlan_protocol::key::Lineage;

use crate::address;

/// The runs of the controller over its database, the present one last.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    /// The database was made in the present run.
    is_new: bool,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: Lineage,
    /// The newest version at its beginning.
    pub(crate) version: u64,
}

/// The worth of a version with its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is a part of this database's past.
    Past,
    /// This database gave it out in a time of which it knows nothing: it was restored from a
    /// backup.
    Lost,
}

impl Runs {
    /// Takes the runs `before` in the order of their beginnings, then the `present` one; `is_new`
    /// if nobody had set up the deployment when it began.
    pub(crate) fn new(before: Vec<Run>, present: Run, is_new: bool) -> Self {
        let mut runs = before;
        runs.push(present);
        Self { runs, is_new }
    }

    /// Returns the first host index for new devices. Only before the first run of a new deployment
    /// it is certain that no address was given out of which this database does not know.
    pub(crate) fn first_host(&self) -> HostIndex {
        match self.is_new {
            true => HostIndex::MIN,
            false => address::place_of_run(self.present()),
        }
    }

    /// Returns the id of the present run.
    pub(crate) fn present(&self) -> Lineage {
        self.runs.last().map_or(Lineage([0; 16]), |run| run.id)
    }

    /// Judges the version that a proven device or relay reports.
    pub(crate) fn judge(&self, lineage: Lineage, version: u64) -> Claim {
        let Some(at) = self.runs.iter().position(|run| run.id == lineage) else {
            return Claim::Lost;
        };
        match self.runs.get(at + 1) {
            // The version is of this run: the log shows whether it reaches there.
            None => Claim::Past,
            Some(next) if version <= next.version => Claim::Past,
            Some(_) => Claim::Lost,
        }
    }

    /// Says whether `lineage` is the present run.
    pub(crate) fn is_present(&self, lineage: Lineage) -> bool {
        self.present() == lineage
    }
}

/// Most runs that are remembered, some 50 bytes each. A device or relay with an older one counts as
/// coming from a lost time, which costs a round of orders for relays and nothing else.
pub(crate) const RUNS_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Lineage = Lineage([1; 16]);
    const B: Lineage = Lineage([2; 16]);
    const C: Lineage = Lineage([3; 16]);

    fn runs() -> Runs {
        let run = |id, version| Run { id, version };
        Runs::new(vec![run(A, 1), run(B, 5)], run(C, 9), false)
    }

    #[test]
    fn only_the_first_run_of_a_new_deployment_begins_at_the_first_address() {
        let run = |id| Run { id, version: 1 };
        assert_eq!(
            Runs::new(Vec::new(), run(A), true).first_host(),
            HostIndex::MIN
        );
        // The database of a version that kept no runs, or a copy of one, may have given out any
        // address.
        let older = Runs::new(Vec::new(), run(A), false);
        assert_eq!(older.first_host(), address::place_of_run(A));
        assert_eq!(runs().first_host(), address::place_of_run(C));
    }

    #[test]
    fn a_version_counts_with_the_run_that_told_it() {
        let runs = runs();
        assert_eq!(runs.present(), C);
        for (lineage, version, claim) in [
            (A, 1, Claim::Past),
            (A, 5, Claim::Past),
            // B began at 5, so A never came to 6 here.
            (A, 6, Claim::Lost),
            (B, 6, Claim::Past),
            (B, 9, Claim::Past),
            (B, 10, Claim::Lost),
            (C, 9, Claim::Past),
            (C, u64::MAX, Claim::Past),
            (Lineage([9; 16]), 1, Claim::Lost),
        ] {
            assert_eq!(runs.judge(lineage, version), claim, "{lineage} {version}");
        }
    }
}
