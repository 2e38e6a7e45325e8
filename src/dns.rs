//! Decides what the resolver answers: the names and addresses of our own networks, and nothing else. Holds no cache, asks
//! nobody, and leaves sockets to the shell in `dns/serve.rs`.
//!
//! The zones are the domain, each network below it, the private zones of the networks, and the reverse zones of the overlay's
//! address ranges. Whether a peer is
//! online does not matter here: a name that comes and goes with a connection would be cached as missing.

pub mod client;
pub mod explain;
mod records;
mod serve;

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use overlan_protocol::address;
use overlan_protocol::dns::is_in;
use overlan_protocol::name::OverlayName;
use overlan_protocol::netmap::{Netmap, Network};

use crate::names;

pub use serve::serve;

/// How a query arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; the answer must fit what the client takes.
    Udp,
    /// A stream of messages with lengths.
    Tcp,
}

/// The answer to one message, or `None` where silence is the only safe one: a message too short to have a header, and
/// anything that is itself an answer.
#[must_use]
pub fn answer(query: &[u8], netmap: &Netmap, transport: Transport) -> Option<Vec<u8>> {
    let header = RawHeader::read(query)?;
    if header.is_response() {
        return None;
    }
    if header.opcode() != 0 {
        return Some(header.refusal(ResponseCode::NotImp));
    }
    // Before the message is taken apart, so that its counts cost nothing.
    if header.questions() != 1 {
        return Some(header.refusal(ResponseCode::FormErr));
    }
    let Ok(query) = Message::from_vec(query) else {
        return Some(header.refusal(ResponseCode::FormErr));
    };
    let [question] = query.queries.as_slice() else {
        return Some(header.refusal(ResponseCode::FormErr));
    };
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.add_query(question.clone());
    let mut limit = UDP_MIN;
    let mut version = 0;
    if let Some(asked) = &query.edns {
        limit = asked.max_payload().clamp(UDP_MIN, UDP_MAX);
        version = asked.version();
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX);
        reply.set_edns(edns);
    }
    if version == 0 {
        fill(&mut reply, question, netmap);
    } else {
        reply.metadata.response_code = ResponseCode::BADVERS;
    }
    let bytes = match reply.to_vec() {
        Ok(bytes) if transport == Transport::Tcp || bytes.len() <= usize::from(limit) => bytes,
        Ok(_) => reply.truncate().to_vec().ok()?,
        Err(_) => header.refusal(ResponseCode::ServFail),
    };
    Some(bytes)
}

fn fill(reply: &mut Message, question: &Query, netmap: &Netmap) {
    let refused = question.query_class() != DNSClass::IN
        || matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    let wanted = question.query_type();
    // The name as it was asked for: some resolvers tell answers from forgeries by its case.
    let mut name = question.name().clone();
    for step in 0..=ALIASES_MAX {
        let found = if refused {
            Found::Foreign
        } else {
            find(&name, netmap)
        };
        let (zone, records) = match found {
            // The end of an alias that leads out of our zones is for the client to ask elsewhere.
            Found::Foreign if step > 0 => return,
            Found::Foreign => {
                reply.metadata.response_code = ResponseCode::Refused;
                return;
            }
            Found::Missing { zone } => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                (zone, Vec::new())
            }
            Found::Node { zone, records } => (zone, records),
        };
        reply.metadata.authoritative = true;
        let mut alias = None;
        let mut is_answered = false;
        for data in records {
            if wanted == RecordType::ANY || wanted == data.record_type() {
                is_answered = true;
            } else if let RData::CNAME(target) = &data {
                alias = Some(target.0.clone());
            } else {
                continue;
            }
            reply.add_answer(Record::from_rdata(name.clone(), TTL, data));
        }
        match alias {
            Some(_) if step == ALIASES_MAX => {
                reply.answers.clear();
                reply.metadata.response_code = ResponseCode::ServFail;
            }
            Some(target) => name = target,
            None => {
                if !is_answered {
                    let soa = soa(&zone, netmap.version);
                    reply.add_authority(Record::from_rdata(zone, NEGATIVE_TTL, soa));
                }
                return;
            }
        }
    }
}

/// What a name is to us.
enum Found {
    /// In none of our zones.
    Foreign,
    /// In this zone, but there is no such name.
    Missing { zone: Name },
    /// A name of this zone with what it has; nothing, if there are only names below it.
    Node { zone: Name, records: Vec<RData> },
}

fn find(name: &Name, netmap: &Netmap) -> Found {
    let text = text_of(name);
    match OverlayName::parse(&text, &netmap.domain) {
        Some(inside) => find_forward(&inside, &text, netmap).unwrap_or(Found::Foreign),
        None => find_private(&text, netmap)
            .or_else(|| find_reverse(&text, netmap))
            .unwrap_or(Found::Foreign),
    }
}

