//! The memory that a client may take, and the limits that follow from it: rings, flows,
//! connections, buffers of sockets. Decides numbers; the caller gives the limit, or takes it from
//! [`cgroup_limit`].

use std::fmt;
use std::str::FromStr;

use overlan_netstack::{Config, RingArena};
use serde::{Deserialize, Serialize};

pub use cgroup::cgroup_limit;

mod cgroup;

/// The memory that one client may take, all of its process's. Without one, rings take up to 512
/// MiB, and nothing else is limited by memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    source: Origin,
}

/// The origin of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A person or a program named it.
    Given,
    /// It is the limit of the process's cgroup.
    Cgroup,
}

/// A limit that no client can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is too little: a client needs at least {}", Size(*.0), Size(LIMIT_MIN))]
pub struct TooLittle(u64);

impl Budget {
    /// A client that stays within `limit` bytes.
    ///
    /// # Errors
    /// It is less than [`LIMIT_MIN`].
    pub fn new(limit: u64, source: Origin) -> Result<Self, TooLittle> {
        match limit >= LIMIT_MIN {
            true => Ok(Self { limit, source }),
            false => Err(TooLittle(limit)),
        }
    }

    /// Bytes that the process may take.
    pub fn limit(self) -> u64 {
        self.limit
    }

    /// Returns the origin of the limit.
    pub fn source(self) -> Origin {
        self.source
    }

    /// Bytes of it for the rings of connections: half of what the program itself leaves. The rest
    /// is for what connections need besides, for the kernel's part of their sockets, and for what
    /// the allocator keeps.
    pub fn rings(self) -> usize {
        let rings = usize::try_from(self.free() / 2).unwrap_or(usize::MAX);
        rings.min(RINGS_MAX)
    }

    /// Connections of the overlay that may exist at once.
    pub fn flows(self) -> usize {
        let flows = self.free() / 3 / FLOW;
        usize::try_from(flows).map_or(FLOWS_MAX, |flows| flows.min(FLOWS_MAX))
    }

    /// Connections that one door serves at once; others wait. A quarter of all flows is left for
    /// those from peers.
    pub fn connections(self) -> usize {
        self.flows() / 4 * 3
    }

    /// Bytes that the kernel keeps of each direction of a connection with a program of this host,
    /// which count as this process's memory in a cgroup of version 2. `None` where there is enough
    /// for what the system gives by itself.
    pub fn socket_buffer(self) -> Option<usize> {
        (self.limit < SOCKETS_FREE_FROM).then_some(SOCKET_BUFFER)
    }

    /// `config` within this budget, with rings of its own.
    pub(crate) fn within(self, config: Config) -> Config {
        Config {
            rings: RingArena::bounded(self.rings(), self.flows()),
            ..config
        }
    }

    fn free(self) -> u64 {
        self.limit.saturating_sub(PROGRAM)
    }
}

/// Least memory for which a client can be set up, bytes.
pub const LIMIT_MIN: u64 = 32 << 20;

/// Memory of a client that does nothing yet, with two links and the first handshakes: 14 MB were
/// seen, most of it program text.
const PROGRAM: u64 = 20 << 20;

/// Memory of a connection besides its rings: its flow, the task that serves it and, in a cgroup,
/// two sockets of the kernel.
const FLOW: u64 = 8 << 10;

/// As many flows as a netstack takes without a limit.
const FLOWS_MAX: usize = 20_000;

/// As much as the rings take without a limit.
const RINGS_MAX: usize = 512 << 20;

/// The kernel doubles it for its own bookkeeping. A ring of the smallest size is filled by one
/// read.
const SOCKET_BUFFER: usize = 64 << 10;

/// From here on a thousand connections with buffers of the system's choice fit.
const SOCKETS_FREE_FROM: u64 = 1 << 30;

/// A number of bytes as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A text that is not a [`Size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number of bytes, or a number with K, M or G (powers of 1,024), such as 64M")]
pub struct NoSize;

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" => 0,
            "k" | "ki" | "kib" => 10,
            "m" | "mi" | "mib" => 20,
            "g" | "gi" | "gib" => 30,
            _ => return Err(NoSize),
        };
        let number: u64 = number.parse().map_err(|_| NoSize)?;
        number.checked_mul(1 << shift).map(Self).ok_or(NoSize)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = ["", "K", "M", "G"];
        let power = (self.0.trailing_zeros() / 10).min(3) as usize;
        match self.0 {
            0 => f.write_str("0"),
            bytes => write!(f, "{}{}", bytes >> (10 * power), unit[power]),
        }
    }
}

#[cfg(test)]
mod tests;
