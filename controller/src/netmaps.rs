//! Decides what one device knows: its netmap at a version, and the delta that the change log makes
//! of it.
//!
//! Holds no state: the members of a network come from the store, the log entries from
//! [`crate::changelog`]. An entry names a change once, for everybody; each stream derives its own
//! change from it.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::HostIndex;
use overlan_protocol::dns::{Dns, Record, Zone};
use overlan_protocol::frame::Vni;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap::{Change, Netmap, Network, Owner, Peer, Relay};
use overlan_protocol::policy::Filter;
use overlan_protocol::tag::Tag;
use serde::{Deserialize, Serialize};

/// An organisation: a border that nothing crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrgId(pub(crate) i64);

/// A device as the members of its network see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) device: DeviceId,
    pub(crate) host: HostIndex,
    pub(crate) label: String,
    pub(crate) identity: IdentityKey,
    pub(crate) tunnel: TunnelKey,
    pub(crate) tunnel_signature: String,
    /// Home first.
    pub(crate) relays: Vec<RelayId>,
    pub(crate) online: bool,
    /// Approved routes to gateway hosts.
    #[serde(default)]
    pub(crate) routes: Vec<GatewayRoute>,
    /// The right by which it was enrolled.
    #[serde(default)]
    pub(crate) owner: Owner,
    #[serde(default)]
    pub(crate) tags: BTreeSet<Tag>,
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
            routes: self.routes.clone(),
            owner: self.owner.clone(),
        }
    }
}

/// The change that one entry of the log is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// A member changed.
    Device(Box<Member>),
    /// A device joined the network.
    Joined(Box<Member>),
    /// A device left the network, or was taken out.
    Left { device: DeviceId, host: HostIndex },
    /// A device was removed for good; written once for each of its networks, or without a network
    /// and with host 0 if it was in none.
    Gone { device: DeviceId, host: u32 },
    /// A device takes no part from here on, but keeps its place; written once for each of its
    /// networks, or without a network and with host 0 if it is in none.
    Barred { device: DeviceId, host: u32 },
    /// A device came online or went offline.
    Online {
        device: DeviceId,
        host: HostIndex,
        online: bool,
    },
    /// A relay is new or changed.
    Relay { id: RelayId, relay: Relay },
    /// A relay was removed.
    RelayGone { id: RelayId },
    /// The records of a name changed; without records the name is gone.
    DnsRecords { name: String, records: Vec<Record> },
    /// A zone is new, changed or, without settings, gone.
    DnsZone {
        zone: String,
        settings: Option<Zone>,
    },
    /// The network as a whole changed, such as its name: its members read it again.
    Network,
}

/// One entry of the change log. Versions are dense: each entry has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) org: OrgId,
    /// `None` if the entry concerns every network of the organisation.
    pub(crate) network: Option<NetworkId>,
    pub(crate) fact: Fact,
}

/// The device that a netmap is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) device: DeviceId,
    pub(crate) org: OrgId,
    /// The networks that it is in, each with the version up to which it knows that network.
    pub(crate) networks: BTreeMap<NetworkId, u64>,
}

/// A network with all members at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) network: NetworkId,
    pub(crate) name: String,
    pub(crate) vni: Vni,
    pub(crate) members: Vec<Member>,
    pub(crate) dns: Dns,
}

/// Makes the whole netmap of `device` at `version`. All `relays` of the organisation are in it,
/// also those that no list names, since devices measure the way to each.
pub(crate) fn snapshot(
    version: u64,
    views: Vec<View>,
    relays: BTreeMap<RelayId, Relay>,
    domain: &str,
    device: DeviceId,
) -> Netmap {
    let networks = views
        .into_iter()
        .filter_map(|view| Some((view.network, network(view, device)?)));
    Netmap {
        version,
        lineage: None,
        domain: domain.to_owned(),
        device,
        networks: networks.collect(),
        relays,
    }
}

/// Returns a network as `device` sees it; `None` if it is not a member.
pub(crate) fn network(view: View, device: DeviceId) -> Option<Network> {
    let own = view
        .members
        .iter()
        .find(|member| member.device == device)?
        .clone();
    let others = view.members.iter().filter(|member| member.device != device);
    let peers = others.map(|member| (member.host, member.peer())).collect();
    Some(Network {
        name: view.name,
        vni: view.vni,
        host: own.host,
        label: own.label,
        relays: own.relays,
        filter: Filter::starter(),
        peers,
        dns: view.dns,
        routes: own.routes,
    })
}

/// The meaning of log entries for one device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Derived {
    /// These changes, possibly none.
    Changes {
        changes: Vec<Change>,
        /// Networks that the device joined: they are read whole from the store, after these entries
        /// were written.
        joined: BTreeSet<NetworkId>,
        /// Its networks changed, so it needs another ticket.
        moved: bool,
    },
    /// The device was removed.
    Removed,
    /// The device takes no part any more.
    Barred,
}

