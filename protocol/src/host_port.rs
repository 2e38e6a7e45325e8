//! A host and a port as people write them: `db.example:5432`, `192.0.2.1:443`, `[2001:db8::1]:443`.
//! Decides which texts are one and how one is printed; resolves nothing, and holds no rule about
//! which hosts a room may use.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host name or an IP address, and a port from 1 to 65535. It prints, and travels in JSON, as the
/// text that [`FromStr`] reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// The name or address as it was written, without brackets.
    host: String,
    port: NonZeroU16,
}

/// The reason why a text is not a [`HostPort`]: one variant per thing that the writer corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.reason())]
pub enum HostPortError {
    /// Nothing stands before the port.
    HostMissing,
    /// Nothing stands after the host.
    PortMissing,
    /// The port is not a number, 0 or too large.
    Port,
    /// A bracket without its other half, or text between the closing one and the port.
    Bracket,
    /// The text can be read in two ways: nothing marks the end of the address and the beginning of
    /// the port.
    BareIpv6,
    /// The host has a character that no host has, or the brackets hold something other than an
    /// IPv6 address.
    Host,
    /// The host has more than [`HOST_MAX`] bytes.
    HostTooLong,
}

impl HostPortError {
    /// The sentence that people read.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::HostMissing => "the host is missing",
            Self::PortMissing => "the port is missing; write HOST:PORT",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Bracket => "a bracket is missing",
            Self::BareIpv6 => "write an IPv6 address with a port in brackets, as in [::1]:443",
            Self::Host => "its host is neither a name nor an address",
            Self::HostTooLong => "its host is longer than 254 bytes",
        }
    }
}

impl HostPort {
    /// Joins a host without brackets and a port.
    ///
    /// # Errors
    /// If `host` is not a name or an address, or `port` is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, HostPortError> {
        check_host(host)?;
        let port = NonZeroU16::new(port).ok_or(HostPortError::Port)?;
        let host = host.to_owned();
        Ok(Self { host, port })
    }

    /// Reads a text that may leave out the port, which is then `default`.
    ///
    /// # Errors
    /// The same as those of [`FromStr`], except for the missing port.
    pub fn parse_or(text: &str, default: u16) -> Result<Self, HostPortError> {
        let (host, port) = parts(text)?;
        Self::new(host, port.unwrap_or(default))
    }

    /// The name or address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, not 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// The host, if it is an address and not a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Host and port, if the host is an address and not a name.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address()?, self.port()))
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = parts(text)?;
        Self::new(host, port.ok_or(HostPortError::PortMissing)?)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl TryFrom<SocketAddr> for HostPort {
    type Error = HostPortError;

    fn try_from(address: SocketAddr) -> Result<Self, HostPortError> {
        Self::new(&address.ip().to_string(), address.port())
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(it: HostPort) -> Self {
        it.to_string()
    }
}

/// Splits a text where its port begins, and leaves judging the host to the caller, whose hosts may
/// be ranges or patterns: `10.0.0.0/8:53`, `*.corp.internal`. The host is returned without
/// brackets; several colons outside brackets are an IPv6 address without a port.
///
/// # Errors
/// If a bracket is missing, or the port is not a number from 1 to 65535.
pub fn split(text: &str) -> Result<(&str, Option<u16>), HostPortError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(HostPortError::Bracket)?;
            let port = match after.strip_prefix(':') {
                None if after.is_empty() => None,
                None => return Err(HostPortError::Bracket),
                port => port,
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) | None => (text, None),
        },
    };
    Ok((host, port.map(port_number).transpose()?))
}

fn port_number(text: &str) -> Result<u16, HostPortError> {
    // `parse` alone would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or(HostPortError::Port)
}

/// [`split`] for a single host: brackets stand around an IPv6 address and around nothing else.
fn parts(text: &str) -> Result<(&str, Option<u16>), HostPortError> {
    let (host, port) = split(text)?;
    let bracketed = text.starts_with('[');
    match host.contains(':') {
        true if !bracketed => Err(HostPortError::BareIpv6),
        false if bracketed => Err(HostPortError::Host),
        true | false => Ok((host, port)),
    }
}

fn check_host(host: &str) -> Result<(), HostPortError> {
    if host.is_empty() {
        return Err(HostPortError::HostMissing);
    }
    if host.len() > HOST_MAX {
        return Err(HostPortError::HostTooLong);
    }
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let is_foreign = |c: char| c.is_control() || c.is_whitespace() || "/?#@[]\\".contains(c);
    let is_address = address.parse::<Ipv6Addr>().is_ok() && zone != Some("");
    match !host.contains(is_foreign) && (is_address || !host.contains(':')) {
        true => Ok(()),
        false => Err(HostPortError::Host),
    }
}

/// Longest host, bytes: a name of RFC 1035 as text, with the last dot.
pub const HOST_MAX: usize = 254;

#[cfg(test)]
mod tests;
