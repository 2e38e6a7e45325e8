//! Decides by the netmap which destinations a browser sends through the proxy. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlan_protocol::address;
use overlan_protocol::gateway::To;
use overlan_protocol::netmap::Netmap;

/// Destinations that the overlay leads to, one by one and in ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxied {
    /// Names in lower case, each only itself.
    pub names: BTreeSet<String>,
    /// Names in lower case, each for all that lies below it, itself not.
    pub below: BTreeSet<String>,
    /// Addresses that begin like these, by so many bits.
    pub ranges: BTreeSet<(IpAddr, u8)>,
}

impl Proxied {
    /// Collects the domain, the zones of all networks, the overlay's addresses, and the hosts of
    /// gateways.
    pub(crate) fn of(netmap: &Netmap) -> Self {
        let mut proxied = Self::default();
        proxied
            .ranges
            .insert((address::V4_PREFIX.into(), address::V4_PREFIX_LEN));
        proxied
            .ranges
            .insert((address::V6_PREFIX.into(), address::V6_PREFIX_LEN));
        let networks = || netmap.networks.values();
        let zones = networks().flat_map(|network| network.dns.zones.keys());
        for name in zones
            .chain([&netmap.domain])
            .filter(|name| !name.is_empty())
        {
            proxied.names.insert(name.clone());
            proxied.below.insert(name.clone());
        }
        let peers = networks().flat_map(|network| network.peers.values());
        for route in peers.flat_map(|peer| &peer.routes) {
            match route.to() {
                To::Range(begin, bits) => proxied.ranges.insert((*begin, *bits)),
                To::Name(name) => proxied.names.insert(name.clone()),
                To::Below(above) => proxied.below.insert(above.clone()),
            };
        }
        proxied
    }
}
