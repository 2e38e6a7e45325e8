//! Holds the things that all tasks of one relay share: orders, switch, limits, counters. Decides
//! nothing itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use overlan_protocol::api::RelayOrders;
use overlan_protocol::credit::DEFAULT_WINDOW;
use overlan_protocol::key::RelayId;
use overlan_transport::reminder::Reminder;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::admit::{Orders, held_by_others, revoked};
use crate::client::Client;
use crate::egress::Release;
use crate::limits::{Budget, ConnectionId, Limits, Refusal, Slot};
use crate::memory::{Memory, QUEUED_MAX};
use crate::metrics::{Dropped, Gauges, Metrics};
use crate::pool::Pool;
use crate::switch::{Place, Switch};

/// One relay, as its tasks see it.
pub(crate) struct Hub {
    pub(crate) id: RelayId,
    pub(crate) settings: Settings,
    pub(crate) switch: Switch<Arc<Client>>,
    pub(crate) metrics: Metrics,
    pub(crate) memory: Arc<Memory>,
    /// Buffers for frames on their way.
    pub(crate) pool: Pool,
    /// Clients are accepted.
    pub(crate) serving: AtomicBool,
    /// Tickets that were refused.
    refusals: Reminder,
    orders: RwLock<Arc<Orders>>,
    places: Mutex<Places>,
}

/// Connections against their limits, and a token for each stranger, which fires when it must go.
struct Places {
    limits: Limits,
    strangers: BTreeMap<ConnectionId, CancellationToken>,
}

/// Times and budgets. Nobody should tune them in production; tests use short ones.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Time for the TLS handshake.
    pub(crate) tls_within: Duration,
    /// Time for the HELLO after it.
    pub(crate) hello_within: Duration,
    /// Clients ping this often; three times as long a silence ends a connection.
    pub(crate) keepalive: Duration,
    /// Time that a connection may outlive its ticket.
    pub(crate) ticket_grace: Duration,
    /// Time that clients get to leave when the relay stops.
    pub(crate) drain: Duration,
    /// The time for which a first start tries to reach the controller.
    pub(crate) register_within: Duration,
    /// Bytes that may be outstanding per destination.
    pub(crate) window: u32,
    /// Bytes of frames that may wait on the whole relay.
    pub(crate) queued_max: usize,
    /// Connections.
    pub(crate) budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls_within: Duration::from_secs(5),
            hello_within: Duration::from_secs(5),
            // Shorter than what NATs keep.
            keepalive: Duration::from_secs(15),
            // Room for a client that renews late.
            ticket_grace: Duration::from_secs(600),
            drain: Duration::from_secs(2),
            register_within: Duration::from_secs(30),
            window: DEFAULT_WINDOW,
            queued_max: QUEUED_MAX,
            budget: Budget::default(),
        }
    }
}

impl Hub {
    pub(crate) fn new(id: RelayId, settings: Settings, orders: RelayOrders) -> Arc<Self> {
        Arc::new(Self {
            id,
            switch: Switch::new(),
            metrics: Metrics::default(),
            memory: Memory::new(settings.queued_max),
            pool: Pool::default(),
            serving: AtomicBool::new(false),
            refusals: Reminder::default(),
            orders: RwLock::new(Arc::new(orders.into())),
            places: Mutex::new(Places {
                limits: Limits::new(settings.budget),
                strangers: BTreeMap::new(),
            }),
            settings,
        })
    }

    /// The orders in force.
    pub(crate) fn orders(&self) -> Arc<Orders> {
        self.orders.read().clone()
    }

    /// Puts orders in force and ends the connections that they forbid.
    pub(crate) fn apply(&self, orders: RelayOrders) {
        let orders = Arc::new(Orders::from(orders));
        *self.orders.write() = orders.clone();
        for client in self.switch.revoke(&orders.revoked) {
            client.end(revoked());
        }
        // They come back for the places that are still theirs.
        for client in self.switch.displace(orders.holders()) {
            client.end(held_by_others());
        }
    }

    /// Charges frames of `from` for `to` that cost `cost`. Once the relay's memory is full, the
    /// largest holder gives way to a holder of much less. `false` = there is no room, and nothing
    /// was charged.
    pub(crate) fn charge(&self, now: Instant, from: &Client, to: Place, cost: usize) -> bool {
        let Some(account) = from.account(to.vni) else {
            return false;
        };
        if account.charge(cost) {
            return true;
        }
        let Some(victims) = account.victims(now, cost) else {
            return false;
        };
        for receiver in self.switch.members(victims.vni) {
            let lost = receiver.shed(&victims);
            self.tell_lost(now, Dropped::RelayFull, lost);
        }
        account.charge(cost)
    }

    /// Counts frames that waited and were dropped, and tells their sources that they are free.
    pub(crate) fn tell_lost(&self, now: Instant, reason: Dropped, lost: Vec<Release<Arc<Client>>>) {
        for release in lost {
            let Release { source, to, .. } = release;
            self.metrics
                .count_dropped(reason, u64::from(release.frames));
            source.discharge(to, release.cost);
            source.release(now, to, release.bytes, release.stood);
        }
    }

    /// Counts a refused ticket. Returns the number of them since the last line of log, if it is
    /// time for another.
    pub(crate) fn count_refused_ticket(&self, now: Instant) -> Option<u64> {
        self.refusals.due(now)
    }

    /// Gives a place to a stranger's connection. Another stranger may have to go for it.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant, from: IpAddr) -> Result<Seat, Refusal> {
        let mut places = self.places.lock();
        let (slot, evicted) = places.limits.admit(now, from)?;
        if let Some(stranger) = evicted.and_then(|evicted| places.strangers.remove(&evicted)) {
            stranger.cancel();
            self.metrics.count_refused(Refusal::Unproven);
        }
        let evicted = CancellationToken::new();
        places.strangers.insert(slot.id(), evicted.clone());
        Ok(Seat {
            hub: self.clone(),
            evicted,
            slot: Some(slot),
        })
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            clients: self.switch.attached(),
            unproven: self.places.lock().limits.unproven(),
            queued_bytes: self.memory.queued(),
            grown_bytes: self.memory.grown(),
            pooled_buffers: self.pool.free(),
            orders_version: self.orders().version,
        }
    }
}

/// A connection's place in the limits; dropping it gives the place back, whatever ends the
/// connection's task.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    evicted: CancellationToken,
    slot: Option<Slot>,
}

impl Seat {
    /// Counts the stranger as a client from now on, if there is room.
    pub(crate) fn prove(&mut self) -> Result<(), Refusal> {
        match &mut self.slot {
            Some(slot) => {
                let mut places = self.hub.places.lock();
                places.limits.prove(slot)?;
                places.strangers.remove(&slot.id());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns the token that fires when this stranger has to go for another.
    pub(crate) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let mut places = self.hub.places.lock();
            places.strangers.remove(&slot.id());
            places.limits.close(slot);
        }
    }
}
