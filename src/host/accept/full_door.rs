//! A door without a free place, as status documents and people see it. Decides what to advise, from
//! what is lacking.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::readable::{age, printable};

/// A proxy, a forward or a served port without a free place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullDoor {
    /// Its name, for people.
    pub door: String,
    /// Connections that it serves at once.
    pub connections: u64,
    /// The limit that lets nobody else in.
    pub lack: Lack,
    /// Seconds for which nobody was let in.
    pub seconds: u64,
}

/// A limit that keeps the next client out.
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
    /// Returns the next step of the person who runs the door.
    #[must_use]
    pub fn what_to_do(&self) -> &'static str {
        match self.lack {
            Lack::Memory => "Give `overlan up` more by --memory, or end some of the connections.",
            Lack::Files => {
                "Raise the limit of open files of `overlan up` (`ulimit -n`, LimitNOFILE= of \
                 systemd), or end some of the connections."
            }
            Lack::Connections => {
                "End some of the connections; --socks-idle-timeout and --idle-timeout of `serve` \
                 end idle ones."
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
            "{door} has let nobody in for {lasted}: it serves {connections} connections at once, \
             by the limit of {lacks}"
        )
    }
}
