//! Decides when an event that happens again and again is worth another line of log. Holds one time
//! and one count; logs nothing itself and reads no clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Allows one line at once, and the next one only after a while.
#[derive(Debug)]
pub struct Reminder {
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    since: u64,
}

impl Reminder {
    /// Allows a line every `every` at most.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        let said = Mutex::default();
        Self { every, said }
    }

    /// Counts one more at `now`. Returns the number since the last line, this one included, if
    /// another line is due.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock();
        said.since += 1;
        if said.last.is_some_and(|last| now < last + self.every) {
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.since))
    }
}

/// Once a minute: for events that others can cause as often as they like, and that a person should
/// hear of while they last.
impl Default for Reminder {
    fn default() -> Self {
        Self::new(EVERY)
    }
}

/// Time between two lines.
pub const EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_minute_and_its_count() {
        let start = crate::clock::now();
        let reminder = Reminder::default();
        assert_eq!(reminder.due(start), Some(1));
        for second in 1..60 {
            assert_eq!(reminder.due(start + Duration::from_secs(second)), None);
        }
        assert_eq!(reminder.due(start + EVERY), Some(60));
        assert_eq!(reminder.due(start + EVERY), None);
        assert_eq!(reminder.due(start + 3 * EVERY), Some(2));
    }
}
