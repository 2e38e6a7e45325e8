//! Decides what one connection may have outstanding per destination, and which CREDIT and PEER_GONE
//! frames it is owed. Holds counters; no clock, no socket, no payload.
//!
//! Notices are kept per destination and merged: only the newest total of a destination matters, so
//! a client that does not read makes nothing grow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use overlan_protocol::credit::{Announcement, IDLE, RelayCredit, WINDOW_MAX};
use overlan_protocol::frame::{Frame, GoneReason};

use crate::memory::Account;
use crate::switch::Place;

/// All that one connection has sent, by destination, since its WELCOME.
pub(crate) struct Ledger {
    window: u32,
    pairs: BTreeMap<Place, Pair>,
    /// Destinations with a notice due, each at most once.
    due: VecDeque<Place>,
    /// Destinations whose window is larger than the first one, and by how much all of them
    /// together, bytes.
    grown: BTreeSet<Place>,
    reserved: usize,
    /// The time at which the grown ones are looked at again.
    sweep_at: Option<Instant>,
}

/// The connection named more destinations than [`DESTINATIONS_MAX`]; the caller ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyDestinations;

impl Ledger {
    /// `window`: as promised in WELCOME, bytes.
    pub(crate) fn new(window: u32) -> Self {
        Self {
            window,
            pairs: BTreeMap::new(),
            due: VecDeque::new(),
            grown: BTreeSet::new(),
            reserved: 0,
            sweep_at: None,
        }
    }

    /// Bytes within which the source may start frames for `to`; the last one may go beyond.
    pub(crate) fn allowance(&mut self, to: Place) -> Result<u64, TooManyDestinations> {
        if self.pairs.len() >= DESTINATIONS_MAX && !self.pairs.contains_key(&to) {
            return Err(TooManyDestinations);
        }
        let window = self.window;
        let pair = self.pairs.entry(to).or_insert_with(|| Pair {
            credit: RelayCredit::new(window),
            announce: None,
            gone: false,
            queued: false,
        });
        Ok(pair.credit.allowance())
    }

    /// Counts DATA frames for `to`, together `bytes`, that began within the allowance.
    pub(crate) fn handle_received(&mut self, to: Place, bytes: usize) {
        if let Some(pair) = self.pairs.get_mut(&to) {
            pair.credit.handle_received(bytes);
        }
    }

    /// Frees `bytes` of admitted frames for `to`, which have left the relay or were discarded after
    /// they waited `stood` for other frames of their flow. `account` is the source's in the network
    /// of `to`. Returns whether a notice became due.
    #[must_use]
    pub(crate) fn handle_released(
        &mut self,
        now: Instant,
        to: Place,
        bytes: usize,
        stood: Option<Duration>,
        account: &Account,
    ) -> bool {
        let Some(pair) = self.pairs.get_mut(&to) else {
            return false;
        };
        let before = grown(pair, self.window);
        // Taken before the window grows and given back after that, so that all sources together
        // never exceed the relay's limit.
        let share = SOURCE_GROWN_MAX.saturating_sub(self.reserved);
        let wanted = (pair.credit.window() as usize).min(share);
        let granted = account.reserve(wanted);
        let ceiling = pair.credit.window() as usize + granted;
        let ceiling = (ceiling as u32).min(WINDOW_MAX).min(account.ceiling());
        let announced = pair.credit.handle_released(now, bytes, stood, ceiling);
        let after = grown(pair, self.window);
        account.give_back(before + granted - after);
        self.reserved = self.reserved + after - before;
        if after == 0 {
            self.grown.remove(&to);
        } else if before == 0 {
            self.grown.insert(to);
            self.sweep_at.get_or_insert(now + IDLE);
        }
        let Some(announced) = announced else {
            return false;
        };
        pair.announce = Some(announced);
        pair.enqueue(to, &mut self.due);
        true
    }

    /// Returns the time at which [`Ledger::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Lets destinations that rest start again with the first window. Early calls do nothing.
    /// Returns whether a notice became due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, accounts: &[Account]) -> bool {
        if self.sweep_at.is_none_or(|at| now < at) {
            return false;
        }
        let mut is_due = false;
        let (pairs, due, window) = (&mut self.pairs, &mut self.due, self.window);
        let reserved = &mut self.reserved;
        self.grown.retain(|to| {
            let Some(pair) = pairs.get_mut(to) else {
                return false;
            };
            let before = grown(pair, window);
            if let Some(announced) = pair.credit.handle_timeout(now) {
                pair.announce = Some(announced);
                pair.enqueue(*to, due);
                is_due = true;
            }
            let after = grown(pair, window);
            *reserved -= before - after;
            give_back(accounts, *to, before - after);
            after > 0
        });
        self.sweep_at = (!self.grown.is_empty()).then(|| now + IDLE);
        is_due
    }

    /// Gives back the connection's share of the relay's memory at its end.
    pub(crate) fn close(&mut self, accounts: &[Account]) {
        for to in std::mem::take(&mut self.grown) {
            if let Some(pair) = self.pairs.get(&to) {
                give_back(accounts, to, grown(pair, self.window));
            }
        }
        self.reserved = 0;
        self.pairs.clear();
        self.sweep_at = None;
    }

    /// Owes the source a PEER_GONE, since a frame for `to` found no receiver.
    pub(crate) fn handle_gone(&mut self, to: Place) {
        if let Some(pair) = self.pairs.get_mut(&to) {
            pair.gone = true;
            pair.enqueue(to, &mut self.due);
        }
    }

    /// Appends notices to `out` until it holds `limit` bytes.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) {
        while out.len() < limit {
            let Some(to) = self.due.pop_front() else {
                return;
            };
            let Some(pair) = self.pairs.get_mut(&to) else {
                continue;
            };
            pair.queued = false;
            let address = to.address();
            if let Some(Announcement { released, window }) = pair.announce.take() {
                let credit = Frame::Credit {
                    address,
                    released,
                    window,
                };
                credit.encode(out);
            }
            if std::mem::take(&mut pair.gone) {
                let reason = GoneReason::NotHere;
                Frame::PeerGone { address, reason }.encode(out);
            }
        }
    }
}

struct Pair {
    credit: RelayCredit,
    /// The newest notice that the source has not heard.
    announce: Option<Announcement>,
    /// A PEER_GONE is owed.
    gone: bool,
    /// Stands in `due`.
    queued: bool,
}

impl Pair {
    fn enqueue(&mut self, to: Place, due: &mut VecDeque<Place>) {
        if !self.queued {
            self.queued = true;
            due.push_back(to);
        }
    }
}

/// Returns the bytes by which a pair's window is larger than the first one.
fn grown(pair: &Pair, first: u32) -> usize {
    pair.credit.window().saturating_sub(first) as usize
}

fn give_back(accounts: &[Account], to: Place, bytes: usize) {
    if let Some(account) = accounts.iter().find(|it| it.vni() == to.vni) {
        account.give_back(bytes);
    }
}

/// By how much the windows of one source may have grown together, bytes: four of the largest.
const SOURCE_GROWN_MAX: usize = 4 * WINDOW_MAX as usize;

/// Most destinations of one connection: several full networks for an honest client, under 1 MiB of
/// counters for a dishonest one. A running total cannot be forgotten while its connection lives, so
/// the entries stay.
pub(crate) const DESTINATIONS_MAX: usize = 8_192;

#[cfg(test)]
mod tests;
