//! The deployment of a simulation: two clients, their keys and tickets, and the netmaps that the
//! controller sends them.

use std::collections::BTreeMap;
use std::time::Duration;

use overlan_plane::tunnel::StaticKey;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{
    DeviceId, IdentitySecret, NetworkId, RelayId, TunnelKey, encode_signature,
};
use overlan_protocol::netmap::{Netmap, Network, Peer as NetmapPeer, Relay as NetmapRelay};
use overlan_protocol::policy::Filter;
use overlan_protocol::proof::tunnel_key_message;
use overlan_protocol::ticket::Ticket;
use overlan_protocol::{HostIndex, UnixTime};
use zeroize::Zeroizing;

pub(crate) fn device(index: usize) -> DeviceId {
    DeviceId([index as u8 + 1; 16])
}

pub(crate) fn tunnel(index: usize) -> StaticKey {
    StaticKey::from_secret(Zeroizing::new([index as u8 + 11; 32]))
}

pub(crate) fn ticket(index: usize) -> Ticket {
    Ticket {
        device: device(index),
        identity: IdentitySecret::from_seed([index as u8 + 21; 32]).public(),
        networks: vec![(vni(), HOSTS[index])],
        epoch: 1,
        not_before: WALL - Duration::from_secs(10),
        expires: WALL + Duration::from_secs(86_400),
    }
}

pub(crate) fn vni() -> Vni {
    Vni::new(0x4242).unwrap()
}

/// Each client lives at its own relay and has the other's as backup.
pub(crate) fn homes(index: usize) -> Vec<RelayId> {
    vec![RELAYS[index], RELAYS[1 - index]]
}

pub(crate) fn netmap(index: usize) -> Netmap {
    let other = 1 - index;
    let identity = IdentitySecret::from_seed([other as u8 + 21; 32]);
    let tunnel = TunnelKey(*tunnel(other).public());
    let peer = NetmapPeer {
        owner: Default::default(),
        routes: Vec::new(),
        device: device(other),
        label: format!("client-{other}"),
        identity: identity.public(),
        tunnel,
        tunnel_signature: encode_signature(&identity.sign(&tunnel_key_message(&tunnel))),
        relays: homes(other),
        online: true,
    };
    let network = Network {
        routes: Vec::new(),
        name: "sim".into(),
        vni: vni(),
        host: HOSTS[index],
        label: format!("client-{index}"),
        relays: homes(index),
        filter: Filter::starter(),
        peers: BTreeMap::from([(HOSTS[other], peer)]),
        dns: Default::default(),
    };
    let relay = NetmapRelay {
        name: "sim".into(),
        addresses: vec![],
        pins: vec![],
    };
    Netmap {
        version: 1,
        lineage: None,
        domain: "sim.test".into(),
        device: device(index),
        networks: BTreeMap::from([(NETWORK, network)]),
        relays: RELAYS.iter().map(|id| (*id, relay.clone())).collect(),
    }
}

pub(crate) const RELAYS: [RelayId; 2] = [RelayId([0xa1; 16]), RelayId([0xa2; 16])];
pub(crate) const NETWORK: NetworkId = NetworkId([7; 16]);
pub(crate) const HOSTS: [HostIndex; 2] = [HostIndex::new(5).unwrap(), HostIndex::new(9).unwrap()];
pub(crate) const PORT: u16 = 80;

/// Any wall-clock time at which the tickets are valid.
pub(crate) const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);
