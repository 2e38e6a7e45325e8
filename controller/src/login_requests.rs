//! Decides about logins that one machine asks for and a person grants on another one: how many may
//! be open, how often the asking program may poll, and what it hears. Holds no clock; the times of
//! polls live in memory, so a restart forgives.
//!
//! ```text
//! pending → approved → (fetched once: it is gone)
//!    ├────→ denied
//!    └────→ expired
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlan_protocol::UnixTime;

use crate::netmaps::OrgId;

/// The person whose session a request opens, and its organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginGrant {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
}

/// The decision of a person, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody has decided.
    Open,
    /// Somebody granted it.
    Granted(LoginGrant),
    /// Somebody refused it; the reason is one line for people.
    Refused(String),
}

/// The standing of a request at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits for a person.
    Pending,
    /// The asking program may fetch its session.
    Approved(LoginGrant),
    /// It was refused.
    Denied(String),
    /// Nobody decided in time, or the session was not fetched in time.
    Expired,
}

/// Returns the standing of a request that ends at `expires`.
pub(crate) fn standing(verdict: Verdict, expires: UnixTime, now: UnixTime) -> Standing {
    match verdict {
        // The reason stays readable.
        Verdict::Refused(reason) => Standing::Denied(reason),
        Verdict::Open | Verdict::Granted(_) if expires <= now => Standing::Expired,
        Verdict::Open => Standing::Pending,
        Verdict::Granted(grant) => Standing::Approved(grant),
    }
}

/// There are too many open requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FullError {
    /// From this source.
    #[error("{OPEN_PER_SOURCE} login requests from this address wait for a person")]
    Source,
    /// From everywhere.
    #[error("{OPEN_MAX} login requests wait for a person")]
    All,
}

/// Decides whether one more request may be opened.
pub(crate) fn one_more(of_source: u32, all: u32) -> Result<(), FullError> {
    if of_source >= OPEN_PER_SOURCE {
        return Err(FullError::Source);
    }
    match all < OPEN_MAX {
        true => Ok(()),
        false => Err(FullError::All),
    }
}

/// The interval that a poll is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollBeat {
    /// It came in time; the interval until the next one.
    InTime(Duration),
    /// It came too early; the interval is longer from now on.
    TooSoon(Duration),
}

/// The times of the last polls.
#[derive(Debug, Default)]
pub(crate) struct Polls(BTreeMap<String, Polled>);

#[derive(Debug, Clone, Copy)]
struct Polled {
    last: Instant,
    interval: Duration,
}

impl Polls {
    /// Counts a poll of the request `id`, which waits for a person.
    pub(crate) fn handle_poll(&mut self, now: Instant, id: &str) -> PollBeat {
        let Some(polled) = self.0.get_mut(id) else {
            // Those that are gone or ended meanwhile. Only requests that exist come here.
            if self.0.len() >= POLLS_MAX {
                self.0.retain(|_, polled| now < polled.last + LIFE);
            }
            let first = Polled {
                last: now,
                interval: INTERVAL,
            };
            self.0.insert(id.to_owned(), first);
            return PollBeat::InTime(INTERVAL);
        };
        let is_early = now + TOLERANCE < polled.last + polled.interval;
        polled.last = now;
        if is_early {
            polled.interval = (polled.interval + SLOWER).min(INTERVAL_MAX);
            return PollBeat::TooSoon(polled.interval);
        }
        PollBeat::InTime(polled.interval)
    }

    /// Forgets a request that has ended.
    pub(crate) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// The life of a request: time to walk to another machine and to find a second factor.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// The time for which a request is remembered after its end, so that its program hears why.
pub(crate) const KEPT: Duration = Duration::from_secs(600);
/// The time between two polls at first: a person does not wait long after having granted it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);
/// The time that a poll which came too early adds, as RFC 8628 says.
const SLOWER: Duration = Duration::from_secs(5);
/// Longest time between two polls.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The time by which a poll may be early: clocks and networks are not exact.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Most requests of one source that have not reached their end: a class logs in at once.
const OPEN_PER_SOURCE: u32 = 30;
/// Most requests of all sources that have not reached their end, some 3 MB on disk. At their
/// interval they make 3,300 polls each second, and to fill them takes 334 sources.
const OPEN_MAX: u32 = 10_000;
/// The number of remembered polls from which on old ones are forgotten.
const POLLS_MAX: usize = 2 * OPEN_MAX as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRANT: LoginGrant = LoginGrant {
        org: OrgId(1),
        account: 2,
    };

    #[test]
    fn a_request_ends_in_time_and_a_refusal_keeps_its_reason() {
        let (end, before) = (UnixTime::from_secs(1_000), UnixTime::from_secs(999));
        let refused = Verdict::Refused("no".to_owned());
        let denied = Standing::Denied("no".to_owned());
        assert_eq!(standing(Verdict::Open, end, before), Standing::Pending);
        assert_eq!(standing(Verdict::Open, end, end), Standing::Expired);
        let granted = Verdict::Granted(GRANT);
        assert_eq!(
            standing(granted.clone(), end, before),
            Standing::Approved(GRANT)
        );
        assert_eq!(standing(granted, end, end), Standing::Expired);
        assert_eq!(standing(refused.clone(), end, before), denied);
        assert_eq!(standing(refused, end, end), denied);
    }

    #[test]
    fn one_source_cannot_use_up_what_others_need() {
        assert_eq!(one_more(OPEN_PER_SOURCE - 1, OPEN_MAX - 1), Ok(()));
        assert_eq!(one_more(OPEN_PER_SOURCE, 0), Err(FullError::Source));
        assert_eq!(one_more(0, OPEN_MAX), Err(FullError::All));
    }

    #[test]
    fn who_polls_too_often_is_slowed_down_for_good() {
        let (mut polls, start) = (Polls::default(), tokio::time::Instant::now().into_std());
        assert_eq!(polls.handle_poll(start, "a"), PollBeat::InTime(INTERVAL));
        let next = start + INTERVAL;
        assert_eq!(polls.handle_poll(next, "a"), PollBeat::InTime(INTERVAL));
        let slower = INTERVAL + SLOWER;
        let early = next + INTERVAL / 2;
        assert_eq!(polls.handle_poll(early, "a"), PollBeat::TooSoon(slower));
        assert_eq!(polls.handle_poll(early, "b"), PollBeat::InTime(INTERVAL));
        let in_time = early + slower;
        assert_eq!(polls.handle_poll(in_time, "a"), PollBeat::InTime(slower));
        polls.forget("a");
        assert_eq!(polls.handle_poll(in_time, "a"), PollBeat::InTime(INTERVAL));
    }

    proptest! {
        /// Whatever a program does, it hears an interval within the bounds that never shrinks, and
        /// obeying it is never too early.
        #[test]
        fn obeying_is_never_too_early(pauses in prop::collection::vec(0u64..70_000, 1..60)) {
            let mut polls = Polls::default();
            let mut now = tokio::time::Instant::now().into_std();
            let mut heard = INTERVAL;
            polls.handle_poll(now, "a");
            for pause in pauses {
                let pause = Duration::from_millis(pause);
                now += pause;
                match polls.handle_poll(now, "a") {
                    PollBeat::InTime(interval) => prop_assert_eq!(interval, heard),
                    PollBeat::TooSoon(interval) => {
                        prop_assert!(pause < heard);
                        prop_assert!(heard <= interval && interval <= INTERVAL_MAX);
                        heard = interval;
                    }
                }
            }
        }
    }
}
