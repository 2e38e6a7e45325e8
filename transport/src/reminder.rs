//! Decides when something that happens often is worth a line of log. Holds one time and one count; no clock.

use std::time::{Duration, Instant};

/// One kind of event.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    told: Option<Instant>,
    since: u64,
}

impl Rarely {
    /// It happened. How often, this time included, when it is to be told; `None` while it was told in the last minute.
    pub(crate) fn handle(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.told.is_some_and(|at| now < at + PAUSE) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_then_once_a_minute_with_its_number() {
        let start = overlan_transport::pump::now();
        let mut rarely = Rarely::default();
        assert_eq!(rarely.handle(start), Some(1));
        for second in 1..60 {
            assert_eq!(rarely.handle(start + Duration::from_secs(second)), None);
        }
        assert_eq!(rarely.handle(start + PAUSE), Some(60));
        assert_eq!(rarely.handle(start + PAUSE), None);
    }
}
