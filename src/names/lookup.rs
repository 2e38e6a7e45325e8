//! The DNS records of a name: those of our own networks, or a delegated zone, or none because the
//! name is foreign. Decides what exists; holds no cache and asks no resolver. `lookup/walk.rs`
//! makes messages of it, and `doors/dns/resolver.rs` asks others.
//!
//! The zones are the domain, each network below it, the private zones of the networks, and the
//! reverse zones of the overlay's address ranges. A peer that is offline keeps its name: resolvers
//! would cache a name that comes and goes as missing.
//!
//! ```text
//! query ── walk ── ours ──────────────────────────────────────────────────┐
//!            │                                                             ├──> answer
//!            └─ delegated, or foreign with --dns-forward ── cache ── resolver, each in turn
//! ```

pub(crate) mod cache;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod heard;
pub(crate) mod records;
pub(crate) mod reverse;
pub(crate) mod walk;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA};
use hickory_proto::rr::{Name, RData, RecordType};
use overlan_protocol::HostIndex;
use overlan_protocol::netmap::Netmap;

use super::{ALIASES_MAX, Delegation, Meaning, OwnName};

/// The transport by which a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsTransport {
    /// One datagram; the answer must not be larger than the client accepts.
    Udp,
    /// A stream, in which each message has its length before it.
    Tcp,
}

/// The resolvers that answer for names that are not ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolvers {
    /// Those of a zone, inside the overlay.
    Zone(Delegation),
    /// Those to which this device forwards foreign names.
    Forward,
}

/// The records of a name, or the reason why there are none.
pub(crate) enum Found {
    /// The name is in none of our zones.
    Foreign,
    /// The name is in a zone for which other resolvers answer.
    Delegated(Delegation),
    /// The name would be in this zone, and does not exist.
    Missing { zone: Name },
    /// The name is in this zone and has these records; none, if only names below it exist.
    Node { zone: Name, records: Vec<RData> },
}

fn find(name: &Name, netmap: &Netmap) -> Found {
    let text = text_of(name);
    match Meaning::of(netmap, &text) {
        Meaning::Ours(own) => of_ours(&own, &text, netmap),
        Meaning::NoNetwork => of_domain(&text, netmap),
        Meaning::Former(former) => of_former(&former.alias_of, netmap),
        Meaning::Delegated(zone) => Some(Found::Delegated(zone)),
        Meaning::Foreign => reverse::find(&text, netmap),
    }
    .unwrap_or(Found::Foreign)
}

/// Returns the name in lower case. A byte that our names cannot have, such as a dot inside a label,
/// becomes another such byte, so that the text never equals a name of ours.
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

/// Lists the records of a name of ours; `None` if DNS cannot carry the name of its zone.
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
            // The device has the name, so an alias of the same name does not count.
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

/// Looks a name up that is below our domain and in none of its networks; `None` if DNS cannot carry
/// the domain.
fn of_domain(text: &str, netmap: &Netmap) -> Option<Found> {
    let zone = fqdn(&netmap.domain)?;
    Some(match text == netmap.domain {
        true => apex(zone, netmap.version),
        false => Found::Missing { zone },
    })
}

/// Makes the alias of a name that is written with an old name of its network; `None` if DNS cannot
/// carry it.
fn of_former(alias_of: &str, netmap: &Netmap) -> Option<Found> {
    let alias = RData::CNAME(CNAME(fqdn(alias_of)?));
    Some(Found::Node {
        zone: fqdn(&netmap.domain)?,
        records: vec![alias],
    })
}

fn addresses(host: HostIndex) -> Vec<RData> {
    vec![RData::A(A(host.v4())), RData::AAAA(AAAA(host.v6()))]
}

/// Makes the records at the top of a zone: its start of authority, and its name server, which is
/// the zone itself because the server has no name.
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

/// Makes an absolute name; `None` if DNS cannot carry it.
fn fqdn(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Seconds for which an answer may be cached: after a device got another address, it is found again
/// so soon.
const TTL: u32 = 5;

/// Seconds for which "no such name" may be cached: a new device is found so soon.
const NEGATIVE_TTL: u32 = 5;

/// Seconds, as customary for small zones. They are for secondary servers, and we have none.
const SOA_REFRESH: i32 = 3600;
const SOA_RETRY: i32 = 600;
const SOA_EXPIRE: i32 = 86_400;

#[cfg(test)]
pub(crate) mod tests;
