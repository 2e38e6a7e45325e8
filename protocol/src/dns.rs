//! Records and zones of a network. Decides which texts are names, records and resolvers; the client
//! decides which zone answers for a name.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::HostPort;
use crate::name::{LABEL_MAX, is_label};

/// The DNS settings of one network, beside the names of its devices. Names are absolute, in lower
/// case, without the last dot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Zones beside `network.domain`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zones: BTreeMap<String, Zone>,
    /// Records by name; each name lies below `network.domain` or in a zone that has no resolvers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<String, Vec<Record>>,
    /// Labels that the network had before: names below them are aliases of the present ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<String>,
}

impl Dns {
    /// Returns whether there are no settings.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.records.is_empty() && self.former.is_empty()
    }

    /// Replaces the records of `name`; an empty list removes the name.
    pub fn set_records(&mut self, name: &str, records: &[Record]) {
        if records.is_empty() {
            self.records.remove(name);
        } else {
            self.records.insert(name.to_owned(), records.to_vec());
        }
    }

    /// Sets or removes a zone.
    pub fn set_zone(&mut self, zone: &str, settings: Option<&Zone>) {
        match settings {
            Some(settings) => {
                self.zones.insert(zone.to_owned(), settings.clone());
            }
            None => {
                self.zones.remove(zone);
            }
        }
    }
}

/// A zone of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Resolvers inside the overlay that answer for it, in this order; none = the network's records
    /// answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Via>,
}

/// A resolver inside the overlay, asked over TCP. Its text is `PEER`, `PEER:PORT`, `ADDRESS` or
/// `ADDRESS:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Via {
    /// The host that is asked.
    pub host: ViaHost,
    /// Its port; 53 if the text has none.
    pub port: u16,
}

/// The name or the address of a resolver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViaHost {
    /// A device, by its host label in the same network.
    Peer(String),
    /// An address: of a device of the same network, or of a gateway host.
    Address(IpAddr),
}

impl FromStr for Via {
    type Err = DnsTextError;

    fn from_str(text: &str) -> Result<Self, DnsTextError> {
        // An IPv6 address without a port needs no brackets.
        if let Ok(address) = text.parse::<IpAddr>() {
            let host = ViaHost::Address(address);
            return Ok(Self { host, port: PORT });
        }
        let at = HostPort::parse_or(text, PORT).map_err(|_| DnsTextError::Via)?;
        let host = match at.address() {
            Some(address) => ViaHost::Address(address),
            None => ViaHost::Peer(at.host().to_ascii_lowercase()),
        };
        match &host {
            ViaHost::Peer(label) if !is_label(label) => Err(DnsTextError::Via),
            ViaHost::Peer(_) | ViaHost::Address(_) => Ok(Self {
                host,
                port: at.port(),
            }),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ViaHost::Peer(label) => write!(f, "{label}:{}", self.port),
            ViaHost::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

impl Serialize for Via {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// One record: a type and its value. Names in it are absolute, in lower case, without the last dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "value", rename_all = "UPPERCASE")]
pub enum Record {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name of the same thing.
    Cname(String),
    /// Text, at most [`TXT_MAX`] bytes.
    Txt(String),
    /// The host and port of a service.
    Srv(Srv),
}

/// The value of an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Srv {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// Its host.
    pub target: String,
}

impl Record {
    /// Reads a type and a value as people write them. Names must be absolute; the last dot is
    /// optional.
    ///
    /// # Errors
    /// If there is no such type, or the value does not have the type's form.
    pub fn parse(kind: &str, value: &str) -> Result<Self, DnsTextError> {
        let value_error = || DnsTextError::Value(value_form(kind));
        match kind.to_ascii_uppercase().as_str() {
            "A" => value.parse().map(Self::A).map_err(|_| value_error()),
            "AAAA" => value.parse().map(Self::Aaaa).map_err(|_| value_error()),
            "CNAME" => absolute(value).map(Self::Cname).ok_or_else(value_error),
            "TXT" => {
                let fits = (1..=TXT_MAX).contains(&value.len());
                fits.then(|| Self::Txt(value.to_owned()))
                    .ok_or_else(value_error)
            }
            "SRV" => srv(value).map(Self::Srv).ok_or_else(value_error),
            _ => Err(DnsTextError::Kind),
        }
    }

    /// The address that it holds, if it is of a type that holds one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::A(address) => Some(IpAddr::V4(*address)),
            Self::Aaaa(address) => Some(IpAddr::V6(*address)),
            Self::Cname(_) | Self::Txt(_) | Self::Srv(_) => None,
        }
    }

    /// Its type, in upper case.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Txt(_) => "TXT",
            Self::Srv(_) => "SRV",
        }
    }

    /// Its value, as [`Record::parse`] takes it.
    pub fn value(&self) -> String {
        match self {
            Self::A(address) => address.to_string(),
            Self::Aaaa(address) => address.to_string(),
            Self::Cname(name) | Self::Txt(name) => name.clone(),
            Self::Srv(srv) => {
                let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                format!("{priority} {weight} {port} {}", srv.target)
            }
        }
    }
}

