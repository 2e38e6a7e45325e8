//! Two devices, one network and two relays: the netmaps and keys of a [`Lab`](super::Lab).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use overlan_protocol::HostIndex;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{
    DeviceId, IdentitySecret, NetworkId, RelayId, TunnelKey, encode_signature,
};
use overlan_protocol::netmap::{self, Netmap, Network};
use overlan_protocol::policy::Filter;
use overlan_protocol::proof::tunnel_key_message;
use zeroize::Zeroizing;

use crate::tunnel::StaticKey;

pub(in crate::engine) fn address_of(index: usize) -> SocketAddr {
    SocketAddr::new(HOSTS[index].v4().into(), PORT)
}

pub(in crate::engine) fn network(index: usize) -> Network {
    let other = 1 - index;
    Network {
        routes: Vec::new(),
        name: "lab".into(),
        vni: VNI,
        host: HOSTS[index],
        label: format!("side-{index}"),
        relays: vec![HOME, BACKUP],
        filter: Filter::starter(),
        peers: BTreeMap::from([(HOSTS[other], entry(other))]),
        dns: Default::default(),
    }
}

/// The entry of side `index` in the netmaps of others.
fn entry(index: usize) -> netmap::Peer {
    let identity = identity(index);
    let tunnel = TunnelKey(*tunnel(index).public());
    netmap::Peer {
        owner: Default::default(),
        routes: Vec::new(),
        device: device(index),
        label: format!("side-{index}"),
        identity: identity.public(),
        tunnel,
        tunnel_signature: encode_signature(&identity.sign(&tunnel_key_message(&tunnel))),
        relays: vec![HOME, BACKUP],
        online: true,
    }
}

pub(in crate::engine) fn netmap(index: usize, networks: BTreeMap<NetworkId, Network>) -> Netmap {
    Netmap {
        version: 1,
        lineage: None,
        domain: "lab.test".into(),
        device: device(index),
        networks,
        relays: BTreeMap::new(),
    }
}

pub(super) fn device(index: usize) -> DeviceId {
    DeviceId([index as u8 + 1; 16])
}

pub(in crate::engine) fn identity(index: usize) -> IdentitySecret {
    IdentitySecret::from_seed([index as u8 + 21; 32])
}

pub(in crate::engine) fn tunnel(index: usize) -> StaticKey {
    StaticKey::from_secret(Zeroizing::new([index as u8 + 11; 32]))
}

pub(in crate::engine) const HOME: RelayId = RelayId([0xa1; 16]);
pub(in crate::engine) const BACKUP: RelayId = RelayId([0xa2; 16]);
pub(in crate::engine) const NETWORK: NetworkId = NetworkId([7; 16]);
pub(in crate::engine) const VNI: Vni = Vni::new(0x4242).unwrap();
pub(in crate::engine) const HOSTS: [HostIndex; 2] =
    [HostIndex::new(5).unwrap(), HostIndex::new(9).unwrap()];
pub(in crate::engine) const PORT: u16 = 80;
