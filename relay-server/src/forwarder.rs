//! A relay without sockets, tasks and clock: the part after TLS, HELLO and WELCOME, to be driven in
//! virtual time.
//!
//! It is the same code that a running relay uses; only the pump that moves bytes is the driver's.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use overlan_protocol::api::RelayOrders;
use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::hello::Reject;
use overlan_protocol::key::RelayId;
use overlan_protocol::ticket::{Ticket, TicketKeys};
use overlan_protocol::{PROTOCOL_VERSION, UnixTime};

use crate::admit::Admitted;
use crate::conn::Conn;
use crate::hub::{Hub, Settings};

/// The forwarding part of one relay.
pub struct Forwarder {
    hub: Arc<Hub>,
}

/// One attached connection. Dropping it detaches the client.
pub struct Forwarding {
    conn: Conn,
}

impl Forwarder {
    /// A relay that nobody is attached to.
    pub fn new(relay: RelayId) -> Self {
        let orders = RelayOrders {
            version: 1,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: TicketKeys::new(),
            revoked: Vec::new(),
            cas: Vec::new(),
        };
        Self {
            hub: Hub::new(relay, Settings::default(), orders),
        }
    }

    /// Attaches a client whose ticket and proof were checked at the time `wall`. The first frame
    /// that the connection gives is the WELCOME.
    pub fn attach(
        &self,
        ticket: Ticket,
        sequence: u64,
        now: Instant,
        wall: UnixTime,
    ) -> Result<Forwarding, Reject> {
        let admitted = Admitted {
            ticket,
            sequence,
            version: PROTOCOL_VERSION,
        };
        Conn::attach(self.hub.clone(), admitted, now, wall).map(|conn| Forwarding { conn })
    }

    /// The relay's counters in Prometheus' text form.
    pub fn metrics(&self) -> String {
        self.hub.metrics.render(self.hub.gauges())
    }
}

impl Exchange for Forwarding {
    type End = Reject;

    fn handle_bytes(&mut self, now: Instant, bytes: &mut [u8]) -> Result<usize, Reject> {
        self.conn.handle_bytes(now, bytes)
    }

    fn handle_batch_end(&mut self, now: Instant) -> Result<(), Reject> {
        self.conn.handle_batch_end(now)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Reject> {
        self.conn.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.conn.poll_timeout()
    }

    fn fill(&mut self, now: Instant, waker: &Waker, out: &mut Batch) -> Result<(), Reject> {
        self.conn.fill(now, waker, out)
    }

    fn last_words(&mut self, end: &Reject, out: &mut Vec<u8>) {
        self.conn.last_words(end, out);
    }
}

#[cfg(test)]
mod tests;
