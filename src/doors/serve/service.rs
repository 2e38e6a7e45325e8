//! The services that a device serves: decides which targets there can be and how they are written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use overlan_protocol::HostPort;
use overlan_protocol::host_port::HostPortError;
use serde::{Deserialize, Serialize};

use crate::host::readable::age;
use crate::names;

/// A service of this host, or one that this host reaches, that the overlay may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// The kind of traffic.
    pub kind: ServeKind,
    /// Port on this device's overlay address.
    pub port: u16,
    /// The destination of connections.
    pub target: Target,
    /// True if each connection begins with the peer's address, by the PROXY protocol, version 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_protocol: bool,
    /// True if TLS ends here, by a certificate for this device's name; the service hears what was
    /// inside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Seconds after which a connection ends on which no byte has moved; nothing = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    /// Networks in which it is served, by label; none = all that this device is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

impl Serve {
    /// Connections to overlay port `port` go to `target`, byte for byte.
    #[must_use]
    pub fn tcp(port: u16, target: impl Into<Target>) -> Self {
        Self {
            kind: ServeKind::Tcp,
            port,
            target: target.into(),
            proxy_protocol: false,
            tls: false,
            idle_timeout: None,
            networks: Vec::new(),
        }
    }

    /// Datagrams to overlay port `port` go to `target`, which is not a Unix socket.
    #[must_use]
    pub fn udp(port: u16, target: impl Into<Target>) -> Self {
        Self {
            kind: ServeKind::Udp,
            ..Self::tcp(port, target)
        }
    }

    /// The port that it takes.
    #[must_use]
    pub fn overlay_port(&self) -> OverlayPort {
        OverlayPort {
            transport: self.kind.transport(),
            port: self.port,
        }
    }

    /// Returns whether it is served in the network with this label.
    #[must_use]
    pub fn is_in(&self, network: &str) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|label| label == network)
    }

    /// Follows a network to its new label; returns true if it is served there.
    pub(crate) fn follow_renamed(&mut self, former: &str, label: &str) -> bool {
        let mut found = self.networks.iter_mut().filter(|known| *known == former);
        let Some(known) = found.next() else {
            return false;
        };
        label.clone_into(known);
        self.networks.sort_unstable();
        self.networks.dedup();
        true
    }

    /// Returns its special settings, for people: empty, or something like
    /// ` (PROXY protocol, only in home)`.
    #[must_use]
    pub fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        if self.tls {
            remarks.push("TLS".to_owned());
        }
        if self.proxy_protocol {
            remarks.push("PROXY protocol".to_owned());
        }
        if let Some(seconds) = self.idle_timeout {
            remarks.push(format!("idle connections end after {}", age(seconds)));
        }
        if !self.networks.is_empty() {
            remarks.push(format!("only in {}", self.networks.join(", ")));
        }
        match remarks.is_empty() {
            true => String::new(),
            false => format!(" ({})", remarks.join(", ")),
        }
    }
}

/// The form in which bytes travel in the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayTransport {
    /// As a stream.
    Tcp,
    /// As datagrams.
    Udp,
}

/// A port of this device's overlay addresses. The same number for streams and for datagrams are two
/// ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverlayPort {
    /// Streams or datagrams.
    pub transport: OverlayTransport,
    /// Its number.
    pub port: u16,
}

impl fmt::Display for OverlayPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            OverlayTransport::Tcp => write!(f, "tcp:{}", self.port),
            OverlayTransport::Udp => write!(f, "udp:{}", self.port),
        }
    }
}

/// The kind of traffic of a [`Serve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServeKind {
    /// TCP connections, byte for byte.
    Tcp,
    /// HTTP requests, each with fields that say who asks.
    Http,
    /// Datagrams, each as it is.
    Udp,
}

impl ServeKind {
    /// Returns the form in which its bytes travel in the overlay.
    #[must_use]
    pub fn transport(self) -> OverlayTransport {
        match self {
            Self::Tcp | Self::Http => OverlayTransport::Tcp,
            Self::Udp => OverlayTransport::Udp,
        }
    }
}

impl fmt::Display for ServeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Http => f.write_str("http"),
            Self::Udp => f.write_str("udp"),
        }
    }
}

/// The destination of connections: `ADDRESS:PORT`, `HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// An address that this host reaches.
    Address(SocketAddr),
    /// A name that this host's resolver knows, asked for each connection. It never leads into the
    /// overlay.
    Host(HostPort),
    /// A Unix socket, by its whole path.
    Unix(PathBuf),
}

/// The reason why a text is not a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableTarget {
    /// None of the forms.
    #[error("a target is ADDRESS:PORT, HOST:PORT or unix:/PATH")]
    Form,
    /// Nobody can listen there.
    #[error("the port must be a number from 1 to 65535")]
    PortZero,
    /// The file would depend on the folder in which `up` was started.
    #[error("the path of a Unix socket begins with /")]
    RelativePath,
}

impl FromStr for Target {
    type Err = UnusableTarget;

    fn from_str(text: &str) -> Result<Self, UnusableTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(UnusableTarget::RelativePath),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => return Err(UnusableTarget::PortZero),
            Ok(address) => return Ok(Self::Address(address)),
            Err(_) => {}
        }
        match text.parse::<HostPort>() {
            Ok(host) if names::is_host_name(host.host()) => Ok(Self::Host(host)),
            Err(HostPortError::Port) if text.ends_with(":0") => Err(UnusableTarget::PortZero),
            Ok(_) | Err(_) => Err(UnusableTarget::Form),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(host) => host.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl TryFrom<String> for Target {
    type Error = UnusableTarget;

    fn try_from(text: String) -> Result<Self, UnusableTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests;
