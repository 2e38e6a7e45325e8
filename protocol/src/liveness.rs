//! Decides when the other end of a link between client and relay is dead; both ends ask here. Holds
//! no socket, no clock and no RNG.
//!
//! ```text
//! Quiet ──nothing heard for a keepalive──> Asked
//! Quiet ──nothing heard for 2 s, and something is unanswered or packets passed lately──> Asked
//! Asked ──anything heard──> Quiet
//! Asked ──answer overdue──> dead
//! ```
//! Anything that arrives proves that the other end lives; a PONG is only the cheapest thing to ask
//! for, and it alone answers everything sent before it. Silence is judged by what is heard, not by
//! whether the question could be written: an end that stopped does not take it. An end that only
//! receives cannot see that its other direction died, so both ends ask while packets pass.

use std::time::{Duration, Instant};

/// One end's view of a link. Made with the connection, dropped with the connection.
#[derive(Debug)]
pub struct Liveness {
    keepalive: Duration,
    heard: Instant,
    /// The time at which a packet last passed, in either direction.
    talked: Option<Instant>,
    /// Since when something is unanswered and nothing was heard.
    unanswered: Option<Instant>,
    asked: Option<Instant>,
    /// Something was sent after the last question: its answer does not cover that.
    sent_since: bool,
}

/// The thing that the owner of the link must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a PING.
    Ping,
    /// The other end does not answer: end the connection.
    Close,
}

impl Liveness {
    /// Starts at `now`; a link that carries nothing may be silent for `keepalive`.
    pub fn new(now: Instant, keepalive: Duration) -> Self {
        Self {
            keepalive,
            heard: now,
            talked: None,
            unanswered: None,
            asked: None,
            sent_since: false,
        }
    }

    /// Something arrived. What was sent before may still be unanswered: this need not be its
    /// answer.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = self.unanswered.map(|_| now);
        self.asked = None;
    }

    /// A PONG arrived: everything before the question is answered. To be called besides
    /// [`Liveness::handle_heard`].
    pub fn handle_pong(&mut self) {
        if !self.sent_since {
            self.unanswered = None;
        }
    }

    /// The socket takes bytes again after a while without: the other end is there, and will come
    /// to the question after what it reads first.
    pub fn handle_relieved(&mut self, now: Instant) {
        self.handle_heard(now);
    }

    /// A packet passed, in either direction: more of them may be under way.
    pub fn handle_talked(&mut self, now: Instant) {
        self.talked = Some(now);
    }

    /// Something was sent that will be answered: DATA, which is released sooner or later, but not
    /// PING or PONG.
    pub fn handle_sent(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
        self.sent_since = true;
    }

    /// Returns what is due. Early calls do nothing.
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

    /// Returns the time at which [`Liveness::handle_timeout`] is due; ask again after every call.
    pub fn poll_timeout(&self) -> Instant {
        match self.asked {
            Some(asked) => asked + ANSWER_WITHIN,
            None => {
                let talks = self.talked.is_some_and(|at| self.heard < at + TALK);
                let quiet = if talks { PROBE_AFTER } else { self.keepalive };
                let idle = self.heard + quiet.min(self.keepalive);
                let probe = self.unanswered.map(|since| since + PROBE_AFTER);
                probe.map_or(idle, |probe| idle.min(probe))
            }
        }
    }
}

/// While something is unanswered or packets passed lately, silence of this length is suspicious: a
/// black hole is found within 4 s.
const PROBE_AFTER: Duration = Duration::from_secs(2);

/// Any end of a usable connection answers in this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A pause of this length is still part of a conversation: at most 15 questions of 40 bytes follow
/// the last packet, and a person who types again after it loses no more than the 4 s.
const TALK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(15);

    #[expect(
        clippy::disallowed_methods,
        reason = "tests need some instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
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
        // A relay under load stops: what it said last comes after what was sent last, and nothing
        // more can be sent, for credit or for room in the socket.
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

        // The answer does not cover what is sent after the question.
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
    fn who_only_receives_finds_a_direction_that_died_within_four_seconds() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        for seconds in 0..10 {
            link.handle_heard(t0 + Duration::from_secs(seconds));
            link.handle_talked(t0 + Duration::from_secs(seconds));
        }
        let silent = t0 + Duration::from_secs(9);
        assert_eq!(link.poll_timeout(), silent + PROBE_AFTER);
        assert_eq!(
            link.handle_timeout(silent + PROBE_AFTER),
            Some(Action::Ping)
        );
        let dead = silent + PROBE_AFTER + ANSWER_WITHIN;
        assert_eq!(link.handle_timeout(dead), Some(Action::Close));
    }

    #[test]
    fn a_conversation_that_is_over_costs_few_questions() {
        let t0 = start();
        let mut link = Liveness::new(t0, KEEPALIVE);
        link.handle_heard(t0);
        link.handle_talked(t0);
        let mut asked = Vec::new();
        while asked.len() < 20 {
            let at = link.poll_timeout();
            assert_eq!(link.handle_timeout(at), Some(Action::Ping));
            link.handle_heard(at);
            link.handle_pong();
            asked.push((at - t0).as_secs());
        }
        assert_eq!(asked[..3], [2, 4, 6]);
        assert_eq!(asked[14..17], [30, 45, 60]);
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
