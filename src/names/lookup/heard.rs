//! Decides how another resolver is asked, and what of its answer is believed: what belongs to the
//! question, and no more. Asks nobody itself.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::walk::UDP_MAX;
use super::{ALIASES_MAX, NEGATIVE_TTL, Transport, text_of};

/// A question to a resolver.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    name: Name,
    kind: RecordType,
}

/// The judgement on the bytes that came back.
#[derive(Debug)]
pub(crate) enum Judged {
    /// The answer.
    Heard(Box<Heard>),
    /// There is more of it over TCP.
    Truncated,
    /// The resolver does not answer this, for a reason in words.
    Failed(String),
    /// Something else, maybe of somebody who guesses: the answer may still come.
    Other,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// There is such a name, or there is none.
    pub(crate) code: ResponseCode,
    /// Aliases from the name on, then what was asked for at their end. None lives longer than
    /// [`TTL_MAX`].
    pub(crate) records: Vec<Record>,
    /// The end of the aliases, if nothing is said of it.
    pub(crate) alias: Option<Name>,
    /// The start of the zone that has nothing.
    pub(crate) soa: Option<Record>,
    /// Seconds for which it may be kept.
    pub(crate) life: u32,
    /// The message, for a cache: [`Question::recall`].
    pub(crate) wire: Box<[u8]>,
}

impl Heard {
    /// The records before the first name that is not `own`, and the alias that they leave open.
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

    /// The same, from text; `None` if DNS cannot carry the name.
    pub(crate) fn of_text(name: &str, kind: RecordType) -> Option<Self> {
        super::fqdn(name).map(|name| Self::new(&name, kind))
    }

    /// Name and type, for a cache. Names that differ in odd bytes only are the same to nobody: they
    /// are in no cache.
    pub(crate) fn key(&self) -> Option<(String, u16)> {
        let name = text_of(&self.name);
        (!name.contains('?')).then(|| (name, self.kind.into()))
    }

    /// The message; `None` if DNS cannot carry it.
    pub(crate) fn encode(&self, id: u16, transport: Transport) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        if transport == Transport::Udp {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    /// Returns what `bytes` say to this question with this `id`.
    pub(crate) fn judge(&self, id: u16, bytes: &[u8]) -> Judged {
        let Some((header, _)) = bytes.split_first_chunk::<4>() else {
            return Judged::Other;
        };
        if header[..2] != id.to_be_bytes() || header[2] & QR == 0 {
            return Judged::Other;
        }
        // What was cut may be cut anywhere.
        if header[2] & TC != 0 {
            return Judged::Truncated;
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return Judged::Failed("an answer that is not understood".to_owned());
        };
        let code = message.metadata.response_code;
        let is_answer = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let about_this = match message.queries.as_slice() {
            [asked] => {
                asked.name() == &self.name
                    && asked.query_type() == self.kind
                    && asked.query_class() == DNSClass::IN
            }
            // Some leave the question out where they refuse it.
            [] => !is_answer,
            _ => false,
        };
        match (about_this, is_answer) {
            (false, _) => Judged::Other,
            (true, false) => Judged::Failed(format!("response code {code}")),
            (true, true) => Judged::Heard(Box::new(self.believe(code, message, bytes))),
        }
    }

    /// Returns what [`Heard::wire`] said to this question.
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
        // "No such name" is said of the end of the aliases, which may be nothing that this resolver
        // knows.
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

/// Longest time that an answer of others is kept and may be kept, seconds: a host that moves is
/// found in minutes, whatever its zone says.
pub(crate) const TTL_MAX: u32 = 300;

#[cfg(test)]
mod tests;