fn value_form(kind: &str) -> &'static str {
    match kind.to_ascii_uppercase().as_str() {
        "A" => "an A record holds one IPv4 address",
        "AAAA" => "an AAAA record holds one IPv6 address",
        "CNAME" => "a CNAME record holds one whole name, such as web.home.overlan.internal",
        "TXT" => "a TXT record holds 1 to 4,096 bytes of text",
        _ => {
            "an SRV record holds PRIORITY WEIGHT PORT NAME, \
            such as 10 5 5432 db.home.overlan.internal"
        }
    }
}

fn srv(value: &str) -> Option<Srv> {
    let mut words = value.split_ascii_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (priority, weight, port) = (number()?, number()?, number()?);
    let target = absolute(words.next()?)?;
    words.next().is_none().then_some(Srv {
        priority,
        weight,
        port,
        target,
    })
}

/// Brings an absolute name into the form of this module. `None` for a single label too: nothing
/// says in which zone it would lie.
pub fn absolute(name: &str) -> Option<String> {
    let name = normal(name)?;
    name.contains('.').then_some(name)
}

/// Brings a name into lower case without the last dot; `None` unless its labels are 1 to 63
/// letters, digits, hyphens and underscores.
pub fn normal(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_record_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= NAME_MAX && name.split('.').all(is_record_label);
    is_name.then(|| name.to_ascii_lowercase())
}

/// Returns whether `name` is `zone` or lies below it. Both are in lower case.
pub fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// The reason why a text is neither a record nor a resolver. One variant per thing that the writer
/// corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsTextError {
    /// There is no such record type.
    #[error("the types are A, AAAA, CNAME, TXT and SRV")]
    Kind,
    /// The value does not fit the type.
    #[error("{0}")]
    Value(&'static str),
    /// The text does not name a resolver.
    #[error("a resolver is PEER, PEER:PORT, ADDRESS or ADDRESS:PORT, such as dns:53 or 10.1.0.53")]
    Via,
}

/// The port on which resolvers listen unless the text has another one.
pub const PORT: u16 = 53;

/// Longest text of a TXT record, bytes: enough for a signing key of 16,384 bits; sent in strings of
/// 255.
pub const TXT_MAX: usize = 4_096;

/// Longest name, bytes, without the last dot (RFC 1035: 255 on the wire).
const NAME_MAX: usize = 253;

/// Most records of a network: all are in the netmap of every member, some 100 KB.
pub const RECORDS_MAX: usize = 1_000;

/// Most records of one name: more would not fit into an answer that programs read.
pub const RECORDS_OF_NAME_MAX: usize = 32;

/// Most zones of a network: each query is compared with all of them.
pub const ZONES_MAX: usize = 64;

/// Most resolvers of a zone: a query asks them one after the other, and waits for each.
pub const VIA_MAX: usize = 3;

#[cfg(test)]
mod tests;
