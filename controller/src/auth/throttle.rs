//! Decides how long an account must wait between failed logins. Holds no clock; lives in memory, so a restart forgives.
//!
//! An attempt counts as failed from its beginning, so many at once do not slip through. There is no hard lock: that would let
//! anybody lock others out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Failed logins by account.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    accounts: BTreeMap<String, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    free_at: Instant,
    last: Instant,
}

impl Throttle {
    /// Begins an attempt for `account`; or how long to wait before the next one. Unknown accounts are treated alike.
    pub(crate) fn begin(&mut self, now: Instant, account: &str) -> Result<(), Duration> {
        if let Some(failures) = self.accounts.get_mut(account) {
            if now < failures.free_at {
                return Err(failures.free_at - now);
            }
            if now >= failures.last + FORGOTTEN_AFTER {
                failures.count = 0;
            }
            failures.count += 1;
            failures.last = now;
            failures.free_at = now + delay(failures.count);
            return Ok(());
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.forget_oldest();
        }
        let first = Failures {
            count: 1,
            free_at: now,
            last: now,
        };
        self.accounts.insert(account.to_owned(), first);
        Ok(())
    }

    /// The attempt was right: the account starts anew.
    pub(crate) fn succeed(&mut self, account: &str) {
        self.accounts.remove(account);
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .accounts
            .iter()
            .min_by_key(|(_, failures)| failures.last)
            .map(|(account, _)| account.clone());
        if let Some(account) = oldest {
            self.accounts.remove(&account);
        }
    }
}

/// Behind the free failures 2, 4, 8 … seconds.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(2u64.saturating_pow(over + 1)).min(DELAY_MAX),
    }
}

/// Failures in a row without a delay: people mistype.
const FREE_FAILURES: u32 = 5;
/// Longest delay: an attacker gets 96 tries a day.
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures this long ago do not count any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Most accounts remembered, some 2 MB; the one that failed longest ago is forgotten first.
const ACCOUNTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn five_failures_are_free_then_the_delay_doubles() {
        let mut now = start();
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            assert_eq!(throttle.begin(now, "a"), Ok(()));
        }
        for wait in [2, 4, 8] {
            let wait = Duration::from_secs(wait);
            assert_eq!(throttle.begin(now, "a"), Err(wait));
            now += wait;
            assert_eq!(throttle.begin(now, "a"), Ok(()));
        }
        assert_eq!(throttle.begin(now, "b"), Ok(()), "another account");
    }

    #[test]
    fn the_delay_has_an_end_and_success_clears_it() {
        let mut now = start();
        let mut throttle = Throttle::default();
        for _ in 0..40 {
            if let Err(wait) = throttle.begin(now, "a") {
                assert!(wait <= DELAY_MAX);
                now += wait;
            }
        }
        throttle.succeed("a");
        assert_eq!(throttle.begin(now, "a"), Ok(()));
        assert_eq!(throttle.begin(now, "a"), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let now = start();
        let mut throttle = Throttle::default();
        for number in 0..=ACCOUNTS_MAX {
            throttle.begin(now, &number.to_string()).unwrap();
        }
        assert_eq!(throttle.accounts.len(), ACCOUNTS_MAX);
    }
}
