//! Points in time as the wire, the API and the files on disk write them. Decides how such times are
//! compared and shifted; reads no clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since the Unix epoch, by somebody's wall clock. Arithmetic stops at the ends: a
/// time that an untrusted number makes is late or early, never wrapped around.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// 1970-01-01, also what a program writes whose clock is not set.
    pub const EPOCH: Self = Self(0);

    /// The latest time that can be written: it never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// The time that is `seconds` after the epoch.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The distance of two times, whichever is the later one.
    #[must_use]
    pub const fn abs_diff(self, other: Self) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }
}

/// Parts of a second are dropped.
impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs()))
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_secs()))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time.as_secs()))
    }
}

/// The number, as it stands in JSON.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let day = Duration::from_secs(86_400);
        let now = UnixTime::from_secs(1_800_000_000);
        assert_eq!((now + day).as_secs(), 1_800_086_400);
        assert_eq!((now + day).since(now), day);
        assert_eq!(now.since(now + day), Duration::ZERO);
        assert_eq!(now.abs_diff(now + day), day);
        assert_eq!(UnixTime::MAX + day, UnixTime::MAX);
        assert_eq!(UnixTime::from_secs(1) - day, UnixTime::EPOCH);
        let before = UNIX_EPOCH - day;
        assert_eq!(UnixTime::from(before), UnixTime::EPOCH);
    }

    #[test]
    fn json_has_the_number() {
        let time: UnixTime = serde_json::from_str("1800000000").unwrap();
        assert_eq!(time.to_string(), "1800000000");
        assert_eq!(serde_json::to_string(&time).unwrap(), "1800000000");
    }
}
