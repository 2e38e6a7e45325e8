//! Decides what one device is told: its netmap at a version, and the delta that the change log makes of it.
//!
//! Holds no state: the members of a network come from the store, the log entries from [`crate::changelog`]. An entry names what
//! changed once, for everybody; each stream derives its own change from it.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::dns::{Dns, Record, Zone};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap::{Change, Netmap, Network, Peer, Relay};
use serde::{Deserialize, Serialize};

use crate::policy;

/// An organisation: the border that nothing crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrgId(pub(crate) i64);

/// A device as the members of its network see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) device: DeviceId,
    pub(crate) host: u32,
    pub(crate) label: String,
    pub(crate) identity: IdentityKey,
    pub(crate) tunnel: TunnelKey,
    pub(crate) tunnel_signature: String,
    /// Home first.
    pub(crate) relays: Vec<RelayId>,
    pub(crate) online: bool,
}

impl Member {
    fn peer(&self) -> Peer {
        Peer {
            device: self.device,
            label: self.label.clone(),
            identity: self.identity,
            tunnel: self.tunnel,
            tunnel_signature: self.tunnel_signature.clone(),
            relays: self.relays.clone(),
            online: self.online,
        }
    }
}

/// What one entry of the change log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// A device is new or changed.
    Device(Box<Member>),
    /// A device was removed.
    Gone { device: DeviceId, host: u32 },
    /// A device came or went.
    Online {
        device: DeviceId,
        host: u32,
        online: bool,
    },
    /// A relay is new or changed.
    Relay { id: RelayId, relay: Relay },
    /// What a network knows of a name changed; no records = the name is gone.
    DnsRecords { name: String, records: Vec<Record> },
    /// A zone is new, changed or, without settings, gone.
    DnsZone {
        zone: String,
        settings: Option<Zone>,
    },
}

/// One entry of the change log. Versions are dense: each entry has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) org: OrgId,
    /// `None` where the entry concerns every network of the organisation.
    pub(crate) network: Option<NetworkId>,
    pub(crate) fact: Fact,
}

/// Whose netmap it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) device: DeviceId,
    pub(crate) org: OrgId,
    pub(crate) network: NetworkId,
}

/// A network with all members, and the organisation's relays, at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) version: u64,
    pub(crate) network: NetworkId,
    pub(crate) name: String,
    pub(crate) vni: Vni,
    pub(crate) members: Vec<Member>,
    pub(crate) dns: Dns,
    pub(crate) relays: BTreeMap<RelayId, Relay>,
}

/// The whole netmap of `device`; `None` if it is no member. All relays of the organisation are in it, also those that no list
/// names: devices measure the way to each.
pub(crate) fn snapshot(view: View, domain: &str, device: DeviceId) -> Option<Netmap> {
    let own = view
        .members
        .iter()
        .find(|member| member.device == device)?
        .clone();
    let others = view.members.iter().filter(|member| member.device != device);
    let peers = others.map(|member| (member.host, member.peer())).collect();
    let network = Network {
        name: view.name,
        vni: view.vni,
        host: own.host,
        label: own.label,
        relays: own.relays,
        filter: policy::starter(),
        peers,
        dns: view.dns,
    };
    Some(Netmap {
        version: view.version,
        domain: domain.to_owned(),
        device,
        networks: BTreeMap::from([(view.network, network)]),
        relays: view.relays,
    })
}

/// What entries mean for one device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Derived {
    /// These changes, possibly none.
    Changes(Vec<Change>),
    /// The device was removed.
    Removed,
}

/// Derives the changes of `viewer` from `entries`, which are in order. What a later entry overrides is left out.
pub(crate) fn derive<'a>(viewer: &Viewer, entries: impl IntoIterator<Item = &'a Entry>) -> Derived {
    let mut pending = Pending::default();
    for entry in entries {
        let foreign = entry.org != viewer.org
            || entry
                .network
                .is_some_and(|network| network != viewer.network);
        if foreign {
            continue;
        }
        match &entry.fact {
            Fact::Gone { device, .. } if *device == viewer.device => return Derived::Removed,
            Fact::Device(member) if member.device == viewer.device => {
                pending.own_relays = Some(member.relays.clone());
            }
            Fact::Online { device, .. } if *device == viewer.device => {}
            Fact::Device(member) => pending.peer(member),
            Fact::Gone { host, .. } => pending.peer_gone(*host),
            Fact::Online { host, online, .. } => pending.peer_online(*host, *online),
            Fact::Relay { id, relay } => {
                pending.relays.insert(*id, relay.clone());
            }
            Fact::DnsRecords { name, records } => {
                pending.records.insert(name.clone(), records.clone());
            }
            Fact::DnsZone { zone, settings } => {
                pending.zones.insert(zone.clone(), settings.clone());
            }
        }
    }
    Derived::Changes(pending.into_changes(viewer.network))
}

/// Changes by what they are about; the last word counts.
#[derive(Debug, Default)]
struct Pending {
    relays: BTreeMap<RelayId, Relay>,
    own_relays: Option<Vec<RelayId>>,
    peers: BTreeMap<u32, Peer>,
    gone: BTreeSet<u32>,
    online: BTreeMap<u32, bool>,
    zones: BTreeMap<String, Option<Zone>>,
    records: BTreeMap<String, Vec<Record>>,
}

impl Pending {
    fn peer(&mut self, member: &Member) {
        self.gone.remove(&member.host);
        self.online.remove(&member.host);
        self.peers.insert(member.host, member.peer());
    }

    fn peer_gone(&mut self, host: u32) {
        self.peers.remove(&host);
        self.online.remove(&host);
        self.gone.insert(host);
    }

    fn peer_online(&mut self, host: u32, online: bool) {
        match self.peers.get_mut(&host) {
            Some(peer) => peer.online = online,
            None => {
                self.online.insert(host, online);
            }
        }
    }

    /// Relays first: a peer's list must find them.
    fn into_changes(self, network: NetworkId) -> Vec<Change> {
        let mut changes = Vec::new();
        let relays = self.relays.into_iter();
        changes.extend(relays.map(|(id, relay)| Change::Relay { id, relay }));
        if let Some(relays) = self.own_relays {
            changes.push(Change::Relays { network, relays });
        }
        let gone = self.gone.into_iter();
        changes.extend(gone.map(|host| Change::PeerGone { network, host }));
        changes.extend(self.peers.into_iter().map(|(host, peer)| Change::Peer {
            network,
            host,
            peer: Box::new(peer),
        }));
        let online = self.online.into_iter();
        changes.extend(online.map(|(host, online)| Change::PeerOnline {
            network,
            host,
            online,
        }));
        let zones = self.zones.into_iter();
        changes.extend(zones.map(|(zone, settings)| Change::DnsZone {
            network,
            zone,
            settings,
        }));
        let records = self.records.into_iter();
        changes.extend(records.map(|(name, records)| Change::DnsRecords {
            network,
            name,
            records,
        }));
        changes
    }
}

#[cfg(test)]
mod tests;
