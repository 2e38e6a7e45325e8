//! Decides when something that goes on and on is said again. It says nothing itself and reads no
//! clock.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Says a thing once, and again only when it still happens after some time.
#[derive(Debug)]
pub(crate) struct Reminder {
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    since: u64,
}

impl Reminder {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            said: Mutex::default(),
        }
    }

    /// It happened at `now`. If it is time to say so: how often it happened since it was said last,
    /// this time included.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        // A count is never half done.
        let mut said = self.said.lock();
        said.since += 1;
        if said.last.is_some_and(|last| now < last + self.every) {
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.since))
    }
}

/// For what a person should hear of while it lasts, and others can cause as often as they like.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

impl Default for Reminder {
    /// Once a minute.
    fn default() -> Self {
        Self::new(EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_a_minute_and_its_count() {
        let (reminder, begin) = (Reminder::default(), Instant::now());
        assert_eq!(reminder.due(begin), Some(1));
        for nth in 1..60 {
            assert_eq!(reminder.due(begin + Duration::from_secs(nth)), None);
        }
        assert_eq!(reminder.due(begin + EVERY), Some(60));
        assert_eq!(reminder.due(begin + EVERY), None);
        assert_eq!(reminder.due(begin + 3 * EVERY), Some(2));
    }
}
