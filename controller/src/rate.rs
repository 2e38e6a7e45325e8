//! Decides how often something may happen: some times at once, then once per interval. Holds no
//! clock.

use std::time::{Duration, Instant};

/// A rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Uses that may come at once.
    pub(crate) burst: u32,
    /// The interval of further ones.
    pub(crate) every: Duration,
}

/// The rest of a [`Pace`]. An unused one is whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    whole_at: Instant,
}

impl Allowance {
    /// Makes a whole one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Takes one, or returns how long there is none.
    pub(crate) fn take(&mut self, now: Instant, pace: Pace) -> Result<(), Duration> {
        let whole_at = self.whole_at.max(now) + pace.every;
        let latest = now + pace.every * pace.burst;
        if whole_at > latest {
            return Err(whole_at - latest);
        }
        self.whole_at = whole_at;
        Ok(())
    }

    /// Puts one back that was not used.
    pub(crate) fn give_back(&mut self, pace: Pace) {
        self.whole_at = self
            .whole_at
            .checked_sub(pace.every)
            .unwrap_or(self.whole_at);
    }

    /// Says whether forgetting it makes no difference.
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        self.whole_at <= now
    }

    /// Returns the time at which it is whole again.
    pub(crate) fn whole_at(&self) -> Instant {
        self.whole_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        burst: 3,
        every: Duration::from_secs(10),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn some_pass_at_once_and_then_one_every_so_often() {
        let start = tokio::time::Instant::now().into_std();
        let mut allowance = Allowance::new(start);
        for _ in 0..3 {
            assert_eq!(allowance.take(start, PACE), Ok(()));
        }
        assert_eq!(allowance.take(start, PACE), Err(secs(10)));
        assert_eq!(allowance.take(start + secs(4), PACE), Err(secs(6)));
        assert_eq!(allowance.take(start + secs(10), PACE), Ok(()));
        assert_eq!(allowance.take(start + secs(10), PACE), Err(secs(10)));
        allowance.give_back(PACE);
        assert_eq!(allowance.take(start + secs(10), PACE), Ok(()));
        // After a long pause there is the burst, and no more.
        let later = start + secs(1_000);
        assert!(allowance.is_whole(later));
        let passed = (0..10).filter(|_| allowance.take(later, PACE).is_ok());
        assert_eq!(passed.count(), 3);
    }
}