/// Derives the changes of `viewer` from `entries`, which are in order, and keeps its networks up to
/// date. A change that a later entry overrides is left out.
pub(crate) fn derive<'a>(
    viewer: &mut Viewer,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Derived {
    let mut pending = PendingChanges::default();
    for entry in entries.into_iter().filter(|entry| entry.org == viewer.org) {
        match (&entry.fact, entry.network) {
            (Fact::Gone { device, .. }, _) if *device == viewer.device => return Derived::Removed,
            (Fact::Barred { device, .. }, _) if *device == viewer.device => {
                return Derived::Barred;
            }
            (Fact::Joined(member), Some(network)) if member.device == viewer.device => {
                // Everything else in the log about this network is older than what will be read.
                viewer.networks.insert(network, u64::MAX);
                pending.place(network, OwnMove::Joined);
            }
            (Fact::Network, Some(network)) if viewer.networks.contains_key(&network) => {
                viewer.networks.insert(network, u64::MAX);
                pending.place(network, OwnMove::Joined);
            }
            (Fact::Left { device, .. }, Some(network)) if *device == viewer.device => {
                viewer.networks.remove(&network);
                pending.place(network, OwnMove::Left);
            }
            (Fact::Relay { id, relay }, _) => {
                pending.relays.insert(*id, Some(relay.clone()));
            }
            (Fact::RelayGone { id }, _) => {
                pending.relays.insert(*id, None);
            }
            (fact, Some(network)) => {
                let is_news = viewer.networks.get(&network);
                if is_news.is_some_and(|known| entry.version > *known) {
                    let members = pending.members.entry(network).or_default();
                    members.handle(fact, viewer.device);
                }
            }
            (_, None) => {}
        }
    }
    let places = pending.places.iter();
    let joined = places.filter(|(_, place)| **place == OwnMove::Joined);
    Derived::Changes {
        joined: joined.map(|(network, _)| *network).collect(),
        moved: !pending.places.is_empty(),
        changes: pending.into_changes(),
    }
}

/// Changes by their subject; the last one counts.
#[derive(Debug, Default)]
struct PendingChanges {
    /// `None` for a relay that is gone.
    relays: BTreeMap<RelayId, Option<Relay>>,
    places: BTreeMap<NetworkId, OwnMove>,
    members: BTreeMap<NetworkId, MemberChanges>,
}

/// The viewer's own way into or out of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnMove {
    Joined,
    Left,
}

#[derive(Debug, Default)]
struct MemberChanges {
    own: Option<(Vec<RelayId>, Vec<GatewayRoute>)>,
    peers: BTreeMap<HostIndex, Peer>,
    gone: BTreeSet<HostIndex>,
    online: BTreeMap<HostIndex, bool>,
    zones: BTreeMap<String, Option<Zone>>,
    records: BTreeMap<String, Vec<Record>>,
}

impl PendingChanges {
    /// Drops the changes of members: the whole network follows, or nothing.
    fn place(&mut self, network: NetworkId, place: OwnMove) {
        self.members.remove(&network);
        self.places.insert(network, place);
    }

    /// New relays come first and gone ones last, so that a peer's list always finds its relays.
    fn into_changes(self) -> Vec<Change> {
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for (id, relay) in self.relays {
            match relay {
                Some(relay) => changes.push(Change::Relay { id, relay }),
                None => gone.push(Change::RelayGone { id }),
            }
        }
        let left = self.places.into_iter();
        let left = left.filter(|(_, place)| *place == OwnMove::Left);
        changes.extend(left.map(|(id, _)| Change::NetworkGone { id }));
        for (network, members) in self.members {
            members.add_changes(network, &mut changes);
        }
        changes.extend(gone);
        changes
    }
}

impl MemberChanges {
    fn handle(&mut self, fact: &Fact, own: DeviceId) {
        match fact {
            Fact::Device(member) if member.device == own => {
                self.own = Some((member.relays.clone(), member.routes.clone()));
            }
            Fact::Online { device, .. } if *device == own => {}
            Fact::Device(member) | Fact::Joined(member) => {
                self.gone.remove(&member.host);
                self.online.remove(&member.host);
                self.peers.insert(member.host, member.peer());
            }
            Fact::Left { host, .. } => self.leave(*host),
            Fact::Gone { host, .. } | Fact::Barred { host, .. } => {
                if let Some(host) = HostIndex::new(*host) {
                    self.leave(host);
                }
            }
            Fact::Online { host, online, .. } => match self.peers.get_mut(host) {
                Some(peer) => peer.online = *online,
                None => {
                    self.online.insert(*host, *online);
                }
            },
            Fact::DnsRecords { name, records } => {
                self.records.insert(name.clone(), records.clone());
            }
            Fact::DnsZone { zone, settings } => {
                self.zones.insert(zone.clone(), settings.clone());
            }
            // They were handled before.
            Fact::Relay { .. } | Fact::RelayGone { .. } | Fact::Network => {}
        }
    }

    fn leave(&mut self, host: HostIndex) {
        self.peers.remove(&host);
        self.online.remove(&host);
        self.gone.insert(host);
    }

    fn add_changes(self, network: NetworkId, changes: &mut Vec<Change>) {
        if let Some((relays, routes)) = self.own {
            changes.push(Change::Relays { network, relays });
            changes.push(Change::Routes { network, routes });
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
    }
}

#[cfg(test)]
mod tests;
