//! Decides how long a login must wait after failed ones. Holds no clock; lives in memory, so a
//! restart forgives.
//!
//! Nobody is locked out by others: strangers only delay strangers. Each account counts by [`Lane`]:
//! where an attempt comes from, and what vouches for it. All strangers of an account share one
//! allowance, so that many of them guess no more than few. A source from which the account logged
//! in before, a device of the person and the controller's own machine have lanes of their own,
//! which no stranger can fill. An attempt counts as failed from its beginning, so that many at once
//! do not slip through; [`Throttle::withdraw`] takes back an attempt that compared no password.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use overlan_protocol::key::DeviceId;

use crate::auth::password::Asker;
use crate::rate::{Allowance, Pace};
use crate::store::accounts::Digest;

/// The source of an attempt, and what vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Nothing is known of this source.
    Stranger(IpAddr),
    /// The account logged in from this source before.
    Known(IpAddr),
    /// A device that the person enrolled, which proved its key.
    Device(DeviceId),
    /// The controller's own machine.
    Host(IpAddr),
    /// A live session of the account, which means that its password was known before.
    Session(Digest),
}

/// One attempt to log in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// Email in lower case.
    pub(crate) account: &'a str,
    /// There is such an account. Attempts at others are delayed alike, and take no memory from real
    /// accounts.
    pub(crate) exists: bool,
    pub(crate) lane: Lane,
}

/// The failed logins, by source and by account, and the sign-ups by source.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    sources: BTreeMap<IpAddr, Allowance>,
    sign_ups: BTreeMap<IpAddr, Allowance>,
    accounts: BTreeMap<String, Account>,
    /// Emails that no account has.
    made_up: BTreeMap<String, Account>,
}

#[derive(Debug)]
struct Account {
    strangers: Allowance,
    lanes: BTreeMap<Lane, Failures>,
    last: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    free_at: Instant,
    last: Instant,
}

impl Throttle {
    /// Begins an attempt, or returns how long to wait before the next one.
    pub(crate) fn begin(&mut self, now: Instant, attempt: &Attempt<'_>) -> Result<(), Duration> {
        if let Some((source, pace)) = attempt.lane.by_source() {
            of_source(&mut self.sources, now, source).take(now, pace)?;
        }
        let account = self.account(now, attempt);
        account.last = now;
        if let Some(failures) = account.lanes.get(&attempt.lane)
            && now < failures.free_at
        {
            return Err(failures.free_at - now);
        }
        if let Lane::Stranger(_) = attempt.lane {
            account.strangers.take(now, STRANGERS)?;
        }
        // Only as many as the allowance lets in come here, so there are few lanes.
        account
            .lanes
            .retain(|_, failures| now < failures.last + FORGOTTEN_AFTER);
        let failures = account.lanes.entry(attempt.lane).or_insert(Failures {
            count: 0,
            free_at: now,
            last: now,
        });
        failures.count += 1;
        failures.last = now;
        failures.free_at = now + delay(failures.count, attempt.lane.longest_delay());
        Ok(())
    }

    /// Counts a one-time token that somebody presents, or returns how long to wait before the next
    /// one. It shares the allowance of the source's logins. Tokens cannot be guessed; this bounds
    /// the work that guessing makes.
    pub(crate) fn count_token(&mut self, now: Instant, source: IpAddr) -> Result<(), Duration> {
        let pace = match source.is_loopback() {
            true => HOST,
            false => SOURCE,
        };
        of_source(&mut self.sources, now, source).take(now, pace)
    }

    /// Counts a sign-up, which makes an organisation and a network that stay, or returns how long
    /// to wait before the next one.
    pub(crate) fn count_sign_up(&mut self, now: Instant, source: IpAddr) -> Result<(), Duration> {
        of_source(&mut self.sign_ups, now, source).take(now, SIGN_UPS)
    }

    /// The password was right: the lane starts over.
    pub(crate) fn succeed(&mut self, attempt: &Attempt<'_>) {
        if let Some(account) = self.find(attempt) {
            account.lanes.remove(&attempt.lane);
            if let Lane::Stranger(_) = attempt.lane {
                account.strangers.give_back(STRANGERS);
            }
        }
    }

    /// No password was compared, so nothing failed.
    pub(crate) fn withdraw(&mut self, attempt: &Attempt<'_>) {
        let Some(account) = self.find(attempt) else {
            return;
        };
        if let Some(failures) = account.lanes.get_mut(&attempt.lane) {
            failures.count = failures.count.saturating_sub(1);
            let delay = delay(failures.count, attempt.lane.longest_delay());
            failures.free_at = failures.last + delay;
        }
        if let Lane::Stranger(_) = attempt.lane {
            account.strangers.give_back(STRANGERS);
        }
    }