/// The name in lower case. A byte that no name of ours has, such as a dot inside a label, becomes one that none has either.
fn text_of(name: &Name) -> String {
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

/// `None` if the domain is not one that DNS can carry.
fn find_forward(name: &OverlayName<'_>, text: &str, netmap: &Netmap) -> Option<Found> {
    let domain = fqdn(&netmap.domain)?;
    let network_zone = |label: &str| fqdn(&format!("{label}.{}", netmap.domain));
    Some(match name {
        OverlayName::Domain => apex(domain, netmap.version),
        OverlayName::Network { network } => match netmap.network_named(network) {
            Some((_, members)) => {
                let mut found = apex(network_zone(network)?, netmap.version);
                if let Found::Node { records, .. } = &mut found {
                    records.extend(records::of(text, members).unwrap_or_default());
                }
                found
            }
            None => Found::Missing { zone: domain },
        },
        OverlayName::Host { host, network } => match netmap.network_named(network) {
            Some((id, members)) => {
                let zone = network_zone(network)?;
                let own = records::of(text, members);
                match (names::device_named(id, members, host), own) {
                    (Some(device), own) => {
                        let mut records = addresses(device.host);
                        // A device that came later keeps its name from an alias of that name.
                        let own = own.unwrap_or_default().into_iter();
                        records.extend(own.filter(|data| {
                            !matches!(
                                data.record_type(),
                                RecordType::A | RecordType::AAAA | RecordType::CNAME
                            )
                        }));
                        Found::Node { zone, records }
                    }
                    (None, Some(records)) => Found::Node { zone, records },
                    (None, None) => Found::Missing { zone },
                }
            }
            None => Found::Missing { zone: domain },
        },
        OverlayName::Deeper => {
            let inside = netmap.networks.values().find_map(|members| {
                let zone = format!("{}.{}", members.name, netmap.domain);
                is_in(text, &zone).then_some((members, zone))
            });
            match inside {
                Some((members, zone)) => {
                    let zone = fqdn(&zone)?;
                    match records::of(text, members) {
                        Some(records) => Found::Node { zone, records },
                        None => Found::Missing { zone },
                    }
                }
                None => Found::Missing { zone: domain },
            }
        }
    })
}

/// `None` if the name is in no private zone, or in one whose names live elsewhere.
fn find_private(text: &str, netmap: &Netmap) -> Option<Found> {
    let (_, network, zone, settings) = names::zone_of(netmap, text)?;
    if !settings.via.is_empty() {
        return None;
    }
    let name = fqdn(zone)?;
    let known = records::of(text, network);
    if text != zone {
        return Some(match known {
            Some(records) => Found::Node {
                zone: name,
                records,
            },
            None => Found::Missing { zone: name },
        });
    }
    let mut found = apex(name, netmap.version);
    if let Found::Node { records, .. } = &mut found {
        records.extend(known.unwrap_or_default());
    }
    Some(found)
}

/// `None` if the name is in no reverse zone of ours.
fn find_reverse(text: &str, netmap: &Netmap) -> Option<Found> {
    let (labels, family) = if let Some(labels) = text.strip_suffix(".in-addr.arpa") {
        (labels, Family::V4)
    } else {
        (text.strip_suffix(".ip6.arpa")?, Family::V6)
    };
    // From the top of the tree down, as an address is written.
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
        // There may be names below. "No such name" would deny them all (RFC 8020).
        return Some(Found::Node {
            zone,
            records: Vec::new(),
        });
    }
    let device_names: Vec<RData> = (labels.len() == whole)
        .then(|| family.address(&labels))
        .flatten()
        .and_then(address::host_index)
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

/// The names of all devices that have this host index, network by network.
fn pointers(host: u32, netmap: &Netmap) -> Vec<RData> {
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

fn label_of(network: &Network, host: u32) -> Option<&str> {
    if network.host == host {
        return Some(&network.label);
    }
    network.peers.get(&host).map(|peer| peer.label.as_str())
}

fn addresses(host: u32) -> Vec<RData> {
    let v4 = address::v4(host).map(|v4| RData::A(A(v4)));
    let v6 = address::v6(host).map(|v6| RData::AAAA(AAAA(v6)));
    v4.into_iter().chain(v6).collect()
}

/// The top of a zone: its start of authority and its name server, which is the zone itself, since the server has no name.
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

/// The two reverse trees.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Labels of a whole address.
    fn labels(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 32,
        }
    }

    /// Labels of a zone: the prefix, to the next full label.
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

    /// The address with these labels, most significant first; `None` if a label is no part of one.
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

    /// The name of the zone with these labels, most significant first.
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

/// The fixed part of a message, for answers to those that cannot be read further.
struct RawHeader {
    id: [u8; 2],
    flags: u8,
    questions: u16,
}

impl RawHeader {
    /// `None` if the message is too short to say even whether it is a query.
    fn read(message: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = message.first_chunk()?;
        Some(Self {
            id: [header[0], header[1]],
            flags: header[2],
            questions: u16::from_be_bytes([header[4], header[5]]),
        })
    }

    fn is_response(&self) -> bool {
        self.flags & QR != 0
    }

    fn opcode(&self) -> u8 {
        self.flags & OPCODE
    }

    fn questions(&self) -> u16 {
        self.questions
    }

    /// A header alone, with the operation and the "recursion desired" bit of the query.
    fn refusal(&self, code: ResponseCode) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..2].copy_from_slice(&self.id);
        bytes[2] = QR | self.flags & (OPCODE | RD);
        bytes[3] = code.low();
        bytes
    }
}

const HEADER_LEN: usize = 12;
const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RD: u8 = 0x01;

/// Seconds that an answer may be kept. A device that moves to another address is found soon.
const TTL: u32 = 5;

/// Seconds that "no such name" may be kept. A device that joins is found soon.
const NEGATIVE_TTL: u32 = 5;

/// For secondary servers, which do not exist; seconds, as customary for small zones.
const SOA_REFRESH: i32 = 3600;
const SOA_RETRY: i32 = 600;
const SOA_EXPIRE: i32 = 86_400;

/// Aliases that are followed for one query; longer chains, and those in a circle, are an error (SERVFAIL).
const ALIASES_MAX: usize = 8;

/// Bytes of a UDP answer that every client takes (RFC 1035).
const UDP_MIN: u16 = 512;

/// Bytes of a UDP message that pass every path in one piece (DNS flag day 2020): what we advertise, and the most we send.
const UDP_MAX: u16 = 1232;

#[cfg(test)]
mod tests;
