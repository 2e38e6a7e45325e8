//! `--memory`: the memory that a client may take. Decides whether the limit of the flag or that of
//! the cgroup counts.

use std::str::FromStr;

use clap::Args;
use overlan::program::memory::{Budget, LIMIT_MIN, Origin, Size, cgroup_limit};

use crate::commands::exit::Failure;

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Memory that this process may use, at least 32M, such as 64M or 1G; off = no limit
    /// [default: the limit of its cgroup, such as a container's]
    #[arg(long, env = "OVERLAN_MEMORY", value_name = "SIZE")]
    memory: Option<MemorySetting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemorySetting {
    Off,
    Limit(Size),
}

impl FromStr for MemorySetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => text
                .parse()
                .map(Self::Limit)
                .map_err(|error| format!("{error}, or off")),
        }
    }
}

impl MemoryArgs {
    /// Returns the limit that was asked for, or that of the cgroup.
    pub(crate) fn budget(&self) -> Result<Option<Budget>, Failure> {
        match self.memory {
            Some(MemorySetting::Off) => Ok(None),
            Some(MemorySetting::Limit(Size(limit))) => {
                let budget = Budget::new(limit, Origin::Given);
                let budget = budget.map_err(|error| {
                    Failure::usage(format!("--memory: {error}")).next("Give more, or off.")
                })?;
                Ok(Some(budget))
            }
            None => Ok(cgroup_limit().and_then(of_cgroup)),
        }
    }
}

/// A cgroup with less memory than a client needs gets the smallest client, which may suffice.
fn of_cgroup(limit: u64) -> Option<Budget> {
    if limit < LIMIT_MIN {
        tracing::warn!(
            limit,
            needed = LIMIT_MIN,
            "the memory limit of the cgroup is too small: the kernel may end this process"
        );
    }
    Budget::new(limit.max(LIMIT_MIN), Origin::Cgroup).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_comes_before_the_cgroup() {
        let asked = |text: &str| MemoryArgs {
            memory: Some(text.parse().unwrap()),
        };
        assert_eq!(asked("off").budget().unwrap(), None);
        let budget = asked("64M").budget().unwrap().unwrap();
        assert_eq!((budget.limit(), budget.source()), (64 << 20, Origin::Given));
        assert!(asked("1M").budget().is_err());
        assert!("64MB".parse::<MemorySetting>().is_err());
    }

    #[test]
    fn a_cgroup_that_is_too_small_gets_the_smallest_client() {
        let budget = of_cgroup(1 << 20).unwrap();
        assert_eq!(
            (budget.limit(), budget.source()),
            (LIMIT_MIN, Origin::Cgroup)
        );
    }
}
