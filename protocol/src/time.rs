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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// A time in UTC, as people and RFC 3339 write it: `2026-12-31T18:00:00Z`. Years after 9999 are
/// written as the number of seconds.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub UnixTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds > LAST_OF_YEAR_9999 {
            return self.0.fmt(f);
        }
        // Years are counted from March 0000, so that the leap day is the last one of its year.
        let days = seconds / DAY + DAYS_TO_1970;
        let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let year = 400 * era + year + month / 10;
        let month = (month + 2) % 12 + 1;
        let clock = seconds % DAY;
        let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// Days of 400 years, after which the calendar repeats itself.
const DAYS_OF_ERA: u64 = 146_097;

/// The last second of a year with four digits.
const LAST_OF_YEAR_9999: u64 = 253_402_300_799;

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
    fn people_read_the_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST_OF_YEAR_9999, "9999-12-31T23:59:59Z"),
            (LAST_OF_YEAR_9999 + 1, "253402300800"),
        ] {
            assert_eq!(Utc(UnixTime::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn json_has_the_number() {
        let time: UnixTime = serde_json::from_str("1800000000").unwrap();
        assert_eq!(time.to_string(), "1800000000");
        assert_eq!(serde_json::to_string(&time).unwrap(), "1800000000");
    }
}
