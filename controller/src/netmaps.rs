//! Decides what one device knows: its netmap at a version, and the delta that the change log makes
//! of it.
//!
//! Holds no state: the members of a network come from the store, the log entries from
//! [`crate::changelog`]. An entry names a change once, for everybody; each stream derives its own
//! change from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use overlan_protocol::HostIndex;
use overlan_protocol::dns::{Dns, Record, Zone};
use overlan_protocol::frame::Vni;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap::{Change, Netmap, Network, Owner, Peer, Relay};
use overlan_protocol::policy::Filter;
use overlan_protocol::tag::Tag;
use serde::{Deserialize, Serialize};

use crate::policy::{Eyes, Sight, Turn};

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
    /// Something that policy looks at changed beside the members themselves: the document, tags or
    /// routes of members, a person's role or groups, or a rule that ended.
    Policy,
}

impl Fact {
    /// Returns whether the policy of the network has to be compiled again.
    pub(crate) fn is_of_policy(&self) -> bool {
        match self {
            Self::Joined(_)
            | Self::Left { .. }
            | Self::Gone { .. }
            | Self::Barred { .. }
            | Self::Policy => true,
            Self::Device(_)
            | Self::Online { .. }
            | Self::Relay { .. }
            | Self::RelayGone { .. }
            | Self::DnsRecords { .. }
            | Self::DnsZone { .. }
            | Self::Network => false,
        }
    }
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
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) device: DeviceId,
    pub(crate) org: OrgId,
    /// The networks that it is in, as far as it knows them.
    pub(crate) networks: BTreeMap<NetworkId, Knowledge>,
}

/// The knowledge of a device about one of its networks.
#[derive(Debug, Clone)]
pub(crate) struct Knowledge {
    /// The version up to which it knows the network.
    pub(crate) at: u64,
    /// Its host index there.
    pub(crate) host: HostIndex,
    /// The policy by which it sees others.
    pub(crate) sight: Arc<Sight>,
}

/// A network with all members at one version, and its policy.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) network: NetworkId,
    pub(crate) name: String,
    pub(crate) vni: Vni,
    pub(crate) members: Vec<Member>,
    pub(crate) dns: Dns,
    pub(crate) sight: Arc<Sight>,
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

/// Returns a network as `device` sees it, with the peers that it may talk with in either direction;
/// `None` if it is not a member.
pub(crate) fn network(view: View, device: DeviceId) -> Option<Network> {
    let own = view
        .members
        .iter()
        .find(|member| member.device == device)?
        .clone();
    let is_seen =
        |member: &&Member| member.device != device && view.sight.sees(own.host, member.host);
    let others = view.members.iter().filter(is_seen);
    let peers = others.map(|member| (member.host, member.peer())).collect();
    Some(Network {
        name: view.name,
        vni: view.vni,
        host: own.host,
        label: own.label,
        relays: own.relays,
        filter: view.sight.filter_of(own.host),
        peers,
        dns: view.dns,
        routes: own.routes,
    })
}

/// Returns the changes by which a device learns of these hosts of a network.
pub(crate) fn appearances(
    network: NetworkId,
    members: &[Member],
    hosts: &BTreeSet<HostIndex>,
) -> Vec<Change> {
    let members = members.iter().filter(|member| hosts.contains(&member.host));
    let peers = members.map(|member| Change::Peer {
        network,
        host: member.host,
        peer: Box::new(member.peer()),
    });
    peers.collect()
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
        /// Peers that policy shows the device from now on: they are read from the store, too.
        appeared: BTreeMap<NetworkId, BTreeSet<HostIndex>>,
        /// Its networks changed, so it needs another ticket.
        moved: bool,
    },
    /// The device was removed.
    Removed,
    /// The device takes no part any more.
    Barred,
}

