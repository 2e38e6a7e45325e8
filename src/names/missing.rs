//! The explanation for a name that nothing has: why it means nothing, and perhaps the name that was
//! meant. Decides from the netmap alone.

use std::fmt;

use overlan_protocol::dns;
use overlan_protocol::name::OverlayName;
use overlan_protocol::netmap::{Netmap, Network};

use super::short::whole;
use super::{is_host_name, zone_of};

/// A name that is written like one of the overlay, and that nothing has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    why: Why,
    /// True if a foreign host may have the name: it is not below our domain or in a private zone.
    is_foreign: bool,
    /// A similar whole name that exists.
    near: Option<String>,
}

/// The reason: one variant for each next step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// This device is in no network; an admin has to approve it.
    NoNetwork,
    /// This device is not in that network, which may not even exist.
    NotAMember { network: String, yours: String },
    /// Nothing in `place` has that name.
    NotThere { name: String, place: String },
    /// The name is below another domain, but a host of ours has the same label.
    AnotherDomain { name: String },
}

impl Missing {
    /// The explanation for a device that is in no network.
    pub(super) const NO_NETWORK: Self = Self {
        why: Why::NoNetwork,
        is_foreign: false,
        near: None,
    };

    /// Explains why nothing has the name `text`. `None` if it is not written like a name of ours.
    pub(super) fn of(netmap: &Netmap, text: &str) -> Option<Self> {
        if !is_host_name(text) {
            return None;
        }
        let is_whole = text.ends_with('.');
        let name = text.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_below = dns::is_in(name, &netmap.domain);
        let is_label = !name.contains('.') && !is_whole && name != "localhost";
        if netmap.networks.is_empty() {
            return (is_below || is_label).then_some(Self {
                is_foreign: !is_below,
                ..Self::NO_NETWORK
            });
        }
        let near = (!is_whole || is_below)
            .then(|| near(netmap, name))
            .flatten();
        let why = match OverlayName::parse(name, &netmap.domain) {
            Some(inside) => below_domain(netmap, name, &inside),
            None => outside_domain(netmap, name, is_whole, near.is_some())?,
        };
        let is_foreign = !is_below && zone_of(netmap, name).is_none();
        Some(Self {
            why,
            is_foreign,
            near,
        })
    }

    /// Returns true if a foreign host may have the name.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns the next step.
    pub(super) fn next(&self) -> String {
        let first = match &self.near {
            Some(near) => format!("Did you mean {near}? "),
            None => String::new(),
        };
        let then = match &self.why {
            Why::NoNetwork => {
                "`overlan status` says which; an admin approves it by `overlan admin \
                               device approve DEVICE`."
                    .to_owned()
            }
            Why::NotAMember { network, .. } => format!(
                "`overlan network list` shows the networks that this device may join; \
                 `overlan network join {network}` joins it."
            ),
            Why::NotThere { .. } | Why::AnotherDomain { .. } => {
                "`overlan status` lists the names of devices, and `overlan admin dns list` the \
                 records. A device has no name before an admin approves it."
                    .to_owned()
            }
        };
        first + &then
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::NoNetwork => f.write_str(
                "this device is in no network: it waits for the approval of an admin, or may take \
                 no part",
            ),
            Why::NotAMember { network, yours } => {
                write!(
                    f,
                    "this device is not in network {network}, only in {yours}"
                )
            }
            Why::NotThere { name, place } => {
                write!(f, "no device or record of {place} is called {name:?}")
            }
            Why::AnotherDomain { name } => write!(f, "{name} is outside the overlay"),
        }
    }
}

fn below_domain(netmap: &Netmap, name: &str, inside: &OverlayName<'_>) -> Why {
    let not_there = |name: &str, place: String| Why::NotThere {
        name: name.to_owned(),
        place,
    };
    let label = name
        .strip_suffix(&netmap.domain)
        .and_then(|below| below.strip_suffix('.'));
    let network = label.and_then(|below| below.rsplit('.').next());
    match (inside, network) {
        (OverlayName::Domain, _) | (_, None) => {
            not_there(name, format!("domain {}", netmap.domain))
        }
        (_, Some(network)) if netmap.network_named(network).is_none() => Why::NotAMember {
            network: network.to_owned(),
            yours: networks(netmap),
        },
        (OverlayName::Host { host, .. }, Some(network)) => {
            not_there(host, format!("network {network}"))
        }
        (OverlayName::Network { .. } | OverlayName::Deeper, Some(network)) => {
            not_there(name, format!("network {network}"))
        }
    }
}

