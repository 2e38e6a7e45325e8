//! Decides how connections are opened at a program's wish, and how all that goes over one path is
//! restarted or ended at the owner's.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Core;
use crate::error::ConnectError;
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::packet;
use crate::table::FlowCell;

impl Core {
    pub(crate) fn connect(
        &self,
        now: i64,
        remote: SocketAddr,
    ) -> Result<Arc<FlowCell>, ConnectError> {
        if !packet::is_host(remote.ip()) || remote.port() == 0 {
            return Err(ConnectError::NoAddress);
        }
        let local = self
            .local_address_for(remote.ip())
            .ok_or(ConnectError::NoAddress)?;
        // A flow is found by address and port; the other fields of an IPv6 socket address are not
        // on the wire.
        let remote = SocketAddr::new(remote.ip(), remote.port());
        let path = self.path(remote.ip()).ok_or(ConnectError::TooManyFlows)?;
        if !self.counters.flows.reserve(self.config.max_flows) {
            return Err(ConnectError::TooManyFlows);
        }
        let mut rings = self.lend_rings(&path);
        if rings.is_none() {
            self.counters.flows.subtract(1);
            return Err(ConnectError::TooManyFlows);
        }
        let opened = self.free_ports(local, remote).find_map(|(key, hash)| {
            let moment = path.clock.moment(now);
            let rings = rings.take().or_else(|| self.lend_rings(&path))?;
            let flow = Flow::connect(&key, &self.config, rings, self.random(), moment)?;
            let cell = self.new_cell(key, hash, false, path.clone(), flow);
            // Another thread may have taken the port meanwhile.
            self.table.insert(&cell).then_some(cell)
        });
        let Some(cell) = opened else {
            self.counters.flows.subtract(1);
            return Err(ConnectError::PortsExhausted);
        };
        self.run(&cell, Some(now), |_, _| ());
        Ok(cell)
    }

    /// Ports no flow to this very remote uses: a few at random, then all of them in order from a
    /// random one.
    fn free_ports(
        &self,
        local: IpAddr,
        remote: SocketAddr,
    ) -> impl Iterator<Item = (FlowKey, u64)> {
        let count = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        let start = self.random() % count;
        let random = (0..RANDOM_PORTS).map(move |_| self.random() % count);
        let in_order = (0..count).map(move |offset| (start + offset) % count);
        random.chain(in_order).filter_map(move |offset| {
            let port = EPHEMERAL.start() + offset as u16;
            let key = FlowKey {
                local: SocketAddr::new(local, port),
                remote,
            };
            let hash = self.table.hash(&key);
            self.table.get(key, hash).is_none().then_some((key, hash))
        })
    }

    /// Lets the clocks of a path go on. After a loss its flows repeat at once what is
    /// unacknowledged.
    pub(crate) fn restart_path(&self, now: i64, remote: IpAddr, lost: bool) {
        let Some(path) = self.known_path(remote) else {
            return;
        };
        let was_stalled = path.clock.resume(now);
        if !was_stalled && !lost {
            return;
        }
        for flow in self.table.flows(|flow| flow.key.remote.ip() == remote) {
            // Timers were not armed while the clock stood still; running a flow arms them.
            self.run(&flow, Some(now), |flow, moment| {
                if lost {
                    flow.handle_restored(&self.config, moment);
                }
            });
        }
    }

    pub(crate) fn remote_gone(&self, now: i64, remote: IpAddr) {
        for flow in self.table.flows(|flow| flow.key.remote.ip() == remote) {
            self.run(&flow, Some(now), |flow, _| flow.cut());
        }
        self.echoes.handle_gone(remote);
        if let Some(path) = self.known_path(remote) {
            path.clock.resume(now);
            let waiting = path.queue().clear();
            for flow in waiting {
                // Nothing to do for those just cut; one opened meanwhile is queued again.
                self.run_seated(&flow, Some(now), |seated, _| seated.seat.queued = false);
            }
        }
    }
}

/// The ports of outbound connections: above those that programs usually listen on.
const EPHEMERAL: RangeInclusive<u16> = 4_096..=65_535;
/// Ports tried at random: with half of all in use, one of these is free but for one time in four
/// billion.
const RANDOM_PORTS: usize = 32;
