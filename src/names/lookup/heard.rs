//! The question to another resolver, and its answer. Decides which records of the answer are
//! believed: those that belong to the question. Sends nothing itself.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::walk::UDP_MAX;
use super::{ALIASES_MAX, DnsTransport, NEGATIVE_TTL, text_of};

/// A question to a resolver.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    name: Name,
    kind: RecordType,
}

/// The verdict on a message that may be the answer.
#[derive(Debug)]
pub(crate) enum Judged {
    /// It is the answer.
    Heard(Box<Heard>),
    /// It is cut short; TCP gives the whole answer.
    Truncated,
    /// The resolver refuses or fails, for this reason in words.
    Failed(String),
    /// It is not the answer, perhaps a forgery: the answer may still come.
    Other,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// The response code: the name exists, or it does not.
    pub(crate) code: ResponseCode,
    /// The aliases, beginning with that of the name, then the records at their end. None may be
    /// kept longer than [`TTL_MAX`].
    pub(crate) records: Vec<Record>,
    /// The end of the aliases, if the answer has no record of it.
    pub(crate) alias: Option<Name>,
    /// The start of authority of the zone in which the name or the type is missing.
    pub(crate) soa: Option<Record>,
    /// Seconds for which it may be kept.
    pub(crate) life: u32,
    /// The message, which a cache keeps for [`Question::recall`].
    pub(crate) wire: Box<[u8]>,
}

impl Heard {
    /// Returns the records before the first name that is not `own`, and the alias that they end
    /// with.
    pub(crate) fn within(&self, own: impl Fn(&Name) -> bool) -> (&[Record], Option<&Name>) {
        let count = self.records.iter().take_while(|record| own(&record.name));
        let (own, others) = self.records.split_at(count.count());
        let other = others.first().map(|record| &record.name);
        (own, other.or(self.alias.as_ref()))
    }
}

impl Question {
    pub(crate) fn new(name: &Name, kind: RecordType) -> Self {
        Self {
            name: name.to_lowercase(),
            kind,
        }
    }

    /// Makes a question from text; `None` if DNS cannot carry the name.
    pub(crate) fn of_text(name: &str, kind: RecordType) -> Option<Self> {
        super::fqdn(name).map(|name| Self::new(&name, kind))
    }

    /// Returns name and type as the key of a cache; `None` for a name with bytes that have no text
    /// of their own, which is never cached.
    pub(crate) fn key(&self) -> Option<(String, u16)> {
        let name = text_of(&self.name);
        (!name.contains('?')).then(|| (name, self.kind.into()))
    }

    /// Writes the message; `None` if DNS cannot carry it.
    pub(crate) fn encode(&self, id: u16, transport: DnsTransport) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        if transport == DnsTransport::Udp {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    /// Judges whether `bytes` are the answer to this question with this `id`.
    pub(crate) fn judge(&self, id: u16, bytes: &[u8]) -> Judged {
        let Some((header, _)) = bytes.split_first_chunk::<4>() else {
            return Judged::Other;
        };
        if header[..2] != id.to_be_bytes() || header[2] & QR == 0 {
            return Judged::Other;
        }
        // A cut message may end in the middle of a record, so it is not parsed.
        if header[2] & TC != 0 {
            return Judged::Truncated;
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return Judged::Failed("its answer cannot be parsed".to_owned());
        };
        let code = message.metadata.response_code;
        let is_answer = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let about_this = match message.queries.as_slice() {
            [asked] => {
                asked.name() == &self.name
                    && asked.query_type() == self.kind
                    && asked.query_class() == DNSClass::IN
            }
            // Some resolvers leave the question out when they refuse it.
            [] => !is_answer,
            _ => false,
        };
        match (about_this, is_answer) {
            (false, _) => Judged::Other,
            (true, false) => Judged::Failed(format!("response code {code}")),
            (true, true) => Judged::Heard(Box::new(self.believe(code, message, bytes))),
        }
    }

    /// Reads the answer to this question from [`Heard::wire`].
    pub(crate) fn recall(&self, wire: &[u8]) -> Option<Heard> {
        let id = wire.first_chunk()?;
        match self.judge(u16::from_be_bytes(*id), wire) {
            Judged::Heard(heard) => Some(*heard),
            Judged::Truncated | Judged::Failed(_) | Judged::Other => None,
        }
    }

    fn believe(&self, code: ResponseCode, message: Message, bytes: &[u8]) -> Heard {
        let is_asked =
            |record: &Record| record.record_type() == self.kind || self.kind == RecordType::ANY;
        let mut records = Vec::new();
        let mut name = self.name.clone();
        let mut is_answered = false;
        for _ in 0..=ALIASES_MAX {
            let here = message
                .answers
                .iter()
                .filter(|record| record.name == name && record.dns_class == DNSClass::IN);
            let found: Vec<&Record> = here.clone().filter(|record| is_asked(record)).collect();
            if !found.is_empty() {
                is_answered = true;
                records.extend(found.into_iter().cloned());
                break;
            }
            let alias = here.clone().find_map(|record| {
                let RData::CNAME(target) = &record.data else {
                    return None;
                };
                Some((record, &target.0))
            });
            let Some((record, target)) = alias else {
                break;
            };
            records.push(record.clone());
            name = target.to_lowercase();
        }
        for record in &mut records {
            record.ttl = record.ttl.min(TTL_MAX);
        }
        let soa = message.authorities.into_iter().find_map(|mut record| {
            let RData::SOA(soa) = &record.data else {
                return None;
            };
            record.ttl = record.ttl.min(soa.minimum).min(TTL_MAX);
            Some(record)
        });
        let shortest = records.iter().map(|record| record.ttl).min();
        let negative = soa.as_ref().map_or(NEGATIVE_TTL, |soa| soa.ttl);
        // "No such name" is about the end of the aliases, which may be a name that this resolver
        // does not know.
        let is_alias = !is_answered && name != self.name;
        Heard {
            code,
            life: match is_answered {
                true => shortest.unwrap_or(0),
                false => shortest.unwrap_or(TTL_MAX).min(negative),
            },
            alias: is_alias.then_some(name),
            soa: soa.filter(|_| !is_answered),
            records,
            wire: bytes.into(),
        }
    }
}

const QR: u8 = 0x80;
const TC: u8 = 0x02;

/// Longest time for which an answer of another resolver is kept here and by programs, seconds: a
/// host with a new address is found again within minutes, whatever its zone allows.
pub(crate) const TTL_MAX: u32 = 300;

#[cfg(test)]
mod tests;
