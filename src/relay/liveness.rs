//! Decides when a relay link is dead. Holds no socket, no clock and no RNG.
//!
//! ```text
//! Quiet ──nothing heard for a keepalive, or 2 s after we sent──> Asked ──anything heard──> Quiet
//!                                                                Asked ──answer overdue──> dead
//! ```
//! Whatever arrives proves that the relay lives; a PONG is only the cheapest thing to ask for.

use std::time::{Duration, Instant};

/// Liveness of one link. Made with the connection, dropped with the connection.
#[derive(Debug)]
pub struct Liveness {
    keepalive: Duration,
    heard: Instant,
    /// First time something was sent since the relay was last heard.
    sent: Option<Instant>,
    asked: Option<Instant>,
}

/// What the owner of the link must do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a PING with a token that the relay cannot guess.
    Ping,
    /// The relay does not answer: end the connection.
    Close,
}

impl Liveness {
    /// `keepalive` is the relay's, from its WELCOME.
    pub fn new(now: Instant, keepalive: Duration) -> Self {
        Self {
            keepalive: keepalive.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX),
            heard: now,
            sent: None,
            asked: None,
        }
    }

    /// Something arrived.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
        self.sent = None;
        self.asked = None;
    }

    /// Something that deserves an answer was sent.
    pub fn handle_sent(&mut self, now: Instant) {
        self.sent.get_or_insert(now);
    }

    /// Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if now < self.poll_timeout() {
            return None;
        }
        if self.asked.is_some() {
            return Some(Action::Close);
        }
        self.asked = Some(now);
        Some(Action::Ping)
    }

    /// When [`Liveness::handle_timeout`] is due; ask again after every call.
    pub fn poll_timeout(&self) -> Instant {
        match self.asked {
            Some(asked) => asked + ANSWER_WITHIN,
            None => {
                let idle = self.heard + self.keepalive;
                self.sent.map_or(idle, |sent| idle.min(sent + PROBE_AFTER))
            }
        }
    }
}

/// While something is being sent, silence of this length is suspicious: a black hole is found within 4 s.
const PROBE_AFTER: Duration = Duration::from_secs(2);

/// Any relay within reach of a usable connection answers in this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Bounds for what a relay may ask for: neither a flood nor silence beyond what address translators keep.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(15);

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn an_idle_link_pings_once_a_keepalive() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        assert_eq!(link.poll_timeout(), t0 + KEEPALIVE);
        assert_eq!(
            link.handle_timeout(t0 + KEEPALIVE - Duration::from_millis(1)),
            None
        );
        assert_eq!(link.handle_timeout(t0 + KEEPALIVE), Some(Action::Ping));
        link.handle_heard(t0 + KEEPALIVE + Duration::from_millis(80));
        assert_eq!(
            link.poll_timeout(),
            t0 + KEEPALIVE * 2 + Duration::from_millis(80)
        );
    }

    #[test]
    fn a_silent_relay_is_found_within_four_seconds_of_sending() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        link.handle_sent(t0 + Duration::from_secs(1));
        link.handle_sent(t0 + Duration::from_secs(2));
        let asked = link.poll_timeout();
        assert_eq!(
            asked,
            t0 + Duration::from_secs(3),
            "more sending does not put the question off"
        );
        assert_eq!(link.handle_timeout(asked), Some(Action::Ping));
        assert_eq!(
            link.handle_timeout(link.poll_timeout()),
            Some(Action::Close)
        );
        assert_eq!(link.poll_timeout(), t0 + Duration::from_secs(5));
    }

    #[test]
    fn whatever_arrives_saves_the_link() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        assert_eq!(link.handle_timeout(t0 + KEEPALIVE), Some(Action::Ping));
        link.handle_heard(t0 + KEEPALIVE + Duration::from_secs(1));
        assert_eq!(
            link.handle_timeout(t0 + KEEPALIVE + Duration::from_secs(2)),
            None
        );
    }
}
