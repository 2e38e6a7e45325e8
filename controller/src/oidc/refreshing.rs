//! Decides when the identity provider is asked again who a person is, and how long its last answer
//! counts. Holds no clock, no token and no connection.
//!
//! ```text
//! heard ──every──> due ──asked──> heard | silent (due again after `every`) | ended
//!   └────────── KEPT without a word: the groups are empty ──────────┘
//! ```
//!
//! A group that was lost at the provider is felt within that time and the time of one answer, as
//! long as no more people are due than [`QUESTIONS_AT_ONCE`] questions reach meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlan_protocol::UnixTime;

use crate::store::identities::Whose;

/// The people whose groups come from an identity provider.
#[derive(Debug)]
pub(crate) struct Refreshing {
    every: Duration,
    people: BTreeMap<Whose, Watched>,
    asked: usize,
}

#[derive(Debug)]
struct Watched {
    /// The provider said something then.
    heard: UnixTime,
    next: Instant,
    is_asked: bool,
}

impl Refreshing {
    /// One that asks about each person `every` so often.
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            people: BTreeMap::new(),
            asked: 0,
        }
    }

    /// Follows exactly these people, each with the time at which the provider was heard last. Those
    /// who are new, or were heard by another way, are asked about after a whole interval.
    pub(crate) fn follow(
        &mut self,
        now: Instant,
        people: impl IntoIterator<Item = (Whose, UnixTime)>,
    ) {
        let mut before = std::mem::take(&mut self.people);
        for (whose, heard) in people {
            let watched = match before.remove(&whose) {
                Some(mut known) => {
                    if known.heard < heard {
                        known.heard = heard;
                        known.next = now + self.every;
                    }
                    known
                }
                None => Watched {
                    heard,
                    next: now + self.every,
                    is_asked: false,
                },
            };
            self.people.insert(whose, watched);
        }
        self.asked = self.people.values().filter(|it| it.is_asked).count();
    }

    /// Returns the people about whom the provider is to be asked now, the longest due first; each
    /// of them ends with [`Refreshing::handle_heard`] or [`Refreshing::handle_silence`].
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Whose> {
        let waiting = self.people.iter();
        let waiting = waiting.filter(|(_, it)| !it.is_asked && it.next <= now);
        let mut due: Vec<(Instant, Whose)> = waiting.map(|(who, it)| (it.next, *who)).collect();
        due.sort_unstable_by_key(|(next, who)| (*next, *who));
        due.truncate(QUESTIONS_AT_ONCE.saturating_sub(self.asked));
        for (_, who) in &due {
            if let Some(watched) = self.people.get_mut(who) {
                watched.is_asked = true;
            }
        }
        self.asked += due.len();
        due.into_iter().map(|(_, who)| who).collect()
    }

    /// The provider has answered, also if only to say that it does not know the person any more.
    pub(crate) fn handle_heard(&mut self, now: Instant, wall: UnixTime, who: Whose) {
        if let Some(watched) = self.people.get_mut(&who) {
            watched.heard = wall;
        }
        self.settle(now, who);
    }

    /// The provider was asked in vain.
    pub(crate) fn handle_silence(&mut self, now: Instant, who: Whose) {
        self.settle(now, who);
    }

    fn settle(&mut self, now: Instant, who: Whose) {
        if let Some(watched) = self.people.get_mut(&who)
            && watched.is_asked
        {
            watched.is_asked = false;
            watched.next = now + self.every;
            self.asked -= 1;
        }
    }

    /// Returns the people whose groups do not count any more: nobody has said for [`KEPT`] that
    /// they are still in them.
    pub(crate) fn forgotten(&self, wall: UnixTime) -> Vec<Whose> {
        let people = self.people.iter();
        let old = people.filter(|(_, watched)| watched.heard + KEPT <= wall);
        old.map(|(who, _)| *who).collect()
    }

    /// Returns the time at which [`Refreshing::due`] has something, if somebody may be asked then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.people.values().filter(|it| !it.is_asked);
        waiting
            .map(|it| it.next)
            .min()
            .filter(|_| self.asked < QUESTIONS_AT_ONCE)
    }
}

