//! Decides where devices attach: to a home relay and its backups. Knows no addresses and no clock.
//!
//! A home is kept as long as its relay is online. Else the nearest online relay becomes home, and
//! of relays at about the same distance the one with the fewest homed devices. If no relay is
//! online nothing moves: a relay may come back at its old address, and no address leads nowhere.

use std::collections::BTreeMap;

use overlan_protocol::key::{DeviceId, RelayId};

/// A relay as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its heartbeats arrive.
    pub(crate) online: bool,
    /// Number of devices whose home it is.
    pub(crate) homed: u32,
}

/// The relays of one organisation; counts homed devices while they move.
#[derive(Debug)]
pub(crate) struct Placement {
    relays: BTreeMap<RelayId, Candidate>,
}

impl Placement {
    pub(crate) fn new(relays: BTreeMap<RelayId, Candidate>) -> Self {
        Self { relays }
    }

    /// Returns the relay list of `device`, home first, that replaces `current`; `None` if that may
    /// stay. `round_trips` are the device's measurements, in milliseconds.
    pub(crate) fn place(
        &mut self,
        device: DeviceId,
        current: &[RelayId],
        round_trips: &BTreeMap<RelayId, u32>,
    ) -> Option<Vec<RelayId>> {
        let old_home = current.first().copied();
        let home = match old_home {
            Some(home) if self.is_online(home) => home,
            _ => self.best(device, round_trips)?,
        };
        let mut list = vec![home];
        let kept = current
            .iter()
            .copied()
            .filter(|relay| self.is_online(*relay));
        for relay in kept.chain(self.online_by_preference(device)) {
            if list.len() > BACKUPS_MAX {
                break;
            }
            if !list.contains(&relay) {
                list.push(relay);
            }
        }
        if old_home != Some(home) {
            self.count(old_home, home);
        }
        (list != current).then_some(list)
    }

    fn is_online(&self, relay: RelayId) -> bool {
        self.relays.get(&relay).is_some_and(|relay| relay.online)
    }

    fn best(&self, device: DeviceId, round_trips: &BTreeMap<RelayId, u32>) -> Option<RelayId> {
        let online = self.relays.iter().filter(|(_, relay)| relay.online);
        let cost = |id: &RelayId, homed| {
            let measured = round_trips
                .get(id)
                .map_or(u32::MAX, |ms| ms / ABOUT_EQUAL_MS);
            (measured, homed, preference(device, *id))
        };
        online
            .min_by_key(|(id, relay)| cost(id, relay.homed))
            .map(|(id, _)| *id)
    }

    fn online_by_preference(&self, device: DeviceId) -> Vec<RelayId> {
        let online = self.relays.iter().filter(|(_, relay)| relay.online);
        let mut ids: Vec<RelayId> = online.map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| preference(device, *id));
        ids
    }

    fn count(&mut self, old: Option<RelayId>, new: RelayId) {
        if let Some(relay) = old.and_then(|old| self.relays.get_mut(&old)) {
            relay.homed = relay.homed.saturating_sub(1);
        }
        if let Some(relay) = self.relays.get_mut(&new) {
            relay.homed = relay.homed.saturating_add(1);
        }
    }
}

/// Orders relays differently for each device, so that the devices of a lost relay spread over all
/// others. Ids are random.
fn preference(device: DeviceId, relay: RelayId) -> u128 {
    u128::from_be_bytes(device.0) ^ u128::from_be_bytes(relay.0)
}

/// Most backups of a home relay: enough for two losses at once, and every peer stores the list.
pub(crate) const BACKUPS_MAX: usize = 2;

/// Round trips that differ by less count as equal, milliseconds: nobody feels the difference, and
/// an uneven load would cost more.
const ABOUT_EQUAL_MS: u32 = 10;

#[cfg(test)]
mod tests;
