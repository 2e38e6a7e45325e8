//! Decides what one connection may have outstanding per destination, and which CREDIT and PEER_GONE frames it is owed.
//! Holds counters; no clock, no socket, no payload.
//!
//! Notices are kept per destination and merged: only the newest total of a destination matters, so a client that does not
//! read makes nothing grow.

use std::collections::{BTreeMap, VecDeque};

use overlan_protocol::credit::RelayCredit;
use overlan_protocol::frame::{Frame, GoneReason, Route};

/// A destination as its source sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    /// One of the source's networks.
    pub(crate) vni: u32,
    /// Host index in it.
    pub(crate) host: u32,
}

/// All that one connection has sent, by destination, since its WELCOME.
pub(crate) struct Ledger {
    window: u32,
    pairs: BTreeMap<Destination, Pair>,
    /// Destinations with a notice due, each at most once.
    due: VecDeque<Destination>,
}

/// The connection named more destinations than [`DESTINATIONS_MAX`]: end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyDestinations;

impl Ledger {
    /// `window`: as promised in WELCOME, bytes.
    pub(crate) fn new(window: u32) -> Self {
        Self {
            window,
            pairs: BTreeMap::new(),
            due: VecDeque::new(),
        }
    }

    /// Bytes within which the source may start frames for `to`; the last one may go beyond.
    pub(crate) fn allowance(&mut self, to: Destination) -> Result<u64, TooManyDestinations> {
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

    /// DATA frames for `to`, together `bytes` and begun within the allowance, are admitted.
    pub(crate) fn handle_received(&mut self, to: Destination, bytes: usize) {
        if let Some(pair) = self.pairs.get_mut(&to) {
            pair.credit.handle_received(bytes);
        }
    }

    /// `bytes` of admitted frames for `to` have left the relay or were discarded. Says whether a notice became due.
    #[must_use]
    pub(crate) fn handle_released(&mut self, to: Destination, bytes: usize) -> bool {
        let Some(pair) = self.pairs.get_mut(&to) else {
            return false;
        };
        let Some(total) = pair.credit.handle_released(bytes) else {
            return false;
        };
        pair.announce = Some(total);
        pair.enqueue(to, &mut self.due);
        true
    }

    /// A frame for `to` found nobody.
    pub(crate) fn handle_gone(&mut self, to: Destination) {
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
            let route = Route {
                vni: to.vni,
                flow: 0,
                host: to.host,
            };
            if let Some(released) = pair.announce.take() {
                let window = pair.credit.window();
                let credit = Frame::Credit {
                    route,
                    released,
                    window,
                };
                credit.encode(out);
            }
            if std::mem::take(&mut pair.gone) {
                let reason = GoneReason::NotHere;
                Frame::PeerGone { route, reason }.encode(out);
            }
        }
    }
}

struct Pair {
    credit: RelayCredit,
    /// Newest total that the source has not been told.
    announce: Option<u64>,
    /// A PEER_GONE is owed.
    gone: bool,
    /// Stands in `due`.
    queued: bool,
}

impl Pair {
    fn enqueue(&mut self, to: Destination, due: &mut VecDeque<Destination>) {
        if !self.queued {
            self.queued = true;
            due.push_back(to);
        }
    }
}

/// Most destinations of one connection: several full networks for an honest client, under 1 MiB of counters for a
/// dishonest one. A running total cannot be forgotten while its connection lives, so the entries stay.
pub(crate) const DESTINATIONS_MAX: usize = 8_192;

#[cfg(test)]
mod tests;
