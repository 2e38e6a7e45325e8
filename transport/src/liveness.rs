//! Decides when a relay link is dead. Holds no socket, no clock and no RNG.
//!
//! ```text
//! Quiet ──nothing heard for a keepalive, or 2 s while something is unanswered──> Asked ──anything heard──> Quiet
//!                                                                                Asked ──answer overdue──> dead
//! ```
//! Whatever arrives proves that the relay lives; a PONG is only the cheapest thing to ask for, and the one thing that answers all
//! that was sent before. Silence is judged by what is heard: whether the question could be written does not matter, for a relay
//! that stopped takes none.

use std::time::{Duration, Instant};

/// Liveness of one link. Made with the connection, dropped with the connection.
#[derive(Debug)]
pub struct Liveness {
    keepalive: Duration,
    heard: Instant,
    /// Since when something is unanswered and nothing was heard.
    unanswered: Option<Instant>,
    asked: Option<Instant>,
    /// Something was sent after the last question: its answer does not cover that.
    sent_since: bool,
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
            unanswered: None,
            asked: None,
            sent_since: false,
        }
    }

    /// Something arrived. What was sent before may still be unanswered: this need not be its answer.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = self.unanswered.map(|_| now);
        self.asked = None;
    }

    /// A PONG arrived: everything before the question is answered. To be called besides [`Liveness::handle_heard`].
    pub fn handle_pong(&mut self) {
        if !self.sent_since {
            self.unanswered = None;
        }
    }

    /// Something was sent that deserves an answer: DATA, which is released sooner or later. PING and PONG are not among it.
    pub fn handle_sent(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
        self.sent_since = true;
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
        self.sent_since = false;
        Some(Action::Ping)
    }

    /// When [`Liveness::handle_timeout`] is due; ask again after every call.
    pub fn poll_timeout(&self) -> Instant {
        match self.asked {
            Some(asked) => asked + ANSWER_WITHIN,
            None => {
                let idle = self.heard + self.keepalive;
                let probe = self.unanswered.map(|since| since + PROBE_AFTER);
                probe.map_or(idle, |probe| idle.min(probe))
            }
        }
    }
}

/// While something is unanswered, silence of this length is suspicious: a black hole is found within 4 s.
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
    fn what_was_heard_from_before_the_silence_does_not_put_the_question_off() {
        // A relay under load stops: what it said last comes after what was sent last, and nothing more can be sent, for credit or
        // for room in the socket.
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        for milliseconds in 0..1_000 {
            let now = t0 + Duration::from_millis(milliseconds);
            link.handle_sent(now);
            link.handle_heard(now + Duration::from_micros(500));
        }
        let silent = t0 + Duration::from_micros(999_500);
        let asked = link.poll_timeout();
        assert_eq!(asked, silent + PROBE_AFTER);
        assert_eq!(link.handle_timeout(asked), Some(Action::Ping));
        let dead = link.poll_timeout();
        assert_eq!(dead, silent + PROBE_AFTER + ANSWER_WITHIN);
        assert_eq!(link.handle_timeout(dead), Some(Action::Close));
    }

    #[test]
    fn an_answered_question_ends_the_matter_until_something_is_sent() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        link.handle_sent(t0);
        link.handle_heard(t0 + Duration::from_millis(1));
        let asked = link.poll_timeout();
        assert_eq!(link.handle_timeout(asked), Some(Action::Ping));
        let answered = asked + Duration::from_millis(20);
        link.handle_heard(answered);
        link.handle_pong();
        assert_eq!(
            link.poll_timeout(),
            answered + KEEPALIVE,
            "one question, not one in 2 s"
        );

        // What is sent behind the question is not covered by its answer.
        link.handle_sent(answered);
        let asked = link.poll_timeout();
        assert_eq!(link.handle_timeout(asked), Some(Action::Ping));
        link.handle_sent(asked + Duration::from_millis(1));
        let answered = asked + Duration::from_millis(20);
        link.handle_heard(answered);
        link.handle_pong();
        assert_eq!(link.poll_timeout(), answered + PROBE_AFTER);
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
