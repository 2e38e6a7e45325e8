//! Decides whether a peer is there, what kind of absence it is if not, and what that does to
//! connections with it. Holds what controller, relays and the peer itself said; no clock, no
//! session and no flow. Dials, flows, `wait` and `status` all ask here.
//!
//! | absence | known by | dials | connections |
//! |---|---|---|---|
//! | left | the peer said so, sealed | refused at once | end at once |
//! | removed | the netmap has it no more | no such device | end at once |
//! | restarted | a handshake of another instance | go on | those with the old instance end at once |
//! | never there | controller and relays, and it was never heard | refused at once | end at once |
//! | offline | the controller, now | refused at once | end after the patience |
//! | silent | it answers nothing | wait | end after the patience |
//!
//! Who is only silent may sleep: TCP has patience with those, and so has this. A peer with
//! connections that was not heard for a while is asked whether it is there, so that whoever only
//! waits learns of its death, too.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The presence of a peer, as far as it is known. Of several the greatest is the one to turn
/// to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The controller does not see it, or it said that it leaves.
    Offline,
    /// Nobody who knows was asked yet, or the answer is too old.
    #[default]
    Unknown,
    /// The controller sees it, or something came from it lately.
    Online,
}

/// The reason why connections with a peer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It said that it leaves.
    Left,
    /// It is no member any more, or has other keys.
    Removed,
    /// Another process runs there now.
    Restarted,
    /// Neither controller nor relays have ever seen it.
    NeverThere,
    /// The controller does not see it for longer than the patience.
    Offline,
    /// It answered nothing for longer than the patience.
    Silent,
}

/// The connections that an absence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// All, those that are being opened included.
    All,
    /// Those that the old process had; what is being opened reaches the new one.
    Open,
}

impl Absence {
    /// Returns which connections it ends.
    #[must_use]
    pub fn ends(self) -> Ends {
        match self {
            Self::Restarted => Ends::Open,
            Self::Left | Self::Removed | Self::NeverThere | Self::Offline | Self::Silent => {
                Ends::All
            }
        }
    }

    /// Its name in logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Removed => "removed",
            Self::Restarted => "restarted",
            Self::NeverThere => "never_there",
            Self::Offline => "offline",
            Self::Silent => "silent",
        }
    }
}

/// The next thing that the owner of a peer's connections does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Rest,
    /// Ask it whether it is there.
    Ask,
    /// End its connections.
    End(Absence),
}

/// The word of controller and relays about a peer at the moment of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// The session with the controller is open, and what it said holds now.
    pub(super) is_current: bool,
    /// None of its relays that can be asked has it.
    pub(super) is_nowhere: bool,
}

/// The knowledge about one peer.
#[derive(Debug)]
pub(super) struct Standing {
    patience: Duration,
    began: Instant,
    /// The controller's last word.
    told_online: bool,
    /// The time when the controller first said that it is not there.
    offline_since: Option<Instant>,
    /// The controller saw it, or it was heard: connections with it outlast its absences.
    seen: bool,
    /// The time when it said that it leaves.
    left: Option<Instant>,
    heard: Option<Instant>,
    /// The time when the first of the messages went out that nothing came after.
    sent: Option<Instant>,
    /// The time when it was asked last, or would have been if it could be.
    asked: Option<Instant>,
    /// The patience is over: when it was asked for the last time.
    last_call: Option<Instant>,
    /// It may have connections.
    watched: bool,
}

