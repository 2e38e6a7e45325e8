//! Hands out the places for connections and takes them back. Who may hold one is decided by
//! [`crate::limits`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::limits::{Caller, ConnectionBudget, Limits, NoRoom, OpenConnections, SeatId};

/// All places, and how those who must go are told.
#[derive(Debug)]
pub(crate) struct Seats {
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    limits: Limits,
    strangers: BTreeMap<SeatId, CancellationToken>,
}

impl Seats {
    /// Makes the places of `budget`.
    pub(crate) fn new(budget: ConnectionBudget) -> Arc<Self> {
        let (limits, strangers) = (Limits::new(budget), BTreeMap::new());
        Arc::new(Self {
            held: Mutex::new(Held { limits, strangers }),
        })
    }

    /// What is open, and what may be.
    pub(crate) fn open(&self) -> (OpenConnections, ConnectionBudget) {
        let held = self.held.lock();
        (held.limits.open(), held.limits.budget())
    }

    /// Gives a place to a connection from `from`; one with a weaker claim may be evicted for it.
    pub(crate) fn admit(self: &Arc<Self>, from: IpAddr) -> Result<Seat, NoRoom> {
        let mut held = self.held.lock();
        let admitted = held.limits.admit(clock::now(), from)?;
        if let Some(evicted) = admitted.evicted
            && let Some(told) = held.strangers.remove(&evicted)
        {
            told.cancel();
        }
        let evicted = CancellationToken::new();
        held.strangers.insert(admitted.seat, evicted.clone());
        Ok(Seat {
            seats: self.clone(),
            id: admitted.seat,
            evicted,
            holder: Mutex::default(),
        })
    }
}

/// One connection's place within the limits; dropping it gives the place back, whatever ends the
/// connection's task.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    id: SeatId,
    evicted: CancellationToken,
    /// What people call the one who proved to hold it.
    holder: Mutex<String>,
}

impl Seat {
    /// The connection's other end has proved who it is; people call it `name`.
    pub(crate) fn prove(&self, caller: Caller, name: &str) -> Result<(), NoRoom> {
        name.clone_into(&mut self.holder.lock());
        let mut held = self.seats.held.lock();
        held.limits.prove(self.id, caller)?;
        held.strangers.remove(&self.id);
        Ok(())
    }

    /// What people call the one who proved to hold it; empty for a stranger.
    pub(crate) fn holder(&self) -> String {
        self.holder.lock().clone()
    }

    /// Completes when the connection must make room for another one.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Whether nobody has proved yet to hold it.
    pub(crate) fn is_stranger(&self) -> bool {
        self.seats.held.lock().limits.is_stranger(self.id)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.seats.held.lock();
        held.limits.close(self.id);
        held.strangers.remove(&self.id);
    }
}
