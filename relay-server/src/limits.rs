//! Decides which strangers may try to become clients. Holds counts per source; no clock, no socket.
//!
//! A connection is `admit`ted before its first byte, `prove`d once its HELLO is accepted, and `close`d at its end; every
//! admitted connection is closed exactly once.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counts of connections against their limits.
#[derive(Debug)]
pub(crate) struct Limits {
    budget: Budget,
    unproven: usize,
    unproven_by_source: BTreeMap<Source, usize>,
    proven: usize,
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Connections that have not proved who they are.
    pub(crate) unproven: usize,
    /// Of those, from one source: an IPv4 address or an IPv6 /56.
    pub(crate) unproven_per_source: usize,
    /// Attached connections.
    pub(crate) proven: usize,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many strangers at once.
    Unproven,
    /// Too many strangers from this source.
    Source,
    /// Too many clients.
    Proven,
}

/// A connection's place in the counts. Not copyable: each is given back once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    source: Source,
    proven: bool,
}

impl Limits {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            budget,
            unproven: 0,
            unproven_by_source: BTreeMap::new(),
            proven: 0,
        }
    }

    /// A stranger knocks.
    pub(crate) fn admit(&mut self, from: IpAddr) -> Result<Slot, Refusal> {
        if self.unproven >= self.budget.unproven {
            return Err(Refusal::Unproven);
        }
        let source = Source::of(from);
        let count = self.unproven_by_source.get(&source).copied().unwrap_or(0);
        if count >= self.budget.unproven_per_source {
            return Err(Refusal::Source);
        }
        self.unproven_by_source.insert(source, count + 1);
        self.unproven += 1;
        Ok(Slot {
            source,
            proven: false,
        })
    }

    /// The stranger has proved who it is and becomes a client, if there is room.
    pub(crate) fn prove(&mut self, slot: &mut Slot) -> Result<(), Refusal> {
        if slot.proven {
            return Ok(());
        }
        if self.proven >= self.budget.proven {
            return Err(Refusal::Proven);
        }
        self.leave_strangers(slot.source);
        self.proven += 1;
        slot.proven = true;
        Ok(())
    }

    /// The connection has ended.
    pub(crate) fn close(&mut self, slot: Slot) {
        if slot.proven {
            self.proven -= 1;
        } else {
            self.leave_strangers(slot.source);
        }
    }

    /// Connections that have not proved who they are.
    pub(crate) fn unproven(&self) -> usize {
        self.unproven
    }

    fn leave_strangers(&mut self, source: Source) {
        self.unproven -= 1;
        if let Some(count) = self.unproven_by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.unproven_by_source.remove(&source);
            }
        }
    }
}

impl Default for Budget {
    /// 4,096 strangers, each of whom may send [`STRANGER_MAX`](overlan_transport::tls::STRANGER_MAX), 64 MiB together, beside
    /// what TLS needs for itself; 64 of one source leave room for a NAT and not for a flood; 16,384 clients are four times
    /// what one relay should carry.
    fn default() -> Self {
        Self {
            unproven: 4_096,
            unproven_per_source: 64,
            proven: 16_384,
        }
    }
}

/// Who is counted as one: what a single subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4([u8; 4]),
    V6([u8; 7]),
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

#[cfg(test)]
mod tests;