/// Derives the changes of `viewer` from `entries`, which are in order, and keeps its networks up to
/// date. A change that a later entry overrides is left out, and so is one of a peer that policy
/// hides. `sights` are the newest policies of the networks that the entries concern.
pub(crate) fn derive<'a>(
    viewer: &mut Viewer,
    entries: impl IntoIterator<Item = &'a Entry>,
    sights: &BTreeMap<NetworkId, Arc<Sight>>,
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
                viewer.networks.remove(&network);
                pending.place(network, OwnMove::Joined);
            }
            (Fact::Network, Some(network)) if viewer.networks.contains_key(&network) => {
                viewer.networks.remove(&network);
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
                let known = viewer.networks.get(&network);
                if let Some(known) = known.filter(|known| entry.version > known.at) {
                    let sees = Eyes {
                        device: viewer.device,
                        host: known.host,
                        before: &known.sight,
                        now: sights.get(&network).unwrap_or(&known.sight),
                    };
                    let members = pending.members.entry(network).or_default();
                    members.handle(fact, &sees);
                }
            }
            (_, None) => {}
        }
    }
    let appeared = follow_policies(viewer, sights, &mut pending);
    let places = pending.places.iter();
    let joined = places.filter(|(_, place)| **place == OwnMove::Joined);
    Derived::Changes {
        joined: joined.map(|(network, _)| *network).collect(),
        appeared,
        moved: !pending.places.is_empty(),
        changes: pending.into_changes(),
    }
}

/// Lets the viewer see by the newest policies. Returns the peers that it did not see before, and of
/// which no entry says everything.
fn follow_policies(
    viewer: &mut Viewer,
    sights: &BTreeMap<NetworkId, Arc<Sight>>,
    pending: &mut PendingChanges,
) -> BTreeMap<NetworkId, BTreeSet<HostIndex>> {
    let mut all = BTreeMap::new();
    for (network, sight) in sights {
        let Some(known) = viewer.networks.get_mut(network) else {
            continue;
        };
        let turn = sight.turn_from(&known.sight, known.host);
        known.sight = sight.clone();
        if turn == Turn::default() {
            continue;
        }
        let members = pending.members.entry(*network).or_default();
        let appeared = members.turn(turn);
        if !appeared.is_empty() {
            all.insert(*network, appeared);
        }
    }
    all
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
    filter: Option<Filter>,
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
    fn handle(&mut self, fact: &Fact, eyes: &Eyes<'_>) {
        match fact {
            Fact::Device(member) if member.device == eyes.device => {
                self.own = Some((member.relays.clone(), member.routes.clone()));
            }
            Fact::Online { device, .. } if *device == eyes.device => {}
            Fact::Device(member) | Fact::Joined(member) if eyes.sees(member.host) => {
                self.gone.remove(&member.host);
                self.online.remove(&member.host);
                self.peers.insert(member.host, member.peer());
            }
            // Policy hides it.
            Fact::Device(_) | Fact::Joined(_) => {}
            Fact::Left { host, .. } => self.leave(*host, eyes),
            Fact::Gone { host, .. } | Fact::Barred { host, .. } => {
                if let Some(host) = HostIndex::new(*host) {
                    self.leave(host, eyes);
                }
            }
            Fact::Online { host, .. } if !eyes.sees(*host) => {}
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
            // They were handled before, or are seen by the policy itself.
            Fact::Relay { .. } | Fact::RelayGone { .. } | Fact::Network | Fact::Policy => {}
        }
    }

    fn leave(&mut self, host: HostIndex, eyes: &Eyes<'_>) {
        self.peers.remove(&host);
        self.online.remove(&host);
        if eyes.saw(host) {
            self.gone.insert(host);
        }
    }

    /// Follows a change of policy. Returns the peers that appeared and of which nothing is known
    /// yet.
    fn turn(&mut self, turn: Turn) -> BTreeSet<HostIndex> {
        self.filter = turn.filter;
        for host in turn.vanished {
            self.peers.remove(&host);
            self.online.remove(&host);
            self.gone.insert(host);
        }
        let mut appeared = turn.appeared;
        appeared.retain(|host| !self.peers.contains_key(host));
        self.online.retain(|host, _| !appeared.contains(host));
        appeared
    }

    fn add_changes(self, network: NetworkId, changes: &mut Vec<Change>) {
        if let Some((relays, routes)) = self.own {
            changes.push(Change::Relays { network, relays });
            changes.push(Change::Routes { network, routes });
        }
        if let Some(filter) = self.filter {
            changes.push(Change::Filter { network, filter });
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