    fn find(&mut self, attempt: &Attempt<'_>) -> Option<&mut Account> {
        match attempt.exists {
            true => self.accounts.get_mut(attempt.account),
            false => self.made_up.get_mut(attempt.account),
        }
    }

    fn account(&mut self, now: Instant, attempt: &Attempt<'_>) -> &mut Account {
        // There are few real accounts, and each keeps no more lanes than its strangers' allowance
        // lets in.
        let table = match attempt.exists {
            true => &mut self.accounts,
            false => {
                make_room(&mut self.made_up, attempt.account, MADE_UP_MAX, |it| {
                    it.last
                });
                &mut self.made_up
            }
        };
        table.entry(attempt.account.to_owned()).or_insert(Account {
            strangers: Allowance::new(now),
            lanes: BTreeMap::new(),
            last: now,
        })
    }
}

/// Returns the allowance of a source, which is whole if it is new.
fn of_source(
    table: &mut BTreeMap<IpAddr, Allowance>,
    now: Instant,
    source: IpAddr,
) -> &mut Allowance {
    if table.len() >= SOURCES_MAX {
        table.retain(|_, allowance| !allowance.is_whole(now));
    }
    make_room(table, &source, SOURCES_MAX, Allowance::whole_at);
    table.entry(source).or_insert_with(|| Allowance::new(now))
}

impl Lane {
    /// Returns the pace that all attempts of a source share, whatever accounts they name. A known
    /// caller is not kept out by others that share its address.
    fn by_source(self) -> Option<(IpAddr, Pace)> {
        match self {
            Self::Stranger(source) => Some((source, SOURCE)),
            Self::Host(source) => Some((source, HOST)),
            Self::Known(_) | Self::Device(_) | Self::Session(_) => None,
        }
    }

    /// Says whether something vouches for the caller.
    pub(crate) fn asker(self) -> Asker {
        match self {
            Self::Stranger(_) => Asker::Stranger,
            Self::Known(_) | Self::Device(_) | Self::Host(_) | Self::Session(_) => Asker::Known,
        }
    }

    fn longest_delay(self) -> Duration {
        match self {
            Self::Stranger(_) | Self::Known(_) | Self::Device(_) | Self::Session(_) => DELAY_MAX,
            Self::Host(_) => HOST_DELAY_MAX,
        }
    }
}

/// Forgets the oldest entry by `age` if `key` would be one too many.
fn make_room<K, Q, V>(table: &mut BTreeMap<K, V>, key: &Q, max: usize, age: impl Fn(&V) -> Instant)
where
    K: Ord + Clone + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    if table.len() < max || table.contains_key(key) {
        return;
    }
    let oldest = table.iter().min_by_key(|(_, value)| age(value));
    if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
        table.remove(oldest.borrow());
    }
}

/// Returns the delay: after the free failures 2, 4, 8 … seconds.
fn delay(failures: u32, longest: Duration) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(2u64.saturating_pow(over + 1)).min(longest),
    }
}

/// Failures in a row without a delay: people mistype.
const FREE_FAILURES: u32 = 5;
/// Longest delay of a lane: 110 tries in the first day and 96 in each one after that.
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest delay at the controller's own machine, where the owner always gets a try: 8,640 a day.
const HOST_DELAY_MAX: Duration = Duration::from_secs(10);
/// The time after which failures of a lane do not count any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The pace that all strangers of one account share: at most 1,000 attempts in any day (200 and
/// 800). One stranger alone stays below the rate at which the allowance refills, so it never keeps
/// another out.
const STRANGERS: Pace = Pace {
    burst: 200,
    every: Duration::from_secs(108),
};
/// The pace of one source for all accounts: each attempt costs 20 ms of a core.
const SOURCE: Pace = Pace {
    burst: 30,
    every: Duration::from_secs(2),
};
/// The pace of the controller's own machine, where a proxy may stand for many people.
const HOST: Pace = Pace {
    burst: 60,
    every: Duration::from_millis(200),
};

/// The sign-ups of one source: a class signs up from one address at once, and a stranger who goes
/// on makes six organisations in an hour.
const SIGN_UPS: Pace = Pace {
    burst: 20,
    every: Duration::from_secs(600),
};

/// Most sources remembered, some 1 MB; one whose allowance is whole again goes first.
const SOURCES_MAX: usize = 16_384;
/// Most emails without an account remembered, some 2 MB; the one that was tried longest ago goes
/// first.
const MADE_UP_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
