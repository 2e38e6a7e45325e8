//! The netmap: all that the controller reports to a device about its networks, and the deltas by
//! which the device follows changes.
//!
//! A device holds one [`Netmap`] and applies each [`Delta`] in order. A delta that does not start
//! at the map's version is a [`Gap`]: the device then asks for a snapshot. The client, not this
//! module, decides whether to trust a peer's keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dns::{Dns, Record, Zone};
use crate::frame::Vni;
use crate::gateway::GatewayRoute;
use crate::key::{DeviceId, Fingerprint, IdentityKey, Lineage, NetworkId, RelayId, TunnelKey};
use crate::policy::Filter;
use crate::{HostIndex, UnixTime};

/// Everything one device knows of its networks at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netmap {
    /// The controller's version that this map shows.
    pub version: u64,
    /// The run of the controller that counted the version; a request for deltas sends both back.
    /// `None` in a map of an earlier version of the program: it cannot be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The deployment's domain, lower case.
    pub domain: String,
    /// This device.
    pub device: DeviceId,
    /// Networks that this device is a member of.
    pub networks: BTreeMap<NetworkId, Network>,
    /// All relays that the networks name.
    pub relays: BTreeMap<RelayId, Relay>,
}

/// One network as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Label in names: `host.<name>.domain`.
    pub name: String,
    /// Number on the wire.
    pub vni: Vni,
    /// This device's host index.
    pub host: HostIndex,
    /// This device's host label.
    pub label: String,
    /// Relays to which this device attaches: home first, then backups.
    pub relays: Vec<RelayId>,
    /// This device's rules.
    pub filter: Filter,
    /// Devices that policy lets this one talk with, by host index.
    pub peers: BTreeMap<HostIndex, Peer>,
    /// Records and zones.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// Approved routes of this device, by which it is a gateway for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<GatewayRoute>,
}

/// Another member of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The id of the device.
    pub device: DeviceId,
    /// Host label.
    pub label: String,
    /// Key that proves the device.
    pub identity: IdentityKey,
    /// Key of its end-to-end sessions.
    pub tunnel: TunnelKey,
    /// Signature by `identity` over [`crate::proof::tunnel_key_message`], text form.
    pub tunnel_signature: String,
    /// Relays to which the device attaches: home first, then backups.
    pub relays: Vec<RelayId>,
    /// It holds a controller session.
    pub online: bool,
    /// Approved routes, for which it is the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<GatewayRoute>,
    /// By what right it was enrolled.
    #[serde(default, skip_serializing_if = "Owner::is_unknown")]
    pub owner: Owner,
}

/// By what right a device was enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// A person, by email.
    Person(String),
    /// An auth key, by its id.
    AuthKey(String),
    /// It was enrolled by a version that did not record this.
    #[default]
    Unknown,
}

impl Owner {
    /// Returns whether nothing was recorded.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// The person's email, if a person enrolled it.
    #[must_use]
    pub fn person(&self) -> Option<&str> {
        match self {
            Self::Person(email) => Some(email),
            Self::AuthKey(_) | Self::Unknown => None,
        }
    }
}

/// A relay and how to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Short name for people, such as `ams-1`.
    pub name: String,
    /// `host:port` of its tunnel listener, tried in order.
    pub addresses: Vec<String>,
    /// SHA-256 of the SPKI of its TLS key: current, then next.
    pub pins: Vec<Fingerprint>,
}

/// One line of the netmap stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapEvent {
    /// The whole map; replaces what the device holds.
    Snapshot(Box<Netmap>),
    /// The changes since an earlier version.
    Delta(Delta),
    /// A fresh ticket, because the old one is past half of its life or names other networks.
    Ticket {
        /// Its text.
        ticket: String,
        /// Its end.
        expires: UnixTime,
        /// Networks that it names, ascending.
        #[serde(default)]
        networks: Vec<Vni>,
        /// The CAs by which the controller is recognised, as in
        /// [`crate::api::RelayOrders::cas`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cas: Vec<Fingerprint>,
    },
    /// Nothing changed; the stream lives.
    Alive,
    /// This device was removed; the stream ends.
    Removed,
}

/// The changes from one version to a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The version that the map must have.
    pub from: u64,
    /// The version that it has afterwards.
    pub to: u64,
    /// The run of the controller that counted `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// Somebody waits for the device to confirm that it has applied the changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// The changes, to be applied in this order.
    pub changes: Vec<Change>,
}

