//! Fills in what a node tells about itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use overlan_protocol::key::{NetworkId, RelayId};
use overlan_transport::clock::now;

use super::{Inner, lock};
use crate::device::controller_session::Health;
use crate::device::status::{self, Status};
use overlan_plane::engine::{Membership, Presence, add_stack};
use overlan_plane::route::{Choice, LinkState};

impl Inner {
    pub(super) fn status(&self) -> Status {
        let netmap = self.control.netmap().borrow().clone();
        let health = self.control.health().borrow().clone();
        let memberships = self.engine.memberships();
        let states = self.engine.link_states();
        let at: Instant = now();
        let relay_name = |id: RelayId| netmap.relays.get(&id).map(|relay| relay.name.clone());

        let networks = netmap.networks.iter().map(|(id, network)| {
            let membership = memberships.get(id);
            let peers = network.peers.iter().map(|(host, told)| {
                let peer = membership.and_then(|membership| membership.peer(*host));
                // A backup while the first of the list is away.
                let way = peer.as_ref().map(|peer| self.engine.way_to(peer));
                let relay = match way {
                    Some(Choice::Send(relay) | Choice::Connect(relay)) => Some(relay),
                    Some(Choice::Wait | Choice::Nowhere) | None => told.relays.first().copied(),
                };
                let presence = peer
                    .as_ref()
                    .map_or(Presence::Unknown, |peer| self.engine.presence(at, peer));
                status::PeerStatus {
                    name: format!("{}.{}.{}", told.label, network.name, netmap.domain),
                    label: told.label.clone(),
                    addresses: overlan_protocol::address::both(*host)
                        .map(Vec::from)
                        .unwrap_or_default(),
                    online: presence == Presence::Online,
                    presence,
                    relay: relay.and_then(relay_name),
                    routes: told.routes.clone(),
                    sessions: u32::from(peer.is_some_and(|peer| peer.has_session(at))),
                }
            });
            status::NetworkStatus {
                name: network.name.clone(),
                vni: network.vni,
                device: format!("{}.{}.{}", network.label, network.name, netmap.domain),
                addresses: overlan_protocol::address::both(network.host)
                    .map(Vec::from)
                    .unwrap_or_default(),
                attached: self.engine.is_attached_to(network.vni, &network.relays),
                peers: peers.collect(),
            }
        });
        let first = netmap.networks.values().next();
        let homes: Vec<RelayId> = netmap
            .networks
            .values()
            .filter_map(|network| network.relays.first())
            .copied()
            .collect();
        let notes = lock(&self.link_notes).clone();
        let relays = netmap.relays.iter().map(|(id, relay)| status::RelayStatus {
            name: relay.name.clone(),
            id: *id,
            state: match states.get(id) {
                None => status::LinkState::Idle,
                Some(LinkState::Up) => status::LinkState::Connected,
                Some(LinkState::Pending) => status::LinkState::Connecting,
                Some(LinkState::Failed) => status::LinkState::Waiting,
            },
            round_trip_ms: notes
                .get(id)
                .and_then(|note| note.round_trip)
                .map(|time| time.as_millis() as u32),
            round_trip_us: notes
                .get(id)
                .and_then(|note| note.round_trip)
                .map(|time| time.as_micros() as u64),
            home: homes.contains(id),
            last_error: notes.get(id).and_then(|note| note.error.clone()),
        });
        let removed = matches!(health, Health::Removed | Health::Unknown);
        Status {
            state: if removed {
                status::State::NeedsLogin
            } else if self.stop.is_cancelled() {
                status::State::Stopped
            } else if self.engine.is_attached() {
                status::State::Running
            } else if netmap.version > 0 && netmap.networks.is_empty() {
                status::State::PendingApproval
            } else {
                status::State::Connecting
            },
            device: Some(status::DeviceStatus {
                id: self.device.device,
                label: first
                    .map_or(&self.device.label, |network| &network.label)
                    .clone(),
                name: match first {
                    Some(network) => {
                        format!("{}.{}.{}", network.label, network.name, netmap.domain)
                    }
                    None => format!(
                        "{}.{}.{}",
                        self.device.label, self.device.network, self.device.domain
                    ),
                },
                addresses: first
                    .and_then(|network| overlan_protocol::address::both(network.host))
                    .map(Vec::from)
                    .unwrap_or_default(),
            }),
            domain: Some(netmap.domain.clone()),
            networks: networks.collect(),
            relays: relays.collect(),
            control: match health {
                Health::Connecting => control_status(status::LinkState::Connecting, None, None),
                Health::Connected { since } => {
                    control_status(status::LinkState::Connected, Some(since), None)
                }
                Health::Unreachable { error } => {
                    control_status(status::LinkState::Waiting, None, Some(error))
                }
                Health::Unknown => control_status(
                    status::LinkState::Waiting,
                    None,
                    Some(crate::device::controller_session::UNKNOWN.to_owned()),
                ),
                Health::Removed => control_status(
                    status::LinkState::Idle,
                    None,
                    Some("the device was removed".to_owned()),
                ),
            },
            upstream_proxy: self.options.outgoing.proxy().map(ToString::to_string),
            serves: lock(&self.serves).values().cloned().collect(),
            certificates: self.certificates.status(),
            routes: self.route_statuses(),
            memory: self.options.memory.map(status::MemoryStatus::from),
            dns_zones: self.zone_statuses(),
            dns_forwards: self.forward_statuses(),
            full: self.vacancies.full(tokio::time::Instant::now()),
            counters: self.counters(&memberships),
            ..Status::starting()
        }
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

fn control_status(
    state: status::LinkState,
    since: Option<u64>,
    last_error: Option<String>,
) -> status::ControlStatus {
    status::ControlStatus {
        state,
        since,
        last_error,
    }
}
