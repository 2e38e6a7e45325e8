//! Decides how many connections there may be, and which strangers may try to become clients. No
//! clock, no socket.
//!
//! A connection is `admit`ted before its first byte, `prove`d once its HELLO is accepted, and
//! `close`d at its end; every admitted connection is closed exactly once.

use std::net::IpAddr;
use std::time::Instant;

use overlan_transport::strangers::{Refused, Strangers, source};

/// Counts of connections against their limits.
#[derive(Debug)]
pub(crate) struct Limits {
    budget: Budget,
    next: u64,
    strangers: Strangers<ConnectionId>,
    proven: usize,
}

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Connections that have not proved an identity.
    pub(crate) unproven: usize,
    /// Of those, from one source: an IPv4 address or an IPv6 /56.
    pub(crate) unproven_per_source: usize,
    /// Attached connections.
    pub(crate) proven: usize,
}

/// The reason why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many strangers at once.
    Unproven,
    /// Too many strangers from this source.
    Source,
    /// Too many clients.
    Proven,
}

/// Names one connection; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

/// A connection's place in the counts. Not copyable: each is given back once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    id: ConnectionId,
    proven: bool,
}

impl Slot {
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }
}

impl Limits {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            budget,
            next: 0,
            strangers: Strangers::new(budget.unproven, budget.unproven_per_source),
            proven: 0,
        }
    }

    /// Gives a place to a stranger that comes at `now`. With it comes the stranger that has to go
    /// for it, if one has; see [`Strangers::admit`].
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        from: IpAddr,
    ) -> Result<(Slot, Option<ConnectionId>), Refusal> {
        let id = ConnectionId(self.next);
        let evicted = self.strangers.admit(now, source(from), id);
        let evicted = evicted.map_err(|refused| match refused {
            Refused::All => Refusal::Unproven,
            Refused::Source => Refusal::Source,
        })?;
        self.next += 1;
        let proven = false;
        Ok((Slot { id, proven }, evicted))
    }

    /// Makes a client of a stranger that has proved its identity, if there is room.
    pub(crate) fn prove(&mut self, slot: &mut Slot) -> Result<(), Refusal> {
        if slot.proven {
            return Ok(());
        }
        if self.proven >= self.budget.proven {
            return Err(Refusal::Proven);
        }
        self.strangers.leave(slot.id);
        self.proven += 1;
        slot.proven = true;
        Ok(())
    }

    /// Takes an ended connection out of the counts.
    pub(crate) fn close(&mut self, slot: Slot) {
        if slot.proven {
            self.proven -= 1;
        } else {
            self.strangers.leave(slot.id);
        }
    }

    /// Number of connections that have not proved an identity.
    pub(crate) fn unproven(&self) -> usize {
        self.strangers.count()
    }
}

impl Budget {
    /// Returns the limits that fit into `files` descriptors. Each kind keeps its part even of few,
    /// and some are left for the controller and the operator's door.
    pub(crate) fn of_files(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let unproven = (files / 4).min(UNPROVEN_MAX);
        let kept = OTHER_FILES.min(files / 8);
        Self {
            unproven,
            unproven_per_source: (unproven / 4).clamp(1, SOURCE_UNPROVEN_MAX),
            proven: files.saturating_sub(unproven + kept).min(PROVEN_MAX),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_files(u64::MAX)
    }
}

/// Strangers, each of whom may send [`STRANGER_MAX`](overlan_transport::tls::STRANGER_MAX), 64 MiB
/// together, beside what TLS needs for itself.
const UNPROVEN_MAX: usize = 4_096;

/// Strangers of one source: an office whose devices all come back in the same second, each for a
/// few round trips.
const SOURCE_UNPROVEN_MAX: usize = 256;

/// Clients: four times what one relay should carry.
const PROVEN_MAX: usize = 16_384;

/// Descriptors for the state, the controller, the operator's door and those that were accepted to
/// be refused.
const OTHER_FILES: usize = 64;

#[cfg(test)]
mod tests;
