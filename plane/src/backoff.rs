//! Decides the wait before the next attempt: decorrelated jitter. Holds no clock; randomness comes
//! from a seed.

use std::time::{Duration, Instant};

/// Waiting times of one thing that is tried again and again, such as attaching to one relay.
#[derive(Debug)]
pub struct Backoff {
    limits: BackoffBounds,
    last: Duration,
    random: fastrand::Rng,
    healthy_since: Option<Instant>,
}

/// Bounds of a [`Backoff`].
#[derive(Debug, Clone, Copy)]
pub struct BackoffBounds {
    /// Shortest wait; three times this is the upper bound of the first one.
    pub base: Duration,
    /// Longest wait.
    pub cap: Duration,
}

impl BackoffBounds {
    /// For links to relays: a client is back within a second after a short outage, and a dead relay
    /// costs two dials a minute.
    pub const LINK: Self = Self {
        base: Duration::from_millis(500),
        cap: Duration::from_secs(30),
    };
    /// For the controller session: nothing urgent waits for it.
    pub const CONTROL: Self = Self {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    };
}

impl Backoff {
    /// Starts with the shortest waits. Two clients must not have the same `seed`, or they come back
    /// at the same moment.
    pub fn new(limits: BackoffBounds, seed: u64) -> Self {
        Self {
            limits,
            last: limits.base,
            random: fastrand::Rng::with_seed(seed),
            healthy_since: None,
        }
    }

    /// The attempt succeeded at `now`.
    pub fn handle_success(&mut self, now: Instant) {
        self.healthy_since = Some(now);
    }

    /// The attempt, or the connection that it had opened, failed at `now`. Returns the time to
    /// wait.
    ///
    /// Only a success that lasted 30 s brings back the shortest waits: one that breaks at once is
    /// part of the trouble.
    pub fn handle_failure(&mut self, now: Instant) -> Duration {
        let lasted = self
            .healthy_since
            .take()
            .map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= HEALTHY) {
            self.last = self.limits.base;
        }
        let span = (self.last * 3).saturating_sub(self.limits.base);
        let wait = self.limits.base + span.mul_f64(self.random.f64());
        self.last = wait.min(self.limits.cap);
        self.last
    }
}

/// A connection that lived this long was healthy.
const HEALTHY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn waits_stay_within_their_limits_and_grow() {
        for seed in 0..200 {
            let bounds = BackoffBounds::LINK;
            let mut backoff = Backoff::new(bounds, seed);
            let waits: Vec<_> = (0..30).map(|_| backoff.handle_failure(start())).collect();
            assert!(
                waits
                    .iter()
                    .all(|wait| (bounds.base..=bounds.cap).contains(wait)),
                "seed {seed}"
            );
            assert!(
                waits[0] <= BackoffBounds::LINK.base * 3,
                "seed {seed}: the first wait is short"
            );
            assert!(
                waits.iter().max() > Some(&Duration::from_secs(5)),
                "seed {seed}: waits grow"
            );
        }
    }

    #[test]
    fn two_clients_do_not_come_back_together() {
        let first = Backoff::new(BackoffBounds::LINK, 1).handle_failure(start());
        let second = Backoff::new(BackoffBounds::LINK, 3).handle_failure(start());
        assert_ne!(first, second);
    }

    #[test]
    fn only_a_lasting_success_starts_afresh() {
        let now = start();
        let mut backoff = Backoff::new(BackoffBounds::LINK, 9);
        for _ in 0..20 {
            backoff.handle_failure(now);
        }
        backoff.last = BackoffBounds::LINK.cap;
        backoff.handle_success(now);
        backoff.handle_failure(now + Duration::from_secs(29));
        backoff.last = BackoffBounds::LINK.cap;
        backoff.handle_success(now);
        assert!(backoff.handle_failure(now + HEALTHY) <= BackoffBounds::LINK.base * 3);
    }
}
