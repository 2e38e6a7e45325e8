//! Explains to a person what the resolver answers to a question, and by which rule. Answers nothing
//! itself.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use overlan_protocol::dns::is_in;
use overlan_protocol::netmap::Netmap;
use serde::{Deserialize, Serialize};

use super::resolver::AskedResolver;
use crate::names::Meaning;
use crate::names::lookup::{DnsTransport, Resolvers, reverse};

/// The resolver's answer to a question, and the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The name that was asked for, in lower case.
    pub name: String,
    /// The type that was asked for, such as `A`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The response code, such as `NOERROR` or `NXDOMAIN`.
    pub code: String,
    /// The rule that answered.
    pub rule: Rule,
    /// The records of the answer, a line each: name, seconds to live, class, type, value.
    pub answers: Vec<String>,
    /// True if the answer of other resolvers was in the cache.
    #[serde(default)]
    pub cached: bool,
    /// Resolvers that did not answer, each with the reason.
    #[serde(default)]
    pub errors: Vec<String>,
}

/// The rule that answers for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Rule {
    /// A device of this network has the name.
    Device {
        /// Label of the network.
        network: String,
    },
    /// A record of this network.
    Record {
        /// Label of the network.
        network: String,
    },
    /// The name lies in this zone, which has nothing by that name.
    Zone {
        /// The zone's name.
        zone: String,
    },
    /// The name lies in a zone that resolvers inside the overlay answer for.
    Resolvers {
        /// The zone's name.
        zone: String,
        /// Label of its network.
        network: String,
        /// The resolver that answered, such as `db:53`; none if nobody did.
        resolver: Option<String>,
    },
    /// The name is handed on by `--dns-forward`.
    Forward {
        /// The resolver that answered; none if nobody did.
        resolver: Option<String>,
    },
    /// An address of the overlay, asked for backwards.
    Reverse,
    /// No rule: the resolver refuses, so that the system asks another one.
    Outside,
}

/// The reason why a question cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// DNS cannot carry the name.
    #[error("{0:?} is not a valid name: labels have 1 to 63 bytes, the whole name up to 255")]
    Name(String),
    /// It is short for several full names.
    #[error("{0}")]
    Several(String),
    /// There is no such type of record.
    #[error(
        "{0:?} is not a known type of record; ask for A, AAAA, CNAME, TXT, SRV, PTR, SOA or NS"
    )]
    Kind(String),
}

/// The message that a program would send, and what it is about.
#[derive(Debug)]
pub(crate) struct ExplainedQuestion {
    /// The query, as it goes over the wire.
    pub(crate) query: Vec<u8>,
    name: String,
    kind: RecordType,
}

impl ExplainedQuestion {
    /// Makes the query for the records of type `kind` of `name`.
    ///
    /// # Errors
    /// See [`NoQuestion`].
    pub(crate) fn new(name: &str, kind: &str) -> Result<Self, NoQuestion> {
        let no_name = || NoQuestion::Name(name.to_owned());
        let mut asked = Name::from_ascii(name).map_err(|_| no_name())?;
        asked.set_fqdn(true);
        let kind: RecordType = kind
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| NoQuestion::Kind(kind.to_owned()))?;
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(asked, kind));
        Ok(Self {
            query: question.to_vec().map_err(|_| no_name())?,
            name: name.trim_end_matches('.').to_ascii_lowercase(),
            kind,
        })
    }

    /// The transport of the question: over TCP, no answer is cut to fit a datagram.
    pub(crate) const TRANSPORT: DnsTransport = DnsTransport::Tcp;

    /// Explains the resolver's answer.
    ///
    /// # Errors
    /// [`NoQuestion::Name`] if there is none.
    pub(super) fn explain(
        self,
        reply: &[u8],
        asked: &[AskedResolver],
        netmap: &Netmap,
    ) -> Result<Explained, NoQuestion> {
        let reply = Message::from_vec(reply).map_err(|_| NoQuestion::Name(self.name.clone()))?;
        let errors = asked.iter().flat_map(|asked| asked.errors.iter().cloned());
        Ok(Explained {
            rule: rule(&self.name, netmap, asked.first()),
            name: self.name,
            kind: self.kind.to_string(),
            code: code(&reply),
            answers: reply.answers.iter().map(shown).collect(),
            cached: !asked.is_empty() && asked.iter().all(|asked| asked.cached),
            errors: errors.collect(),
        })
    }
}

fn rule(name: &str, netmap: &Netmap, asked: Option<&AskedResolver>) -> Rule {
    let network_of = |id| netmap.networks.get(id).map(|it| it.name.clone());
    match (Meaning::of(netmap, name), asked) {
        (Meaning::Ours(own), _) => {
            let network = own.members.name.clone();
            if own.device.is_some() {
                Rule::Device { network }
            } else if own.members.dns.records.contains_key(name) {
                Rule::Record { network }
            } else {
                let zone = match own.zone {
                    Some(zone) => zone.to_owned(),
                    None => format!("{network}.{}", netmap.domain),
                };
                Rule::Zone { zone }
            }
        }
        (Meaning::Former(former), _) => Rule::Record {
            network: former.members.name.clone(),
        },
        (Meaning::NoNetwork, _) => Rule::Zone {
            zone: netmap.domain.clone(),
        },
        (Meaning::Delegated(zone), asked) => Rule::Resolvers {
            network: network_of(&zone.network).unwrap_or_default(),
            zone: zone.zone,
            resolver: asked.and_then(|asked| asked.by.clone()),
        },
        (Meaning::Foreign, Some(asked)) if asked.source == Resolvers::Forward => Rule::Forward {
            resolver: asked.by.clone(),
        },
        (Meaning::Foreign, _) => match reverse::find(name, netmap) {
            Some(_) if is_in(name, "arpa") => Rule::Reverse,
            Some(_) | None => Rule::Outside,
        },
    }
}

/// Formats a record as dig prints it.
fn shown(record: &Record) -> String {
    let strings: Vec<&[u8]> = if let RData::TXT(text) = &record.data {
        text.txt_data.iter().map(|string| &**string).collect()
    } else if let RData::HINFO(host) = &record.data {
        vec![&host.cpu, &host.os]
    } else {
        return record.to_string();
    };
    let quoted: Vec<String> = strings.into_iter().map(quoted).collect();
    let (name, kind) = (&record.name, record.record_type());
    format!(
        "{name} {} {} {kind} {}",
        record.ttl,
        record.dns_class,
        quoted.join(" ")
    )
}

/// Formats a character string as in a master file (RFC 1035, section 5.1): a byte that is not
/// printable ASCII is three decimal digits.
fn quoted(string: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in string {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
    text.push('"');
    text
}

/// Returns the response code as dig writes it.
fn code(reply: &Message) -> String {
    const NAMES: [(ResponseCode, &str); 4] = [
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::NoError, "NOERROR"),
        (ResponseCode::NXDomain, "NXDOMAIN"),
        (ResponseCode::Refused, "REFUSED"),
    ];
    let code = reply.metadata.response_code;
    let known = NAMES.iter().find(|(known, _)| *known == code);
    known.map_or_else(|| code.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests;
