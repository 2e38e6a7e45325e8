//! Routes of a gateway, and the request by which a device reaches one of its hosts. Decides what a
//! route covers; who may offer, approve and use a route is the controller's decision.

mod judge;
mod offer;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host_port::HostPortError;
use crate::{dns, host_port};

/// Hosts that a gateway connects to: `10.1.0.0/16`, `10.1.2.3:5432`, `db.internal:5432`,
/// `*.corp.internal`. Without a port, all ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct GatewayRoute {
    to: To,
    port: Option<u16>,
}

/// The hosts that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// Addresses that begin like this one, by so many bits.
    Range(IpAddr, u8),
    /// One name, which the gateway looks up.
    Name(String),
    /// All names below this one.
    Below(String),
}

pub use judge::{is_public, may_dial, may_lead_to};
pub use offer::{OfferTextError, OfferedRoute};

/// A host that a program wants to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// By address.
    Address(IpAddr),
    /// By name, in lower case without the last dot.
    Name(&'a str),
}

/// The reason why a text is not a route. One variant per thing that the writer corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteTextError {
    /// The text has none of the forms.
    #[error("a route is ADDRESS, ADDRESS/BITS, NAME or *.NAME, each with :PORT or without")]
    Form,
    /// The port is not a number, 0 or too large.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// The range would cover most of the Internet.
    #[error("a range has at least {MIN_BITS_V4} bits of IPv4 or {MIN_BITS_V6} of IPv6")]
    TooWide,
    /// The addresses mean the gateway itself, the metadata service of its cloud, or the overlay.
    #[error("a route cannot cover loopback, link-local, metadata or overlay addresses")]
    Ours,
}

impl From<HostPortError> for RouteTextError {
    fn from(error: HostPortError) -> Self {
        match error == HostPortError::Port {
            true => Self::Port,
            false => Self::Form,
        }
    }
}

impl GatewayRoute {
    /// The hosts that it leads to, on any port.
    #[must_use]
    pub fn to(&self) -> &To {
        &self.to
    }

    /// The only port that it leads to; `None` = all ports.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Measures how closely the route fits that port of that host, the larger the closer; `None` if
    /// it does not cover it.
    #[must_use]
    pub fn covers(&self, host: Host<'_>, port: u16) -> Option<u32> {
        if self.port.is_some_and(|only| only != port) {
            return None;
        }
        let closeness = match (&self.to, host) {
            (To::Range(begin, bits), Host::Address(address)) => {
                is_in(address.to_canonical(), *begin, *bits).then_some(u32::from(*bits))?
            }
            (To::Name(name), Host::Name(wanted)) => (name == wanted).then_some(u32::MAX / 4)?,
            (To::Below(above), Host::Name(wanted)) => {
                let is_below = wanted != above && dns::is_in(wanted, above);
                is_below.then_some(u32::try_from(above.len()).unwrap_or(0))?
            }
            (To::Range(..), Host::Name(_)) | (To::Name(_) | To::Below(_), Host::Address(_)) => {
                return None;
            }
        };
        Some(closeness * 2 + u32::from(self.port.is_some()))
    }

    /// Returns whether the route covers some port of that host.
    #[must_use]
    pub fn covers_host(&self, host: Host<'_>) -> bool {
        self.covers(host, self.port.unwrap_or(1)).is_some()
    }

    /// The host, if the route leads to only one.
    #[must_use]
    pub fn one_host(&self) -> Option<Host<'_>> {
        match &self.to {
            To::Range(address, bits) => {
                let is_one = *bits == if address.is_ipv4() { 32 } else { 128 };
                is_one.then_some(Host::Address(*address))
            }
            To::Name(name) => Some(Host::Name(name)),
            To::Below(_) => None,
        }
    }

    /// Returns whether every host of `other` is one of these, on whatever port. Two routes without
    /// ports have hosts in common only if one of them includes the other.
    #[must_use]
    pub fn includes_hosts_of(&self, other: &Self) -> bool {
        match (&self.to, &other.to) {
            (To::Range(begin, bits), To::Range(address, narrower)) => {
                bits <= narrower && is_in(*address, *begin, *bits)
            }
            (To::Name(name), To::Name(wanted)) => name == wanted,
            (To::Below(above), To::Name(wanted)) => wanted != above && dns::is_in(wanted, above),
            (To::Below(above), To::Below(wanted)) => dns::is_in(wanted, above),
            (To::Range(..), To::Name(_) | To::Below(_))
            | (To::Name(_), To::Range(..) | To::Below(_))
            | (To::Below(_), To::Range(..)) => false,
        }
    }

    /// Returns whether a name of the route lies in `domain`.
    #[must_use]
    pub fn is_below(&self, domain: &str) -> bool {
        match &self.to {
            To::Range(..) => false,
            To::Name(name) | To::Below(name) => dns::is_in(name, domain),
        }
    }
}

impl FromStr for GatewayRoute {
    type Err = RouteTextError;

