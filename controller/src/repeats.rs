//! Decides which requests repeat an earlier one, by the key that their caller gave both. Holds the
//! answers of the earlier ones for a while; knows no HTTP.
//!
//! ```text
//! begin → running → finish → answered (repeats get the answer) or forgotten (repeats run)
//!            └── dropped → lost (repeats are refused)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::store::accounts::Digest;

/// The requests with keys that accounts made lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    accounts: BTreeMap<i64, VecDeque<Keyed>>,
    total: usize,
}

/// A request that came with a key.
#[derive(Debug)]
struct Keyed {
    key: Digest,
    request: Digest,
    began: Instant,
    state: KeyedState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyedState {
    Running,
    Answered(Bytes),
    Lost,
}

/// The verdict on a request that has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is the first one: it runs, and [`Repeats::finish`] must follow.
    First,
    /// It was answered with this before.
    Answered(Bytes),
    /// The first one is still being answered.
    Running,
    /// The first one ended without an answer; nobody knows how far it came.
    Lost,
    /// The key belongs to another request.
    Other,
}

/// The end of a first request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was done; repeats get the same answer.
    Done(Bytes),
    /// It was refused and changed nothing; a repeat runs.
    Refused,
    /// Its caller left before it had an answer.
    Left,
}

impl Repeats {
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        account: i64,
        key: Digest,
        request: Digest,
    ) -> Repeat {
        self.forget_old(now, account);
        let entries = self.accounts.entry(account).or_default();
        if let Some(known) = entries.iter().find(|known| known.key == key) {
            return match &known.state {
                _ if known.request != request => Repeat::Other,
                KeyedState::Running => Repeat::Running,
                KeyedState::Answered(answer) => Repeat::Answered(answer.clone()),
                KeyedState::Lost => Repeat::Lost,
            };
        }
        entries.push_back(Keyed {
            key,
            request,
            began: now,
            state: KeyedState::Running,
        });
        self.total += 1;
        if entries.len() > KEYS_PER_ACCOUNT {
            self.drop_oldest(account);
        } else if self.total > REPEATS_MAX {
            let most = self.accounts.iter().max_by_key(|(_, keyed)| keyed.len());
            if let Some(most) = most.map(|(account, _)| *account) {
                self.drop_oldest(most);
            }
        }
        Repeat::First
    }

    pub(crate) fn finish(&mut self, account: i64, key: &Digest, end: End) {
        let Some(entries) = self.accounts.get_mut(&account) else {
            return;
        };
        let Some(at) = entries.iter().position(|known| known.key == *key) else {
            return;
        };
        entries[at].state = match end {
            End::Done(answer) if answer.len() <= ANSWER_MAX => KeyedState::Answered(answer),
            End::Done(_) | End::Left => KeyedState::Lost,
            End::Refused => {
                entries.remove(at);
                self.total -= 1;
                return;
            }
        };
    }

    fn forget_old(&mut self, now: Instant, account: i64) {
        let is_old = |keyed: &Keyed| now.saturating_duration_since(keyed.began) >= KEY_LIFE;
        while self
            .accounts
            .get(&account)
            .and_then(VecDeque::front)
            .is_some_and(is_old)
        {
            self.drop_oldest(account);
        }
    }

    fn drop_oldest(&mut self, account: i64) {
        let Some(entries) = self.accounts.get_mut(&account) else {
            return;
        };
        if entries.pop_front().is_some() {
            self.total -= 1;
        }
        if entries.is_empty() {
            self.accounts.remove(&account);
        }
    }
}

/// The time for which a key is remembered, seconds: longer than programs try again.
const KEY_LIFE: Duration = Duration::from_secs(3_600);

/// Keys remembered for one account; the oldest gives way.
const KEYS_PER_ACCOUNT: usize = 64;

/// Keys remembered for all accounts; the oldest of the account with the most gives way.
const REPEATS_MAX: usize = 2_048;

/// Longest answer that is remembered, bytes: a new key or token, and all that is said of it.
const ANSWER_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Digest = [9; 32];

    fn key(number: usize) -> Digest {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_repeat_gets_the_answer_of_the_first_until_that_is_old() {
        let (mut repeats, start) = (Repeats::default(), tokio::time::Instant::now().into_std());
        let answer = Bytes::from_static(b"{}");
        let begin = |repeats: &mut Repeats, after: u64, account, request| {
            repeats.begin(start + Duration::from_secs(after), account, key(1), request)
        };
        assert_eq!(begin(&mut repeats, 0, 1, REQUEST), Repeat::First);
        assert_eq!(begin(&mut repeats, 1, 1, REQUEST), Repeat::Running);
        assert_eq!(begin(&mut repeats, 1, 1, [8; 32]), Repeat::Other);
        assert_eq!(
            begin(&mut repeats, 1, 2, [8; 32]),
            Repeat::First,
            "another account"
        );
        repeats.finish(1, &key(1), End::Done(answer.clone()));
        assert_eq!(
            begin(&mut repeats, 3_599, 1, REQUEST),
            Repeat::Answered(answer)
        );
        assert_eq!(begin(&mut repeats, 3_600, 1, REQUEST), Repeat::First);
    }

    #[test]
    fn what_was_refused_may_run_again_and_what_was_lost_may_not() {
        let (mut repeats, now) = (Repeats::default(), tokio::time::Instant::now().into_std());
        for (end, expected) in [
            (End::Refused, Repeat::First),
            (End::Left, Repeat::Lost),
            (End::Done(vec![0; ANSWER_MAX + 1].into()), Repeat::Lost),
        ] {
            let number = repeats.total + 100;
            assert_eq!(repeats.begin(now, 1, key(number), REQUEST), Repeat::First);
            repeats.finish(1, &key(number), end);
            assert_eq!(repeats.begin(now, 1, key(number), REQUEST), expected);
        }
    }

    #[test]
    fn nobody_fills_the_memory_of_others() {
        let (mut repeats, now) = (Repeats::default(), tokio::time::Instant::now().into_std());
        repeats.begin(now, 1, key(0), REQUEST);
        for number in 0..REPEATS_MAX * 2 {
            repeats.begin(now, 2, key(number), REQUEST);
        }
        assert_eq!(repeats.total, 1 + KEYS_PER_ACCOUNT);
        for account in 3..200 {
            for number in 0..KEYS_PER_ACCOUNT {
                repeats.begin(now, account, key(number), REQUEST);
            }
        }
        assert_eq!(repeats.total, REPEATS_MAX);
        let held: usize = repeats.accounts.values().map(VecDeque::len).sum();
        assert_eq!(held, REPEATS_MAX);
        assert_eq!(repeats.begin(now, 1, key(0), REQUEST), Repeat::Running);
    }
}
