//! Services as policy names them: a protocol with ports, such as `tcp/443`. Decides what their
//! texts mean and which ports they cover; knows no rule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The protocol inside a packet, as far as policy looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP; the port is the service's.
    Tcp,
    /// UDP; the port is the service's.
    Udp,
    /// ICMP echo; there is no port, rules with `any` ports match.
    Icmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// The word in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// A protocol with a range of ports; both `None` is anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// `None` = every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// First and last port, inclusive; `None` = every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
}

impl Service {
    /// Every protocol, every port.
    pub const ANY: Self = Self {
        protocol: None,
        ports: None,
    };

    /// One port of one protocol; for ICMP, which has none, the protocol.
    #[must_use]
    pub fn one(protocol: Protocol, port: u16) -> Self {
        Self {
            protocol: Some(protocol),
            ports: (protocol != Protocol::Icmp).then_some((port, port)),
        }
    }

    /// Returns whether that port is among the service's.
    #[must_use]
    pub fn matches(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.ports.is_none_or(|(first, last)| {
                protocol != Protocol::Icmp && (first..=last).contains(&port)
            })
    }
}

/// `any`, `tcp`, `udp`, `icmp`, `tcp/443`, `udp/4000-4099`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.map_or("any", Protocol::as_str);
        match self.ports {
            None => f.write_str(protocol),
            Some((first, last)) if first == last => write!(f, "{protocol}/{first}"),
            Some((first, last)) => write!(f, "{protocol}/{first}-{last}"),
        }
    }
}

/// The reason why a text is not a service. One variant per thing that the writer corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTextError {
    /// The text has none of the forms.
    #[error("a service is any, tcp, udp, icmp, tcp/PORT, tcp/FIRST-LAST, or the same with udp")]
    Form,
    /// A port is not a number, 0 or too large.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The range ends before it begins.
    #[error("a range of ports begins with the lower one")]
    Range,
    /// ICMP with a port.
    #[error("icmp has no ports")]
    NoPorts,
}

impl FromStr for Service {
    type Err = ServiceTextError;

    fn from_str(text: &str) -> Result<Self, ServiceTextError> {
        let (word, ports) = match text.split_once('/') {
            Some((word, ports)) => (word, Some(ports)),
            None => (text, None),
        };
        let protocol = match word {
            "any" => None,
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "icmp" => Some(Protocol::Icmp),
            _ => return Err(ServiceTextError::Form),
        };
        let Some(ports) = ports else {
            return Ok(Self {
                protocol,
                ports: None,
            });
        };
        match protocol {
            None => return Err(ServiceTextError::Form),
            Some(Protocol::Icmp) => return Err(ServiceTextError::NoPorts),
            Some(Protocol::Tcp | Protocol::Udp) => {}
        }
        let (first, last) = match ports.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(ports)?, port(ports)?),
        };
        if last < first {
            return Err(ServiceTextError::Range);
        }
        Ok(Self {
            protocol,
            ports: Some((first, last)),
        })
    }
}

fn port(text: &str) -> Result<u16, ServiceTextError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if is_number => Ok(port),
        _ => Err(ServiceTextError::Port),
    }
}
