//! Decides which relays are lost, from the heartbeats that arrive. Holds no clock, no address and
//! no store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlan_protocol::key::RelayId;

/// The relays that are online, and the time of each one's last heartbeat.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    lost_after: Duration,
    relays: BTreeMap<RelayId, Beat>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    clients: u32,
}

impl Heartbeats {
    /// Makes the table; a relay that is silent for `lost_after` is lost.
    pub(crate) fn new(lost_after: Duration) -> Self {
        Self {
            lost_after,
            relays: BTreeMap::new(),
        }
    }

    /// Notes that `relay` is alive at `now`. The relays of all organisations are few and
    /// registered, so the map needs no limit of its own.
    pub(crate) fn handle_beat(&mut self, now: Instant, relay: RelayId, clients: u32) {
        self.relays.insert(relay, Beat { at: now, clients });
    }

    /// Forgets a relay that was removed.
    pub(crate) fn remove(&mut self, relay: RelayId) {
        self.relays.remove(&relay);
    }

    /// Returns the number of clients attached to `relay` at its last heartbeat.
    pub(crate) fn clients(&self, relay: RelayId) -> u32 {
        self.relays.get(&relay).map_or(0, |beat| beat.clients)
    }

    /// Returns the relays that are lost by `now`, each of them once.
    pub(crate) fn lost(&mut self, now: Instant) -> Vec<RelayId> {
        let silent = |beat: &Beat| now >= beat.at + self.lost_after;
        let lost: Vec<RelayId> = self
            .relays
            .iter()
            .filter(|(_, beat)| silent(beat))
            .map(|(relay, _)| *relay)
            .collect();
        for relay in &lost {
            self.relays.remove(relay);
        }
        lost
    }

    /// Returns the time at which [`Heartbeats::lost`] may have something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.relays.values().map(|beat| beat.at).min();
        oldest.map(|at| at + self.lost_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_lost_when_it_was_silent_and_only_once() {
        let t0 = tokio::time::Instant::now().into_std();
        let lost_after = Duration::from_secs(12);
        let mut beats = Heartbeats::new(lost_after);
        let (one, two) = (RelayId([1; 16]), RelayId([2; 16]));
        beats.handle_beat(t0, one, 3);
        beats.handle_beat(t0, two, 0);
        beats.handle_beat(t0 + lost_after / 2, one, 4);
        assert_eq!(beats.deadline(), Some(t0 + lost_after));
        assert_eq!(beats.lost(t0 + lost_after), [two]);
        assert_eq!(beats.lost(t0 + lost_after), []);
        assert_eq!(beats.clients(one), 4);
        assert_eq!(beats.lost(t0 + lost_after * 2), [one]);
        assert_eq!(beats.deadline(), None);
    }
}
