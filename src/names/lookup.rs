//! Decides what a name is to us: one of our own networks, with what it has; one that the resolvers
//! of a zone answer for; or none of ours. Holds no cache and asks nobody: `dns/walk.rs` makes
//! answers of it, and `dns/resolver.rs` asks.
//!
//! The zones are the domain, each network below it, the private zones of the networks, and the
//! reverse zones of the overlay's address ranges. Whether a peer is online does not matter here: a
//! name that comes and goes with a connection would be cached as missing.
//!
//! ```text
//! query ── walk ── ours ──────────────────────────────────────────────┐
//!            │                                                         ├──> answer
//!            └─ a zone with resolvers, or a foreign name with --dns-forward ── cache ── resolver ── one after the other
//! ```

pub(crate) mod cache;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod heard;
pub(crate) mod records;
pub(crate) mod reverse;
pub(crate) mod walk;

use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{Name, RData, RecordType};
use overlan_protocol::address;
use overlan_protocol::netmap::Netmap;

use super::{ALIASES_MAX, Delegation, Meaning, OwnName};

/// The way on which a query arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; the answer must fit what the client takes.
    Udp,
    /// A stream of messages with lengths.
    Tcp,
}

/// The resolvers that are asked for names that are not ours to answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolvers {
    /// Those of a zone, inside the overlay.
    Zone(Delegation),
    /// Those that this device hands foreign names on to.
    Forward,
}

/// The answer of DNS about a name.
pub(crate) enum Found {
    /// In none of our zones.
    Foreign,
    /// In a zone that other resolvers answer for.
    Delegated(Delegation),
    /// In this zone, but there is no such name.
    Missing { zone: Name },
    /// A name of this zone with what it has; nothing, if there are only names below it.
    Node { zone: Name, records: Vec<RData> },
}

fn find(name: &Name, netmap: &Netmap) -> Found {
    let text = text_of(name);
    match Meaning::of(netmap, &text) {
        Meaning::Ours(own) => of_ours(&own, &text, netmap),
        Meaning::NoNetwork => of_domain(&text, netmap),
        Meaning::Delegated(zone) => Some(Found::Delegated(zone)),
        Meaning::Foreign => reverse::find(&text, netmap),
    }
    .unwrap_or(Found::Foreign)
}

/// The name in lower case. A byte that no name of ours has, such as a dot inside a label, becomes
/// one that none has either.
pub(crate) fn text_of(name: &Name) -> String {
    let labels: Vec<String> = name
        .iter()
        .map(|label| {
            let text = label.iter().map(|byte| match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'A'..=b'Z' => {
                    char::from(byte.to_ascii_lowercase())
                }
                _ => '?',
            });
            text.collect()
        })
        .collect();
    labels.join(".")
}

/// Says what a network has under a name; `None` if DNS cannot carry the name of its zone.
fn of_ours(own: &OwnName<'_>, text: &str, netmap: &Netmap) -> Option<Found> {
    let zone = match own.zone {
        Some(zone) => zone.to_owned(),
        None => format!("{}.{}", own.members.name, netmap.domain),
    };
    let is_top = text == zone;
    let zone = fqdn(&zone)?;
    let known = records::of(text, own.members);
    if is_top {
        let mut found = apex(zone, netmap.version);
        if let Found::Node { records, .. } = &mut found {
            records.extend(known.unwrap_or_default());
        }
        return Some(found);
    }
    Some(match (own.device, known) {
        (Some(device), known) => {
            let mut records = addresses(device.host);
            // A device that came later keeps its name from an alias of that name.
            records.extend(known.unwrap_or_default().into_iter().filter(|data| {
                !matches!(
                    data.record_type(),
                    RecordType::A | RecordType::AAAA | RecordType::CNAME
                )
            }));
            Found::Node { zone, records }
        }
        (None, Some(records)) => Found::Node { zone, records },
        (None, None) => Found::Missing { zone },
    })
}

/// Says what our domain has outside its networks; `None` if DNS cannot carry its name.
fn of_domain(text: &str, netmap: &Netmap) -> Option<Found> {
    let zone = fqdn(&netmap.domain)?;
    Some(match text == netmap.domain {
        true => apex(zone, netmap.version),
        false => Found::Missing { zone },
    })
}

fn addresses(host: u32) -> Vec<RData> {
    let v4 = address::v4(host).map(|v4| RData::A(A(v4)));
    let v6 = address::v6(host).map(|v6| RData::AAAA(AAAA(v6)));
    v4.into_iter().chain(v6).collect()
}

/// The top of a zone: its start of authority and its name server, which is the zone itself, since
/// the server has no name.
fn apex(zone: Name, version: u64) -> Found {
    let records = vec![soa(&zone, version), RData::NS(NS(zone.clone()))];
    Found::Node { zone, records }
}

fn soa(zone: &Name, version: u64) -> RData {
    let contact = zone
        .prepend_label("hostmaster")
        .unwrap_or_else(|_| zone.clone());
    // A serial number is 32 bits wide and may wrap (RFC 1982).
    let serial = (version & u64::from(u32::MAX)) as u32;
    RData::SOA(SOA::new(
        zone.clone(),
        contact,
        serial,
        SOA_REFRESH,
        SOA_RETRY,
        SOA_EXPIRE,
        NEGATIVE_TTL,
    ))
}

/// The absolute name; `None` if DNS cannot carry it.
fn fqdn(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Seconds that an answer may be kept. A device that moves to another address is found soon.
const TTL: u32 = 5;

/// Seconds that "no such name" may be kept. A device that joins is found soon.
const NEGATIVE_TTL: u32 = 5;

/// For secondary servers, which do not exist; seconds, as customary for small zones.
const SOA_REFRESH: i32 = 3600;
const SOA_RETRY: i32 = 600;
const SOA_EXPIRE: i32 = 86_400;

#[cfg(test)]
pub(crate) mod tests;
