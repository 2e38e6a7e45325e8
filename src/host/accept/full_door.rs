//! A door without a free place, as status documents and people see it. Decides what to advise, from
//! what is lacking.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::readable::{age, printable};

/// A proxy, a forward or a published port without a free place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullDoor {
    /// Which one, for people.
    pub door: String,
    /// Connections that it serves at once.
    pub connections: u64,
    /// What there would have to be more of.
    pub lack: Lack,
    /// For how long.
    pub seconds: u64,
}

/// What a door has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// Memory, by the limit that the client keeps within.
    Memory,
    /// File descriptors, by the limit of its process.
    Files,
    /// Places, and no door has more.
    Connections,
}

impl FullDoor {
    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> &'static str {
        match self.lack {
            Lack::Memory => {
                "Give `overlan up` more by --memory, or end what holds the connections."
            }
            Lack::Files => {
                "Raise the limit of open files of `overlan up` (`ulimit -n`, LimitNOFILE= of systemd), or end what holds the connections."
            }
            Lack::Connections => {
                "End what holds the connections; --socks-idle-timeout and --idle-timeout of `serve` end idle ones."
            }
        }
    }
}

impl fmt::Display for FullDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            door,
            connections,
            lack,
            seconds,
        } = self;
        let lacks = match lack {
            Lack::Memory => "memory",
            Lack::Files => "open files",
            Lack::Connections => "connections of one door",
        };
        let (door, lasted) = (printable(door), age(*seconds));
        write!(
            f,
            "{door} has let nobody in for {lasted}: it serves {connections} connections at once, by the limit of {lacks}"
        )
    }
}
