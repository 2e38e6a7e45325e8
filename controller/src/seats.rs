//! Hands out the places for connections and takes them back. [`crate::limits`] decides who may hold
//! one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Span, field};

use crate::clock;
use crate::limits::{Caller, ConnectionBudget, Limits, NoRoom, OpenConnections, SeatId};

/// All places, and the means to evict their holders.
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

    /// Returns the open connections, and the most that there may be.
    pub(crate) fn open(&self) -> (OpenConnections, ConnectionBudget) {
        let held = self.held.lock();
        (held.limits.open(), held.limits.budget())
    }

    /// Gives a place to a connection from `from`; one with a weaker claim may be evicted for it.
    pub(crate) fn admit(self: &Arc<Self>, from: IpAddr) -> Result<Seat, NoRoom> {
        let mut held = self.held.lock();
        let admitted = held.limits.admit(clock::now(), from)?;
        if let Some(evicted) = admitted.evicted
            && let Some(leave) = held.strangers.remove(&evicted)
        {
            leave.cancel();
        }
        let evicted = CancellationToken::new();
        held.strangers.insert(admitted.seat, evicted.clone());
        Ok(Seat {
            seats: self.clone(),
            id: admitted.seat,
            evicted,
            holder: Mutex::default(),
            span: tracing::error_span!(
                "connection",
                %from,
                device = field::Empty,
                relay = field::Empty,
                person = field::Empty,
            ),
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
    /// The name of the proven holder; empty for a stranger.
    holder: Mutex<String>,
    /// The span of the whole connection; it names the device, relay or person once that is proved.
    span: Span,
}

impl Seat {
    /// Gives the place to `caller`, who proved to hold the connection; people call it `name`.
    pub(crate) fn prove(&self, caller: Caller, name: &str) -> Result<(), NoRoom> {
        let is_news = {
            let mut holder = self.holder.lock();
            let is_news = *holder != name;
            name.clone_into(&mut holder);
            is_news
        };
        if is_news {
            let kind = match caller {
                Caller::Device(_) => "device",
                Caller::Relay(_) => "relay",
                Caller::Person(_) => "person",
            };
            self.span.record(kind, name);
        }
        let mut held = self.seats.held.lock();
        held.limits.prove(self.id, caller)?;
        held.strangers.remove(&self.id);
        Ok(())
    }

    /// Returns the name of the proven holder; empty for a stranger.
    pub(crate) fn holder(&self) -> String {
        self.holder.lock().clone()
    }

    /// Returns the span in which the connection is handled.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Completes when the connection must make room for another one.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Says whether the holder of the connection is not proved yet.
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
