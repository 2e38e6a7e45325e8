//! Short names: `db` and `db.prod` for `db.prod.overlan.internal`. Decides the whole name for every
//! door and every command; but not for DNS messages, where a network called dev would then answer
//! for a public `web.dev`.

use std::fmt;

use overlan_protocol::dns;
use overlan_protocol::gateway::Host;
use overlan_protocol::netmap::{Netmap, Network};

use super::{
    AliasEnd, Destination, Missing, NameError, Resolved, Way, device_named, is_host_name, way::way,
    zone_of,
};

/// A short name that several networks have, for different devices or records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Several {
    /// The name that was asked for.
    label: String,
    /// All whole names, by network.
    names: Vec<String>,
}

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, names } = self;
        let shown = names[..names.len().min(SHOWN_MAX)].join(" or ");
        write!(
            f,
            "{label:?} is in several networks; give the full name: {shown}"
        )?;
        match names.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, ", or one of {more} more"),
        }
    }
}

/// Returns the whole name that `text` means, in lower case without the last dot. A name that is
/// whole stays as it is, and so does a name that no network of this device has: it may be foreign.
///
/// A name is whole if it ends with the dot of the root, if it is below our domain or in a private
/// zone, or if a gateway has a route to it: a record or route of an admin keeps its meaning when a
/// device takes the label. `localhost` is this host (RFC 6761).
///
/// # Errors
/// [`NameError::Unknown`] if the text is not written like a name, [`NameError::AmbiguousName`].
pub(crate) fn whole_name(netmap: &Netmap, text: &str) -> Result<String, NameError> {
    if !is_host_name(text) {
        return Err(NameError::Unknown);
    }
    let name = text.to_ascii_lowercase();
    if let Some(whole) = name.strip_suffix('.') {
        return Ok(whole.to_owned());
    }
    if name == "localhost" || dns::is_in(&name, &netmap.domain) || zone_of(netmap, &name).is_some()
    {
        return Ok(name);
    }
    let mut candidates = candidates(netmap, &name);
    match candidates.len() {
        0 => Ok(name),
        _ if is_gateway_host(netmap, &name) => Ok(name),
        1 => Ok(candidates.remove(0)),
        _ if is_one_device(netmap, &candidates) => Ok(candidates.remove(0)),
        _ => Err(NameError::AmbiguousName(Box::new(Several {
            label: name,
            names: candidates,
        }))),
    }
}

/// Returns the destination that a person means by a name, in full; `text` is not an address.
///
/// # Errors
/// [`NameError::AmbiguousName`], and [`NameError::Missing`] for a short name that nothing has.
pub(crate) fn find(netmap: &Netmap, text: &str) -> Result<Destination, NameError> {
    let destination = match whole_name(netmap, text) {
        Ok(whole) if !text.ends_with('.') => Destination::Name(whole),
        Ok(_) | Err(NameError::Unknown) => Destination::Name(text.to_owned()),
        Err(error) => return Err(error),
    };
    let is_short = text.split('.').count() <= 2 && !text.ends_with('.');
    if is_short && matches!(way(netmap, &destination, None), Ok(Way::Foreign(_))) {
        // A foreign host is refused by the dial, which knows the words for it.
        if let Some(missing) = Missing::of(netmap, text) {
            return Err(NameError::Missing(Box::new(missing)));
        }
    }
    Ok(destination)
}

/// Returns true for a destination that is written as a short name, whether or not anything has it:
/// one label, or a label and a network of this device.
pub(crate) fn is_short(netmap: &Netmap, destination: &Destination) -> bool {
    let Destination::Name(name) = destination else {
        return false;
    };
    let name = name.to_ascii_lowercase();
    match name.split_once('.') {
        None => name != "localhost",
        Some((_, network)) => netmap.network_named(network).is_some(),
    }
}

/// Lists the whole names that the short `name` may mean, in the order of the networks' names.
fn candidates(netmap: &Netmap, name: &str) -> Vec<String> {
    let (label, network) = match name.split_once('.') {
        Some((_, network)) if network.contains('.') => return Vec::new(),
        Some((label, network)) => (label, Some(network)),
        None => (name, None),
    };
    let mut networks: Vec<_> = netmap
        .networks
        .iter()
        .filter(|(_, it)| network.is_none_or(|network| it.is_called(network)))
        .collect();
    networks.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    let named = networks.into_iter().filter_map(|(id, members)| {
        let whole = whole(netmap, members, label);
        let known =
            device_named(*id, members, label).is_some() || members.dns.records.contains_key(&whole);
        known.then_some(whole)
    });
    named.collect()
}

/// Joins a label of a network to its whole name.
pub(crate) fn whole(netmap: &Netmap, network: &Network, label: &str) -> String {
    format!("{label}.{}.{}", network.name, netmap.domain)
}

/// Returns true if all these whole names mean this device, or peers with one and the same key. Then
/// any of them will do, and the first one is taken.
fn is_one_device(netmap: &Netmap, names: &[String]) -> bool {
    let key = |device: Resolved| {
        let members = netmap.networks.get(&device.network);
        let peer = members.and_then(|members| members.peers.get(&device.host));
        (device.own, peer.map(|peer| peer.identity))
    };
    let mut keys = names.iter().map(|name| match AliasEnd::of(netmap, name) {
        AliasEnd::Device(device) => Some(key(device)),
        AliasEnd::Addresses(_)
        | AliasEnd::Delegated(..)
        | AliasEnd::Foreign(_)
        | AliasEnd::Nothing => None,
    });
    match keys.next().flatten() {
        Some(first) => keys.all(|key| key == Some(first)),
        None => false,
    }
}

/// Returns true if a gateway has a route to that very name.
fn is_gateway_host(netmap: &Netmap, name: &str) -> bool {
    let peers = netmap.networks.values().flat_map(|it| it.peers.values());
    peers
        .flat_map(|peer| &peer.routes)
        .any(|route| route.covers_host(Host::Name(name)))
}

/// The number of whole names that an error shows, of which a person picks one.
const SHOWN_MAX: usize = 6;

#[cfg(test)]
mod tests;
