//! Decides whether a peer is online, which kind of absence it is if not, and which connections with
//! it end. Holds the reports of the controller, the relays and the peer itself; no clock, no
//! session and no flow. Dials, flows, `wait` and `status` all ask here.
//!
//! | absence | known by | dials | connections |
//! |---|---|---|---|
//! | left | a sealed farewell from the peer | refused at once | end at once |
//! | removed | the netmap lists it no more | no such device | end at once |
//! | restarted | a handshake of another instance | go on | end at once if with the old instance |
//! | never there | controller and relays, and it was never heard | refused at once | end at once |
//! | offline | the current report of the controller | refused at once | end after the patience |
//! | silent | it answers nothing | wait | end after the patience |
//!
//! A peer that is only silent may be asleep: TCP has patience with such hosts, and so have we. A
//! peer with connections that has been silent for a while is asked whether it is there, so that
//! connections that only wait learn of its death too.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The presence of a peer, as far as is known. Of several devices the one with the greatest
/// presence is tried first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The controller does not see it, or it sent a farewell.
    Offline,
    /// There is no report about it, or only one that is too old.
    #[default]
    Unknown,
    /// The controller sees it, or something came from it lately.
    Online,
}

/// The reason why connections with a peer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It sent a farewell.
    Left,
    /// It is not a member any more, or has other keys.
    Removed,
    /// Another process of the device runs there.
    Restarted,
    /// Neither controller nor relays have ever seen it.
    NeverThere,
    /// The controller has not seen it for longer than the patience.
    Offline,
    /// It answered nothing for longer than the patience.
    Silent,
}

/// The connections that an absence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// All, including those that are being opened.
    All,
    /// Those that the old process had; connections that are being opened reach the new one.
    Open,
}

impl Absence {
    /// The connections that it ends.
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

/// The next step of the owner of a peer's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Do nothing.
    Rest,
    /// Ask the peer whether it is there.
    Ask,
    /// End its connections, for this absence.
    End(Absence),
}

/// The reports of controller and relays about a peer at the moment of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// The controller session is open, so its report is up to date.
    pub(super) is_current: bool,
    /// None of the peer's relays that can be asked has it attached.
    pub(super) is_nowhere: bool,
}

/// The knowledge about one peer.
#[derive(Debug)]
pub(super) struct Standing {
    patience: Duration,
    began: Instant,
    /// The controller's last report.
    reported_online: bool,
    /// The time at which the controller first reported that it is offline.
    offline_since: Option<Instant>,
    /// The controller saw it, or it was heard: connections with it outlast its absences.
    seen: bool,
    /// The time at which it sent a farewell.
    left: Option<Instant>,
    heard: Option<Instant>,
    /// The time at which the first message went out that nothing came after.
    sent: Option<Instant>,
    /// The time at which it was asked last, or would have been if it had been reachable.
    asked: Option<Instant>,
    /// The patience is over: the time at which it was asked once more.
    last_call: Option<Instant>,
    /// It may have connections.
    watched: bool,
}

impl Standing {
    /// A peer about which nothing is known. Connections wait for `patience` while it only does not
    /// answer.
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self {
            patience,
            began: now,
            reported_online: true,
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

    /// Takes the controller's report, in a session that is open, of whether it sees the peer.
    /// Returns whether the peer came back: then earlier findings about its absence are void.
    pub(super) fn handle_reported(&mut self, now: Instant, online: bool) -> bool {
        let came = online && !self.reported_online;
        self.reported_online = online;
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

    /// An authentic message came from it.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.seen = true;
        self.sent = None;
        self.last_call = None;
    }

    /// A message was sealed for it. Returns whether [`Standing::poll_timeout`] must be asked again.
    pub(super) fn handle_sent(&mut self, now: Instant) -> bool {
        self.sent.get_or_insert(now);
        !std::mem::replace(&mut self.watched, true)
    }

    /// Returns whether it may have connections.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// It sent a farewell.
    pub(super) fn handle_left(&mut self, now: Instant) -> Absence {
        self.left = Some(now);
        Absence::Left
    }

    /// Another process of the device proved its keys.
    pub(super) fn handle_restarted(&mut self) -> Absence {
        self.left = None;
        Absence::Restarted
    }

    /// Returns whether it is online.
    pub(super) fn presence(&self, now: Instant, word: Word) -> Presence {
        if self.left.is_some_and(|at| now < at + LEFT_COUNTS) {
            return Presence::Offline;
        }
        let heard_lately = self.heard.is_some_and(|at| now < at + HEARD_COUNTS);
        if self.is_offline(word.is_current) {
            Presence::Offline
        } else if word.is_nowhere {
            Presence::Unknown
        } else if heard_lately || (word.is_current && self.reported_online) {
            Presence::Online
        } else {
            Presence::Unknown
        }
    }

    /// The absence that follows from the reports of others, if it is one that ends every connection
    /// without waiting.
    pub(super) fn absence(&self, word: Word) -> Option<Absence> {
        let never = !self.seen && word.is_nowhere && self.is_offline(word.is_current);
        never.then_some(Absence::NeverThere)
    }

    /// Returns what is due for its connections, of which there are some if `has_connections`. Early
    /// calls do nothing.
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
                // If this device slept meanwhile, it could not hear the answer.
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

    /// Returns the time at which [`Standing::handle_timeout`] is due. `None` for a peer without
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

    /// It has no connections any more, so its silence does not matter.
    fn forget(&mut self) {
        self.watched = false;
        self.sent = None;
        self.last_call = None;
    }

    /// Returns whether the controller reports it as offline and nothing came from it since.
    fn is_offline(&self, is_current: bool) -> bool {
        is_current
            && self
                .offline_since
                .is_some_and(|since| self.heard.is_none_or(|heard| heard <= since))
    }

    /// Returns the time at which connections stop waiting, and the absence that ends them.
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

/// The time for which connections wait for a peer that answers nothing: as long as other TCPs
/// repeat bytes that are not acknowledged (RFC 9293, R2: "at least 100 seconds"; Linux: 15 tries,
/// some 15 minutes).
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A peer with connections that was silent for this long is asked. One message of 50 bytes a minute
/// each way; the answer of a peer that was killed and started again shows that it does not know
/// them.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Longer than an answer over any usable way takes, including the opening of a link.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A peer that was heard counts as online for this long, unless the controller reports otherwise:
/// until the answer to the next question, and some room.
const HEARD_COUNTS: Duration = Duration::from_secs(90);

/// A farewell counts for this long, unless the controller reports otherwise: a device that is
/// started again is online by then.
const LEFT_COUNTS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
