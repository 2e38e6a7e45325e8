//! Reverse DNS: the names of an overlay address. Decides which addresses have names; forward names
//! are `lookup.rs`'s part.

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData};
use overlan_protocol::HostIndex;
use overlan_protocol::address;
use overlan_protocol::netmap::{Netmap, Network};

use super::{Found, apex, fqdn};
use crate::names;

/// Looks up a name of the reverse trees; `None` if it is in none of our reverse zones.
pub(crate) fn find(text: &str, netmap: &Netmap) -> Option<Found> {
    let (labels, family) = if let Some(labels) = text.strip_suffix(".in-addr.arpa") {
        (labels, Family::V4)
    } else {
        (text.strip_suffix(".ip6.arpa")?, Family::V6)
    };
    // The top of the tree first, in the order in which an address is written.
    let labels: Vec<&str> = labels.rsplit('.').collect();
    let zone_len = family.zone_labels();
    let zone_labels = labels.get(..zone_len)?;
    if !family.is_ours(zone_labels) {
        return None;
    }
    let zone = family.name(zone_labels)?;
    if labels.len() == zone_len {
        return Some(apex(zone, netmap.version));
    }
    let whole = family.labels();
    if labels.len() < whole {
        // Names may exist below it, and "No such name" would deny them all (RFC 8020).
        return Some(Found::Node {
            zone,
            records: Vec::new(),
        });
    }
    let device_names: Vec<RData> = (labels.len() == whole)
        .then(|| family.address(&labels))
        .flatten()
        .and_then(HostIndex::of_address)
        .map(|host| pointers(host, netmap))
        .unwrap_or_default();
    Some(if device_names.is_empty() {
        Found::Missing { zone }
    } else {
        Found::Node {
            zone,
            records: device_names,
        }
    })
}

/// Lists the names of all devices with this host index, network by network.
fn pointers(host: HostIndex, netmap: &Netmap) -> Vec<RData> {
    netmap
        .networks
        .values()
        .filter_map(|network| {
            let label = label_of(network, host)?;
            let name = fqdn(&format!("{label}.{}.{}", network.name, netmap.domain))?;
            Some(RData::PTR(PTR(name)))
        })
        .collect()
}

fn label_of(network: &Network, host: HostIndex) -> Option<&str> {
    if network.host == host {
        return Some(&network.label);
    }
    network.peers.get(&host).map(|peer| peer.label.as_str())
}

/// The two reverse trees.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Returns the number of labels of a whole address.
    fn labels(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 32,
        }
    }

    /// Returns the number of labels of our zone: the prefix, rounded up to a whole label.
    fn zone_labels(self) -> usize {
        match self {
            Self::V4 => usize::from(address::V4_PREFIX_LEN.div_ceil(8)),
            Self::V6 => usize::from(address::V6_PREFIX_LEN / 4),
        }
    }

    fn is_ours(self, zone_labels: &[&str]) -> bool {
        let mut labels = zone_labels.to_vec();
        labels.resize(self.labels(), "0");
        self.address(&labels).is_some_and(names::in_overlay)
    }

    /// Returns the address with these labels, most significant first; `None` if a label cannot be
    /// part of an address.
    fn address(self, labels: &[&str]) -> Option<IpAddr> {
        match self {
            Self::V4 => labels.join(".").parse().ok().map(IpAddr::V4),
            Self::V6 => {
                let mut bits = 0u128;
                for label in labels {
                    let &[digit] = label.as_bytes() else {
                        return None;
                    };
                    bits = bits << 4 | u128::from(char::from(digit).to_digit(16)?);
                }
                Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
            }
        }
    }

    /// Returns the name of the zone with these labels, most significant first.
    fn name(self, zone_labels: &[&str]) -> Option<Name> {
        let mut labels = zone_labels.to_vec();
        labels.reverse();
        let top = match self {
            Self::V4 => "in-addr.arpa",
            Self::V6 => "ip6.arpa",
        };
        fqdn(&format!("{}.{top}", labels.join(".")))
    }
}