    fn from_str(text: &str) -> Result<Self, RouteTextError> {
        let text = text.trim();
        let (host, port) = host_port::split(text)?;
        let (address, bits) = match host.split_once('/') {
            Some((address, bits)) => (
                address,
                Some(bits.parse::<u8>().map_err(|_| RouteTextError::Form)?),
            ),
            None => (host, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let (width, min) = match address {
                IpAddr::V4(_) => (32, MIN_BITS_V4),
                IpAddr::V6(_) => (128, MIN_BITS_V6),
            };
            let bits = bits.unwrap_or(width);
            if bits > width {
                return Err(RouteTextError::Form);
            }
            if bits < min {
                return Err(RouteTextError::TooWide);
            }
            let begin = masked(address, bits);
            if !may_lead_to(begin) {
                return Err(RouteTextError::Ours);
            }
            let to = To::Range(begin, bits);
            return Ok(Self { to, port });
        }
        if bits.is_some() {
            return Err(RouteTextError::Form);
        }
        let (above, name) = match host.strip_prefix("*.") {
            Some(above) => (true, above),
            None => (false, host),
        };
        let name = dns::normal(name).ok_or(RouteTextError::Form)?;
        // An address that is written badly is not a name.
        if name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(RouteTextError::Form);
        }
        if dns::is_in(&name, "localhost") {
            return Err(RouteTextError::Ours);
        }
        let to = if above {
            To::Below(name)
        } else {
            To::Name(name)
        };
        Ok(Self { to, port })
    }
}

impl fmt::Display for GatewayRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.to {
            To::Range(IpAddr::V4(begin), 32) => begin.to_string(),
            To::Range(IpAddr::V6(begin), 128) => begin.to_string(),
            To::Range(begin, bits) => format!("{begin}/{bits}"),
            To::Name(name) => name.clone(),
            To::Below(name) => format!("*.{name}"),
        };
        match self.port {
            Some(port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(&host),
        }
    }
}

impl TryFrom<String> for GatewayRoute {
    type Error = RouteTextError;

    fn try_from(text: String) -> Result<Self, RouteTextError> {
        text.parse()
    }
}

impl From<GatewayRoute> for String {
    fn from(route: GatewayRoute) -> Self {
        route.to_string()
    }
}

/// Returns whether an address lies in the range that begins at `begin` and has `bits` in common.
#[must_use]
pub fn is_in(address: IpAddr, begin: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == begin.is_ipv4() && masked(address, bits) == masked(begin, bits)
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// A device's request to a gateway: the first bytes of a connection with [`PORT`].
///
/// ```text
/// 1 version (1) | 1 length of the host | 2 port, big endian | host: an address or a name, ASCII
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Address or name, as text.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl Request {
    /// The request's bytes; `None` if the host is too long for it.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u8::try_from(self.host.len())
            .ok()
            .filter(|it| (1..=HOST_MAX).contains(it))?;
        let mut bytes = vec![VERSION, length];
        bytes.extend_from_slice(&self.port.to_be_bytes());
        bytes.extend_from_slice(self.host.as_bytes());
        Some(bytes)
    }

    /// The number of bytes of the host that follow these first ones; `None` if this is not a
    /// request.
    pub fn host_len(head: [u8; HEAD_LEN]) -> Option<usize> {
        let is_ours = head[0] == VERSION && (1..=HOST_MAX).contains(&head[1]);
        (is_ours && (head[2], head[3]) != (0, 0)).then_some(usize::from(head[1]))
    }

    /// The request of `head` and the bytes that followed; `None` if the host is neither address nor
    /// name.
    pub fn decode(head: [u8; HEAD_LEN], host: &[u8]) -> Option<Self> {
        if Self::host_len(head)? != host.len() {
            return None;
        }
        let text = std::str::from_utf8(host).ok()?;
        let host = match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => dns::normal(text)?,
        };
        let port = u16::from_be_bytes([head[2], head[3]]);
        Some(Self { host, port })
    }

    /// The host as routes see it.
    pub fn host(&self) -> Host<'_> {
        match self.host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(&self.host),
        }
    }
}

/// A gateway's answer: one byte. After [`Answer::Connected`] the bytes of the connection follow,
/// after the others nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// The host accepted the connection.
    Connected = 0,
    /// The host refused the connection.
    Refused = 1,
    /// The host did not answer.
    TimedOut = 2,
    /// The gateway has no way to the host.
    Unreachable = 3,
    /// The gateway's resolver does not know the name.
    UnknownName = 4,
    /// No approved route of the gateway covers the host.
    Denied = 5,
    /// The gateway failed for a reason of its own.
    Failed = 6,
    /// No rule of the network's policy lets the asker reach the host.
    Forbidden = 7,
}

impl Answer {
    /// The answer of a byte; an unknown byte is [`Answer::Failed`].
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Connected,
            1 => Self::Refused,
            2 => Self::TimedOut,
            3 => Self::Unreachable,
            4 => Self::UnknownName,
            5 => Self::Denied,
            7 => Self::Forbidden,
            _ => Self::Failed,
        }
    }

    /// Its byte.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

/// The overlay port on which gateways take requests; nothing else is served there.
pub const PORT: u16 = 1;

/// First bytes of a request, which have a fixed length.
pub const HEAD_LEN: usize = 4;

/// Routes that one device may offer.
pub const ROUTES_MAX: usize = 64;

/// Version of the request's form.
const VERSION: u8 = 1;

/// Longest host of a request, bytes (RFC 1035).
const HOST_MAX: u8 = 253;

/// Narrowest range of IPv4: a private network, not half of the Internet.
const MIN_BITS_V4: u8 = 8;

/// Narrowest range of IPv6: the largest block that a site gets.
const MIN_BITS_V6: u8 = 16;

#[cfg(test)]
mod tests;
