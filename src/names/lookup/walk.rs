//! One DNS query on its way to the answer, step by step: our own names are answered at once, other
//! names from the answer of their resolver. Decides the next step; asks no resolver itself.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use overlan_protocol::gateway::may_lead_to;
use overlan_protocol::netmap::Netmap;

use super::heard::{Heard, Question};
use super::{ALIASES_MAX, DnsTransport, Found, NEGATIVE_TTL, Resolvers, TTL, find, soa};
use crate::names::{self, Destination};

/// The result of reading one message.
pub(crate) enum Start {
    /// It gets no answer, which alone is safe: it is too short for a header, or is itself an
    /// answer.
    Silence,
    /// It is answered already.
    Reply(Vec<u8>),
    /// It is a question.
    Walk(Box<Walk>),
}

/// The next step of a walk.
pub(crate) enum Step {
    /// The answer is whole: [`Walk::finish`].
    Done,
    /// These resolvers have to be asked this question: [`Walk::handle_heard`].
    Ask(Resolvers, Question),
}

/// One query on its way to its answer.
pub(crate) struct Walk {
    reply: Message,
    header: RawHeader,
    /// Longest answer, bytes.
    limit: usize,
    /// The name in the case in which it was asked for, since some resolvers tell answers from
    /// forgeries by it; later, the alias that was followed last.
    name: Name,
    wanted: RecordType,
    /// The number of names before this one.
    steps: usize,
    is_done: bool,
}

impl Walk {
    /// Reads a message.
    pub(crate) fn begin(query: &[u8], transport: DnsTransport) -> Start {
        let Some(header) = RawHeader::read(query).filter(|header| !header.is_response()) else {
            return Start::Silence;
        };
        if header.opcode() != 0 {
            return Start::Reply(header.refusal(ResponseCode::NotImp));
        }
        // Before the message is parsed, so that large counts cost nothing.
        if header.questions() != 1 {
            return Start::Reply(header.refusal(ResponseCode::FormErr));
        }
        let Ok(query) = Message::from_vec(query) else {
            return Start::Reply(header.refusal(ResponseCode::FormErr));
        };
        let [question] = query.queries.as_slice() else {
            return Start::Reply(header.refusal(ResponseCode::FormErr));
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
        let mut walk = Self {
            reply,
            header,
            limit: match transport {
                DnsTransport::Udp => usize::from(limit),
                DnsTransport::Tcp => usize::from(u16::MAX),
            },
            name: question.name().clone(),
            wanted: question.query_type(),
            steps: 0,
            is_done: false,
        };
        if version != 0 {
            walk.end(ResponseCode::BADVERS);
        } else if question.query_class() != DNSClass::IN
            || matches!(walk.wanted, RecordType::AXFR | RecordType::IXFR)
        {
            walk.end(ResponseCode::Refused);
        }
        Start::Walk(Box::new(walk))
    }

    /// Goes on until the answer is whole or a resolver has to be asked. With `forwards`, foreign
    /// names are forwarded.
    pub(crate) fn step(&mut self, netmap: &Netmap, forwards: bool) -> Step {
        if forwards {
            self.reply.metadata.recursion_available = true;
        }
        while !self.is_done {
            // A chain that is too long, or a ring, is an error.
            if self.steps > ALIASES_MAX {
                self.reply.answers.clear();
                self.end(ResponseCode::ServFail);
                break;
            }
            let source = match find(&self.name, netmap) {
                Found::Delegated(zone) => Resolvers::Zone(zone),
                Found::Foreign if forwards => {
                    // Without a netmap our names are not known, and they must not be sent to other
                    // resolvers.
                    if netmap.version == 0 {
                        self.end(ResponseCode::ServFail);
                        break;
                    }
                    Resolvers::Forward
                }
                Found::Foreign => {
                    // An alias that ends outside our zones: the client asks another resolver.
                    match self.steps {
                        0 => self.end(ResponseCode::Refused),
                        _ => self.is_done = true,
                    }
                    break;
                }
                Found::Missing { zone } => {
                    self.add_own(zone, Vec::new(), netmap);
                    self.end(ResponseCode::NXDomain);
                    break;
                }
                Found::Node { zone, records } => {
                    self.add_own(zone, records, netmap);
                    continue;
                }
            };
            return Step::Ask(source, Question::new(&self.name, self.wanted));
        }
        Step::Done
    }

    /// Adds the records of a name of ours, and goes on to the name that it is an alias of.
    fn add_own(&mut self, zone: Name, records: Vec<RData>, netmap: &Netmap) {
        if self.steps == 0 {
            self.reply.metadata.authoritative = true;
        }
        let mut alias = None;
        let mut is_answered = false;
        for data in records {
            if self.wanted == RecordType::ANY || self.wanted == data.record_type() {
                is_answered = true;
            } else if let RData::CNAME(target) = &data {
                alias = Some(target.0.clone());
            } else {
                continue;
            }
            let record = Record::from_rdata(self.name.clone(), TTL, data);
            self.reply.add_answer(record);
        }
        match alias {
            Some(target) => self.follow(target),
            None => {
                if !is_answered {
                    let soa = soa(&zone, netmap.version);
                    self.reply
                        .add_authority(Record::from_rdata(zone, NEGATIVE_TTL, soa));
                }
                self.is_done = true;
            }
        }
    }

    /// Goes on with the answer to [`Step::Ask`]; `None` if no resolver answered. Addresses that
    /// programs must not take from that source are left out.
    pub(crate) fn handle_heard(
        &mut self,
        source: &Resolvers,
        heard: Option<(&Heard, u32)>,
        netmap: &Netmap,
    ) {
        self.reply.metadata.recursion_available = true;
        let Some((heard, age)) = heard else {
            self.reply.answers.clear();
            self.end(ResponseCode::ServFail);
            return;
        };
        // A source is believed about its own names only: the aliases end at the first name that is
        // not its own.
        let (own, alias) = heard.within(|name| is_of(source, name, netmap));
        for known in own {
            if !may_say(source, &known.data, netmap) {
                continue;
            }
            let mut record = known.clone();
            if record.name == self.name {
                record.name = self.name.clone();
            }
            record.ttl = record.ttl.saturating_sub(age);
            self.reply.add_answer(record);
        }
        if let Some(alias) = alias
            && !is_of(source, alias, netmap)
        {
            match source {
                Resolvers::Zone(_) => self.follow(alias.clone()),
                // A foreign name that is an alias of ours would be one more way to reach private
                // hosts by it.
                Resolvers::Forward => self.is_done = true,
            }
            return;
        }
        if let Some(soa) = &heard.soa {
            let mut soa = soa.clone();
            soa.ttl = soa.ttl.saturating_sub(age);
            self.reply.add_authority(soa);
        }
        self.end(heard.code);
    }

    /// Writes the answer.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let bytes = match self.reply.to_vec() {
            Ok(bytes) if bytes.len() <= self.limit => Some(bytes),
            Ok(_) => self.cut(),
            Err(_) => None,
        };
        bytes.unwrap_or_else(|| self.header.refusal(ResponseCode::ServFail))
    }

    /// Writes as many records as fit, marked as cut, since not every client asks again over TCP
    /// (musl before 1.2.4).
    fn cut(&self) -> Option<Vec<u8>> {
        let mut cut = self.reply.truncate();
        let with = |cut: &mut Message, count: usize| {
            cut.answers = self.reply.answers[..count].to_vec();
            cut.to_vec().ok().filter(|bytes| bytes.len() <= self.limit)
        };
        let (mut fits, mut too_many) = (0, self.reply.answers.len());
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            match with(&mut cut, middle) {
                Some(_) => fits = middle,
                None => too_many = middle,
            }
        }
        with(&mut cut, fits)
    }

    fn follow(&mut self, alias: Name) {
        self.name = alias;
        self.steps += 1;
    }

    fn end(&mut self, code: ResponseCode) {
        self.reply.metadata.response_code = code;
        self.is_done = true;
    }
}