/// One change of a netmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A network is new or changed as a whole.
    Network {
        /// The id of the network.
        id: NetworkId,
        /// Its new state.
        network: Box<Network>,
    },
    /// This device is no longer a member.
    NetworkGone {
        /// The network that it left or was removed from.
        id: NetworkId,
    },
    /// A peer is new or changed.
    Peer {
        /// In which network.
        network: NetworkId,
        /// Its host index.
        host: HostIndex,
        /// Its new state.
        peer: Box<Peer>,
    },
    /// A peer was removed or policy hides it.
    PeerGone {
        /// In which network.
        network: NetworkId,
        /// Its host index.
        host: HostIndex,
    },
    /// A peer came or went.
    PeerOnline {
        /// In which network.
        network: NetworkId,
        /// Its host index.
        host: HostIndex,
        /// The peer is online.
        online: bool,
    },
    /// A relay is new or changed.
    Relay {
        /// The id of the relay.
        id: RelayId,
        /// Its new state.
        relay: Relay,
    },
    /// A relay is no longer used.
    RelayGone {
        /// The id of the relay.
        id: RelayId,
    },
    /// This device's relays in a network changed.
    Relays {
        /// In which network.
        network: NetworkId,
        /// Home first.
        relays: Vec<RelayId>,
    },
    /// The approved routes of this device in a network changed.
    Routes {
        /// In which network.
        network: NetworkId,
        /// All of them.
        routes: Vec<GatewayRoute>,
    },
    /// This device's rules in a network changed.
    Filter {
        /// In which network.
        network: NetworkId,
        /// The new rules.
        filter: Filter,
    },
    /// The records of a name changed.
    DnsRecords {
        /// In which network.
        network: NetworkId,
        /// The absolute name.
        name: String,
        /// All its records; none = the name is gone.
        records: Vec<Record>,
    },
    /// A zone is new, changed or gone.
    DnsZone {
        /// In which network.
        network: NetworkId,
        /// Its name.
        zone: String,
        /// Its new state; `None` = it is gone.
        settings: Option<Zone>,
    },
}

/// A delta that does not fit the map; ask for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the netmap is at version {have}, but the change starts at {from}; ask for a snapshot")]
pub struct Gap {
    /// The map's version.
    pub have: u64,
    /// The delta's start.
    pub from: u64,
}

impl Netmap {
    /// Applies `delta`, or changes nothing and reports a gap. A change to something that the map
    /// does not hold is skipped: policy hides it from this device.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), Gap> {
        if delta.from != self.version || delta.to < delta.from {
            return Err(Gap {
                have: self.version,
                from: delta.from,
            });
        }
        for change in &delta.changes {
            self.apply_change(change);
        }
        self.version = delta.to;
        self.lineage = delta.lineage;
        Ok(())
    }

    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Network { id, network } => {
                self.networks.insert(*id, Network::clone(network));
            }
            Change::NetworkGone { id } => {
                self.networks.remove(id);
            }
            Change::Relay { id, relay } => {
                self.relays.insert(*id, relay.clone());
            }
            Change::RelayGone { id } => {
                self.relays.remove(id);
            }
            Change::Peer { network, .. }
            | Change::PeerGone { network, .. }
            | Change::PeerOnline { network, .. }
            | Change::Relays { network, .. }
            | Change::Routes { network, .. }
            | Change::Filter { network, .. }
            | Change::DnsRecords { network, .. }
            | Change::DnsZone { network, .. } => {
                if let Some(network) = self.networks.get_mut(network) {
                    network.apply_change(change);
                }
            }
        }
    }

    /// The network with this label, or that had it before, and its id.
    pub fn network_named(&self, label: &str) -> Option<(NetworkId, &Network)> {
        let mut present = self.networks.iter().filter(|(_, it)| it.name == label);
        let mut former = self.networks.iter().filter(|(_, it)| it.is_called(label));
        let found = present.next().or_else(|| former.next());
        found.map(|(id, network)| (*id, network))
    }
}

impl Network {
    /// Applies a change inside this network; others change nothing here.
    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Peer { host, peer, .. } => {
                self.peers.insert(*host, Peer::clone(peer));
            }
            Change::PeerGone { host, .. } => {
                self.peers.remove(host);
            }
            Change::PeerOnline { host, online, .. } => {
                if let Some(peer) = self.peers.get_mut(host) {
                    peer.online = *online;
                }
            }
            Change::Relays { relays, .. } => self.relays.clone_from(relays),
            Change::Routes { routes, .. } => self.routes.clone_from(routes),
            Change::Filter { filter, .. } => self.filter.clone_from(filter),
            Change::DnsRecords { name, records, .. } => self.dns.set_records(name, records),
            Change::DnsZone { zone, settings, .. } => self.dns.set_zone(zone, settings.as_ref()),
            Change::Network { .. }
            | Change::NetworkGone { .. }
            | Change::Relay { .. }
            | Change::RelayGone { .. } => {}
        }
    }

    /// Returns whether the network has this label, or had it before and still answers to it.
    #[must_use]
    pub fn is_called(&self, label: &str) -> bool {
        self.name == label || self.dns.former.iter().any(|former| former == label)
    }

    /// The peer with this host label, and its host index.
    pub fn peer_named(&self, label: &str) -> Option<(HostIndex, &Peer)> {
        let mut found = self.peers.iter().filter(|(_, peer)| peer.label == label);
        found.next().map(|(host, peer)| (*host, peer))
    }
}

/// Longest line of the netmap stream, bytes: a snapshot of some 50,000 peers.
pub const MAP_EVENT_MAX: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests;
