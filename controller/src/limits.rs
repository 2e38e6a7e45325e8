//! Decides who may hold a connection. Strangers and proven callers draw on budgets of their own,
//! each divided: strangers by source, callers by identity, so that nobody uses up the share of
//! others. Holds no clock and no socket.
//!
//! ```text
//! admit → stranger → prove → device, relay or person → close
//!             └── evicted, for one with a better claim ──┘
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use overlan_protocol::key::{DeviceId, RelayId};
use overlan_transport::strangers::{Refused, Strangers, source};

/// Most connections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionBudget {
    /// Connections that have not proved who holds them.
    pub(crate) strangers: usize,
    /// Of those, connections from one source.
    pub(crate) strangers_per_source: usize,
    /// Connections of devices; each holds one for as long as it runs.
    pub(crate) devices: usize,
    /// Connections kept for relays.
    pub(crate) relays: usize,
    /// Connections kept for people's sessions.
    pub(crate) people: usize,
}

impl ConnectionBudget {
    /// Divides `files` descriptors. If there are few of them, every kind keeps a part.
    pub(crate) fn of_files(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let strangers = (files / 4).min(STRANGERS_MAX);
        let kept = (files / 16).min(KEPT_MAX);
        let others = strangers + 2 * kept + OTHER_FILES.min(files / 8);
        Self {
            strangers,
            strangers_per_source: (strangers / 4).min(SOURCE_STRANGERS_MAX),
            devices: files.saturating_sub(others).min(DEVICES_MAX),
            relays: kept,
            people: kept,
        }
    }
}

/// The proven holder of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// A device, by its identity key.
    Device(DeviceId),
    /// A relay, by its identity key.
    Relay(RelayId),
    /// A person, by a session of this account.
    Person(i64),
}

/// The reason why a connection is not taken, or not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Too many strangers at once.
    Strangers,
    /// Too many strangers from this source at once.
    Source,
    /// Too many callers of this kind.
    Callers,
    /// Too many of this very caller.
    Caller,
}

/// The number of one connection; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatId(u64);

/// The place of a connection that was admitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) seat: SeatId,
    /// A stranger that has to leave for it; its place is free already.
    pub(crate) evicted: Option<SeatId>,
}

/// The open connections, against their budget.
#[derive(Debug)]
pub(crate) struct Limits {
    budget: ConnectionBudget,
    next: u64,
    strangers: Strangers<SeatId>,
    callers: BTreeMap<SeatId, Caller>,
    of_caller: BTreeMap<Caller, usize>,
    open: OpenConnections,
}

/// The number of open connections, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenConnections {
    pub(crate) strangers: usize,
    pub(crate) devices: usize,
    pub(crate) relays: usize,
    pub(crate) people: usize,
}

impl Limits {
    pub(crate) fn new(budget: ConnectionBudget) -> Self {
        Self {
            budget,
            next: 0,
            strangers: Strangers::new(budget.strangers, budget.strangers_per_source),
            callers: BTreeMap::new(),
            of_caller: BTreeMap::new(),
            open: OpenConnections::default(),
        }
    }

    /// Admits a stranger at `now`; see [`Strangers::admit`].
    pub(crate) fn admit(&mut self, now: Instant, from: IpAddr) -> Result<Admitted, NoRoom> {
        let seat = SeatId(self.next + 1);
        let evicted = self.strangers.admit(now, source(from), seat);
        let evicted = evicted.map_err(|refused| match refused {
            Refused::All => NoRoom::Strangers,
            Refused::Source => NoRoom::Source,
        })?;
        self.next += 1;
        Ok(Admitted { seat, evicted })
    }

    /// Moves the connection at `seat` from the strangers to its proven caller, if there is room. A
    /// connection that proves another caller later belongs to that one.
    pub(crate) fn prove(&mut self, seat: SeatId, caller: Caller) -> Result<(), NoRoom> {
        if self.callers.get(&seat) == Some(&caller) {
            return Ok(());
        }
        let mine = self.of_caller.get(&caller).copied().unwrap_or(0);
        if mine >= EACH_CALLER_MAX {
            return Err(NoRoom::Caller);
        }
        let budget = match caller {
            Caller::Device(_) => self.budget.devices,
            Caller::Relay(_) => self.budget.relays,
            Caller::Person(_) => self.budget.people,
        };
        if *self.count(caller) >= budget {
            return Err(NoRoom::Callers);
        }
        self.close(seat);
        *self.count(caller) += 1;
        self.of_caller.insert(caller, mine + 1);
        self.callers.insert(seat, caller);
        Ok(())
    }

    /// Closes a connection; nothing happens to one that was evicted before.
    pub(crate) fn close(&mut self, seat: SeatId) {
        self.strangers.leave(seat);
        if let Some(caller) = self.callers.remove(&seat) {
            *self.count(caller) -= 1;
            if let Some(mine) = self.of_caller.get_mut(&caller) {
                *mine -= 1;
                if *mine == 0 {
                    self.of_caller.remove(&caller);
                }
            }
        }
    }

    /// Says whether the connection is still a stranger's.
    pub(crate) fn is_stranger(&self, seat: SeatId) -> bool {
        self.strangers.holds(seat)
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> OpenConnections {
        OpenConnections {
            strangers: self.strangers.count(),
            ..self.open
        }
    }

    pub(crate) fn budget(&self) -> ConnectionBudget {
        self.budget
    }

    fn count(&mut self, caller: Caller) -> &mut usize {
        match caller {
            Caller::Device(_) => &mut self.open.devices,
            Caller::Relay(_) => &mut self.open.relays,
            Caller::Person(_) => &mut self.open.people,
        }
    }
}

/// Strangers at once: with the 66 KB that an unfinished TLS handshake can hold, 135 MB.
const STRANGERS_MAX: usize = 2_048;

/// Strangers of one source at once: an office whose devices all come back in the same second, each
/// for a few round trips.
const SOURCE_STRANGERS_MAX: usize = 256;

/// Connections of devices: at the 56 kB that each costs, 0.9 GB.
pub(crate) const DEVICES_MAX: usize = 16_384;

/// Connections kept for relays, and as many for people.
const KEPT_MAX: usize = 512;

/// Connections of one device, relay or account: one stream or heartbeat, and room for requests
/// beside it and for connections that the network lost without notice.
const EACH_CALLER_MAX: usize = 32;

/// Descriptors for the database, its readers, the operator's door and refusals.
const OTHER_FILES: usize = 192;

#[cfg(test)]
mod tests;