/// Returns true for a name that `source` answers for.
pub(crate) fn is_of(source: &Resolvers, name: &Name, netmap: &Netmap) -> bool {
    match find(name, netmap) {
        Found::Foreign => *source == Resolvers::Forward,
        Found::Delegated(zone) => *source == Resolvers::Zone(zone),
        Found::Missing { .. } | Found::Node { .. } => false,
    }
}

/// Returns true if a program may get that record from `source`. No resolver may name this host
/// itself, or a link-local address. A zone's resolver may name the overlay and the hosts of
/// gateways; a foreign one may not, since a page in a browser could reach private hosts by a name
/// of its own (DNS rebinding).
fn may_say(source: &Resolvers, data: &RData, netmap: &Netmap) -> bool {
    let may_name = |address: IpAddr| {
        let address = address.to_canonical();
        match source {
            Resolvers::Zone { .. } => names::in_overlay(address) || may_lead_to(address),
            Resolvers::Forward => {
                let destination = Destination::from(address);
                may_lead_to(address) && names::gateways(netmap, &destination, None, None).is_none()
            }
        }
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is open, and the other types hold no address that programs use"
    )]
    match data {
        RData::A(v4) => may_name(v4.0.into()),
        RData::AAAA(v6) => may_name(v6.0.into()),
        RData::SVCB(svcb) => hints(&svcb.svc_params).all(may_name),
        RData::HTTPS(https) => hints(&https.0.svc_params).all(may_name),
        _ => true,
    }
}

/// Lists the addresses in the parameters of a service record.
fn hints<K>(params: &[(K, SvcParamValue)]) -> impl Iterator<Item = IpAddr> {
    params.iter().flat_map(|(_, value)| {
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let SvcParamValue::Ipv4Hint(hint) = value {
            addresses.extend(hint.0.iter().map(|v4| IpAddr::V4(v4.0)));
        } else if let SvcParamValue::Ipv6Hint(hint) = value {
            addresses.extend(hint.0.iter().map(|v6| IpAddr::V6(v6.0)));
        }
        addresses
    })
}

/// The fixed part of a message, for answers to those that cannot be read further.
struct RawHeader {
    id: [u8; 2],
    flags: u8,
    questions: u16,
}

impl RawHeader {
    /// Returns `None` if the message is too short for a header.
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

    /// Writes a header alone, with the operation and the "recursion desired" bit of the query.
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

/// Bytes of a UDP answer that every client accepts (RFC 1035).
const UDP_MIN: u16 = 512;

/// Bytes of a UDP message that pass every path in one piece (DNS flag day 2020). We advertise this
/// size and send at most as much.
pub(crate) const UDP_MAX: u16 = 1232;

#[cfg(test)]
mod tests;
