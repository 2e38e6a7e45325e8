//! Fills in a node's status. Decides nothing: `device/status.rs` decides how it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use overlan_protocol::api::Bar;
use overlan_protocol::key::{NetworkId, RelayId};
use overlan_protocol::netmap::{Netmap, Network};
use overlan_transport::clock::now;

use super::Inner;
use crate::device::controller_session::Health;
use crate::device::status::{self, Status};
use overlan_plane::engine::{Membership, Presence, add_stack};
use overlan_plane::route::{Choice, LinkState};

impl Inner {
    pub(super) fn status(&self) -> Status {
        let netmap = self.control.netmap().borrow().clone();
        let health = self.control.health().borrow().clone();
        let memberships = self.engine.memberships();
        let networks = netmap.networks.iter();
        let network = |(id, network)| {
            self.network_status(&netmap, network, memberships.get(id).map(|it| &**it))
        };
        Status {
            state: self.state_of(&netmap, &health),
            device: Some(self.device_status(&netmap)),
            domain: Some(netmap.domain.clone()),
            networks: networks.map(network).collect(),
            relays: self.relay_statuses(&netmap),
            control: health_status(health),
            upstream_proxy: self.options.outgoing.proxy().map(ToString::to_string),
            serves: self.serves.lock().values().cloned().collect(),
            certificates: self.certificates.status(),
            routes: self.route_statuses(&netmap),
            memory: self.options.memory.map(status::MemoryStatus::from),
            dns_zones: self.zone_statuses(&netmap),
            dns_forwards: self.forward_statuses(),
            full: self.vacancies.full(tokio::time::Instant::now()),
            counters: self.counters(&memberships),
            ..Status::starting()
        }
    }

    fn state_of(&self, netmap: &Netmap, health: &Health) -> status::State {
        if matches!(health, Health::Removed | Health::Unknown) {
            status::State::NeedsLogin
        } else if let Health::Barred { why, .. } = health {
            match why {
                Bar::Disabled => status::State::Disabled,
                Bar::Expired => status::State::Expired,
            }
        } else if self.stop.is_cancelled() {
            status::State::Stopped
        } else if self.engine.is_attached() {
            status::State::Running
        } else if netmap.version > 0 && netmap.networks.is_empty() {
            status::State::PendingApproval
        } else {
            status::State::Connecting
        }
    }

    /// Describes this device by its first network, or as it was enrolled before it has one.
    fn device_status(&self, netmap: &Netmap) -> status::DeviceStatus {
        let Some(first) = netmap.networks.values().next() else {
            let device = &self.device;
            return status::DeviceStatus {
                id: device.device,
                label: device.label.clone(),
                name: format!("{}.{}.{}", device.label, device.network, device.domain),
                addresses: Vec::new(),
            };
        };
        status::DeviceStatus {
            id: self.device.device,
            label: first.label.clone(),
            name: format!("{}.{}.{}", first.label, first.name, netmap.domain),
            addresses: first.host.addresses().into(),
        }
    }

    fn network_status(
        &self,
        netmap: &Netmap,
        network: &Network,
        membership: Option<&Membership>,
    ) -> status::NetworkStatus {
        let at: Instant = now();
        let peers = network.peers.iter().map(|(host, peer)| {
            let known = membership.and_then(|membership| membership.peer(*host));
            // It is a backup while the first of the list is away.
            let relay = match known.as_ref().map(|known| self.engine.way_to(known)) {
                Some(Choice::Send(relay) | Choice::Connect(relay)) => Some(relay),
                Some(Choice::Wait | Choice::Nowhere) | None => peer.relays.first().copied(),
            };
            let presence = known
                .as_ref()
                .map_or(Presence::Unknown, |known| self.engine.presence(at, known));
            let relay = relay.and_then(|id| netmap.relays.get(&id));
            status::PeerStatus {
                name: format!("{}.{}.{}", peer.label, network.name, netmap.domain),
                label: peer.label.clone(),
                addresses: host.addresses().into(),
                online: presence == Presence::Online,
                presence,
                relay: relay.map(|relay| relay.name.clone()),
                routes: peer.routes.clone(),
                sessions: u32::from(known.is_some_and(|known| known.has_session(at))),
            }
        });
        status::NetworkStatus {
            name: network.name.clone(),
            vni: network.vni,
            device: format!("{}.{}.{}", network.label, network.name, netmap.domain),
            addresses: network.host.addresses().into(),
            attached: self.engine.is_attached_to(network.vni, &network.relays),
            peers: peers.collect(),
        }
    }

    fn relay_statuses(&self, netmap: &Netmap) -> Vec<status::RelayStatus> {
        let states = self.engine.link_states();
        let homes = netmap.networks.values();
        let homes: Vec<RelayId> = homes
            .filter_map(|network| network.relays.first())
            .copied()
            .collect();
        let notes = self.link_notes.lock().clone();
        let relays = netmap.relays.iter().map(|(id, relay)| {
            let note = notes.get(id);
            let round_trip = note.and_then(|note| note.round_trip);
            status::RelayStatus {
                name: relay.name.clone(),
                id: *id,
                state: match states.get(id) {
                    None => status::LinkState::Idle,
                    Some(LinkState::Up) => status::LinkState::Connected,
                    Some(LinkState::Pending) => status::LinkState::Connecting,
                    Some(LinkState::Failed) => status::LinkState::Waiting,
                },
                round_trip_ms: round_trip.map(|time| time.as_millis() as u32),
                round_trip_us: round_trip.map(|time| time.as_micros() as u64),
                home: homes.contains(id),
                last_error: note.and_then(|note| note.error.clone()),
            }
        });
        relays.collect()
    }

    pub(super) fn counters(
        &self,
        memberships: &BTreeMap<NetworkId, Arc<Membership>>,
    ) -> BTreeMap<String, u64> {
        let mut counters = self.engine.counters().snapshot(now());
        for membership in memberships.values() {
            add_stack(&mut counters, &membership.stack().stats());
        }
        counters
    }
}

fn health_status(health: Health) -> status::ControlStatus {
    use crate::device::controller_session::UNKNOWN;
    use status::LinkState as State;

    let (state, since, last_error) = match health {
        Health::Connecting => (State::Connecting, None, None),
        Health::Connected { since } => (State::Connected, Some(since), None),
        Health::Unreachable { error } => (State::Waiting, None, Some(error)),
        Health::Barred { reason, .. } => (State::Waiting, None, Some(reason)),
        Health::Unknown => (State::Waiting, None, Some(UNKNOWN.to_owned())),
        Health::Removed => (State::Idle, None, Some("the device was removed".to_owned())),
    };
    status::ControlStatus {
        state,
        since,
        last_error,
    }
}