/// The time for which groups count while the provider says nothing: longer than most outages.
pub(crate) const KEPT: Duration = Duration::from_secs(3_600);

/// Questions at once: at 50 ms for an answer, five thousand people in 30 s.
const QUESTIONS_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netmaps::OrgId;

    const EVERY: Duration = Duration::from_secs(30);
    const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn start() -> (Refreshing, Instant) {
        let now = tokio::time::Instant::now().into_std();
        (Refreshing::new(EVERY), now)
    }

    fn person(account: i64) -> Whose {
        (OrgId(1), account)
    }

    #[test]
    fn a_person_is_asked_about_once_in_a_while_and_at_once_only_once() {
        let (mut refreshing, now) = start();
        refreshing.follow(now, [(person(1), WALL)]);
        assert_eq!(refreshing.due(now), []);
        assert_eq!(refreshing.deadline(), Some(now + EVERY));
        let at = now + EVERY;
        assert_eq!(refreshing.due(at), [person(1)]);
        assert_eq!(refreshing.due(at + EVERY), [], "it is asked already");
        refreshing.handle_silence(at, person(1));
        assert_eq!(refreshing.deadline(), Some(at + EVERY));
        // A login says the same as an answer.
        refreshing.follow(at, [(person(1), WALL + EVERY)]);
        refreshing.follow(at + EVERY / 2, [(person(1), WALL + EVERY * 2)]);
        assert_eq!(refreshing.due(at + EVERY), []);
        assert_eq!(refreshing.due(at + EVERY * 3 / 2), [person(1)]);
        refreshing.follow(at, []);
        refreshing.handle_heard(at, WALL, person(1));
        assert_eq!(refreshing.deadline(), None);
    }

    #[test]
    fn groups_of_a_silent_provider_count_for_a_bounded_time() {
        let (mut refreshing, now) = start();
        refreshing.follow(now, [(person(1), WALL), (person(2), WALL)]);
        refreshing.due(now + EVERY);
        refreshing.handle_heard(now + EVERY, WALL + EVERY, person(2));
        refreshing.handle_silence(now + EVERY, person(1));
        let just_before = WALL + KEPT - Duration::from_secs(1);
        assert_eq!(refreshing.forgotten(just_before), []);
        assert_eq!(refreshing.forgotten(WALL + KEPT), [person(1)]);
        let all = [person(1), person(2)];
        assert_eq!(refreshing.forgotten(WALL + KEPT + EVERY), all);
    }

    proptest! {
        /// With a provider that answers within a second, nobody stays unheard for a minute, and
        /// nobody is asked about more often than the pace says.
        #[test]
        fn a_lost_group_is_felt_within_a_minute(
            people in 1i64..200,
            answers in prop::collection::vec(1u64..1_000, 1..50),
        ) {
            let (mut refreshing, start) = start();
            refreshing.follow(start, (0..people).map(|account| (person(account), WALL)));
            let mut answers = answers.into_iter().cycle();
            let mut last: BTreeMap<Whose, Instant> =
                (0..people).map(|account| (person(account), start)).collect();
            let mut flights: Vec<(Instant, Whose)> = Vec::new();
            let mut now = start;
            while now < start + Duration::from_secs(200) {
                for who in refreshing.due(now) {
                    prop_assert!(now >= last[&who] + EVERY);
                    flights.push((now + Duration::from_millis(answers.next().unwrap()), who));
                }
                prop_assert!(flights.len() <= QUESTIONS_AT_ONCE);
                let landing = flights.iter().map(|(at, _)| *at).min();
                let next = [landing, refreshing.deadline()].into_iter().flatten().min();
                now = next.unwrap().max(now);
                let landed: Vec<Whose> =
                    flights.iter().filter(|(at, _)| *at <= now).map(|(_, who)| *who).collect();
                flights.retain(|(at, _)| *at > now);
                for who in landed {
                    prop_assert!(now <= last[&who] + Duration::from_secs(60));
                    refreshing.handle_heard(now, WALL, who);
                    last.insert(who, now);
                }
            }
        }
    }
}