fn outside_domain(netmap: &Netmap, name: &str, is_whole: bool, is_near: bool) -> Option<Why> {
    if let Some((_, network, zone, _)) = zone_of(netmap, name) {
        return Some(Why::NotThere {
            name: name.to_owned(),
            place: format!("zone {zone} of network {}", network.name),
        });
    }
    if is_whole || name == "localhost" {
        return None;
    }
    match name.split_once('.') {
        None => Some(Why::NotThere {
            name: name.to_owned(),
            place: networks(netmap),
        }),
        Some((label, network)) if netmap.network_named(network).is_some() => Some(Why::NotThere {
            name: label.to_owned(),
            place: format!("network {network}"),
        }),
        Some(_) => is_near.then(|| Why::AnotherDomain {
            name: name.to_owned(),
        }),
    }
}

/// Lists this device's networks, for people.
fn networks(netmap: &Netmap) -> String {
    let mut names: Vec<&str> = netmap.networks.values().map(|it| &*it.name).collect();
    names.sort_unstable();
    let shown = names[..names.len().min(SHOWN_MAX)].join(", ");
    match (names.len(), names.len().saturating_sub(SHOWN_MAX)) {
        (1, _) => format!("network {shown}"),
        (_, 0) => format!("networks {shown}"),
        (_, more) => format!("networks {shown} and {more} more"),
    }
}

/// Finds the whole name of a device or record that was probably meant: one letter is wrong, missing
/// or too many, two are swapped, or the name is in another network or below another domain.
fn near(netmap: &Netmap, name: &str) -> Option<String> {
    let (label, rest) = name.split_once('.').unwrap_or((name, ""));
    let zone = |network: &Network| format!("{}.{}", network.name, netmap.domain);
    let is_of =
        |network: &Network| rest.is_empty() || rest == network.name || rest == zone(network);
    let is_ours = netmap.networks.values().any(is_of);
    let mut networks: Vec<&Network> = netmap.networks.values().collect();
    networks.sort_by_key(|network| !is_of(network));
    let known = networks.into_iter().flat_map(|network| {
        let peers = network.peers.values().map(|peer| &*peer.label);
        let zone = zone(network);
        let records = network.dns.records.keys().filter_map(move |record| {
            let label = record.strip_suffix(&zone)?.strip_suffix('.')?;
            (!label.contains('.')).then_some(label)
        });
        let labels = peers.chain(records).chain([&*network.label]);
        labels.map(move |known| (network, known))
    });
    let mut known = known.take(NEAR_MAX);
    let found = known.find(|(network, known)| {
        if is_of(network) {
            return is_nearly(label, known);
        }
        let is_mistyped = is_nearly(rest, &network.name) || is_nearly(rest, &zone(network));
        let is_elsewhere = rest.split('.').next() == Some(&network.name);
        label == *known && (is_ours || is_mistyped || is_elsewhere)
    });
    found.map(|(network, label)| whole(netmap, network, label))
}

/// Returns true if one edit turns one text into the other.
fn is_nearly(one: &str, other: &str) -> bool {
    let (one, other) = match one.len() <= other.len() {
        true => (one.as_bytes(), other.as_bytes()),
        false => (other.as_bytes(), one.as_bytes()),
    };
    if one.len() < NEAR_MIN || other.len() - one.len() > 1 || one == other {
        return false;
    }
    let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
    let begin = one.iter().zip(other).take_while(same).count();
    let rest = (&one[begin..], &other[begin..]);
    let end = rest
        .0
        .iter()
        .rev()
        .zip(rest.1.iter().rev())
        .take_while(same)
        .count();
    match (&rest.0[..rest.0.len() - end], &rest.1[..rest.1.len() - end]) {
        ([] | [_], [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

/// The number of names that are compared with a mistyped one: some milliseconds of work.
const NEAR_MAX: usize = 4_096;

/// Shortest name, bytes, that counts as mistyped; a shorter one is taken for another name.
const NEAR_MIN: usize = 3;

/// Networks that an error names.
const SHOWN_MAX: usize = 6;

#[cfg(test)]
mod tests;