impl Standing {
    /// A peer of which nothing is known. `patience` is how long connections wait for one that only
    /// does not answer.
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self {
            patience,
            began: now,
            told_online: true,
            offline_since: None,
            seen: false,
            left: None,
            heard: None,
            sent: None,
            asked: None,
            last_call: None,
            watched: false,
        }
    }

    /// The controller says, in a session that is open, whether it sees the peer. Returns whether
    /// the peer came back: what was found out about its absence is void.
    pub(super) fn handle_told(&mut self, now: Instant, online: bool) -> bool {
        let came = online && !self.told_online;
        self.told_online = online;
        if online {
            self.seen = true;
            self.offline_since = None;
            if came {
                self.left = None;
            }
        } else {
            self.offline_since.get_or_insert(now);
        }
        came
    }

    /// Something authentic came from it.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.seen = true;
        self.sent = None;
        self.last_call = None;
    }

    /// Something was sealed for it. Returns whether [`Standing::poll_timeout`] is asked again
    /// because of it.
    pub(super) fn handle_sent(&mut self, now: Instant) -> bool {
        self.sent.get_or_insert(now);
        !std::mem::replace(&mut self.watched, true)
    }

    /// Returns whether it may have connections.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// It said that it leaves.
    pub(super) fn handle_left(&mut self, now: Instant) -> Absence {
        self.left = Some(now);
        Absence::Left
    }

    /// Another process of it proved its keys.
    pub(super) fn handle_restarted(&mut self) -> Absence {
        self.left = None;
        Absence::Restarted
    }

    /// Returns whether it is there.
    pub(super) fn presence(&self, now: Instant, word: Word) -> Presence {
        if self.left.is_some_and(|at| now < at + LEFT_COUNTS) {
            return Presence::Offline;
        }
        let heard_lately = self.heard.is_some_and(|at| now < at + HEARD_COUNTS);
        if self.is_offline(word.is_current) {
            Presence::Offline
        } else if word.is_nowhere {
            Presence::Unknown
        } else if heard_lately || (word.is_current && self.told_online) {
            Presence::Online
        } else {
            Presence::Unknown
        }
    }

    /// The absence that follows from what others say, if it is one that ends every connection
    /// without waiting.
    pub(super) fn absence(&self, word: Word) -> Option<Absence> {
        let never = !self.seen && word.is_nowhere && self.is_offline(word.is_current);
        never.then_some(Absence::NeverThere)
    }

    /// Does what is due for its connections; `has_connections` = there are any. Early calls do
    /// nothing.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        word: Word,
        has_connections: bool,
    ) -> Action {
        if !self.watched {
            return Action::Rest;
        }
        if !has_connections {
            self.forget();
            return Action::Rest;
        }
        let over = self
            .patience_ends(word.is_current)
            .filter(|(ends, _)| now >= *ends);
        match (over, self.last_call) {
            (Some(_), None) => self.call(now),
            (Some((_, absence)), Some(called)) if now >= called + ANSWER_WITHIN => {
                // Whoever slept meanwhile could not hear the answer.
                if now >= called + ANSWER_WITHIN * 2 {
                    return self.call(now);
                }
                self.forget();
                Action::End(absence)
            }
            (Some(_), Some(_)) => Action::Rest,
            (None, _) => {
                self.last_call = None;
                if now < self.ask_at() {
                    return Action::Rest;
                }
                self.asked = Some(now);
                self.sent.get_or_insert(now);
                Action::Ask
            }
        }
    }

    /// Returns the time when [`Standing::handle_timeout`] is due. `None` for a peer without
    /// connections.
    pub(super) fn poll_timeout(&self, is_current: bool) -> Option<Instant> {
        if !self.watched {
            return None;
        }
        if let Some(called) = self.last_call {
            return Some(called + ANSWER_WITHIN);
        }
        let ends = self.patience_ends(is_current).map(|(ends, _)| ends);
        Some(ends.map_or(self.ask_at(), |ends| ends.min(self.ask_at())))
    }

    fn call(&mut self, now: Instant) -> Action {
        self.last_call = Some(now);
        self.asked = Some(now);
        Action::Ask
    }

    /// It has no connections any more, for which its silence would matter.
    fn forget(&mut self) {
        self.watched = false;
        self.sent = None;
        self.last_call = None;
    }

    /// The controller says so now, and nothing came from it since.
    fn is_offline(&self, is_current: bool) -> bool {
        is_current
            && self
                .offline_since
                .is_some_and(|since| self.heard.is_none_or(|heard| heard <= since))
    }

    /// Returns the time when connections need not wait any more, and for which absence.
    fn patience_ends(&self, is_current: bool) -> Option<(Instant, Absence)> {
        let silent = self.sent.map(|since| (since, Absence::Silent));
        let offline = self.offline_since.filter(|_| self.is_offline(is_current));
        let offline = offline.map(|since| (since, Absence::Offline));
        let (since, absence) = silent
            .into_iter()
            .chain(offline)
            .min_by_key(|(at, _)| *at)?;
        Some((since + self.patience, absence))
    }

    fn ask_at(&self) -> Instant {
        let last = self.heard.max(self.asked).max(self.sent);
        last.unwrap_or(self.began) + ASK_EVERY
    }
}

/// The time that connections wait for a peer that answers nothing: as long as TCP elsewhere repeats
/// what is not acknowledged (RFC 9293, R2: "at least 100 seconds"; Linux: 15 tries, some 15
/// minutes).
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A peer with connections that was not heard for so long is asked. One message of 50 bytes a
/// minute each way; a peer that was killed and started again tells by its answer that it knows
/// nothing of them.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// An answer over any usable way takes less; a link that has to be opened anew first is part of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// For so long whoever was heard is there, whatever nobody says: an answer to each question, and
/// some room.
const HEARD_COUNTS: Duration = Duration::from_secs(90);

/// For so long a farewell counts if the controller says nothing else: a device that is started
/// again is there by then.
const LEFT_COUNTS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
