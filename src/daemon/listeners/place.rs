//! The places that a person names for the listeners: addresses, paths and the word `off`. Decides
//! how they are written; the parent module decides whether a place may be opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use overlan_protocol::host_port::{self, HostPortError};

/// The place of the DNS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsPlace {
    /// Nowhere.
    Off,
    /// At this address, for UDP and TCP.
    At(SocketAddr),
}

impl FromStr for DnsPlace {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        if text == OFF {
            return Ok(Self::Off);
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::At((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::At).map_err(|_| {
            listen_port_of(text).unwrap_or(UnknownPlace(
                "give ADDRESS:PORT with a numeric address, a port of 127.0.0.1, or off",
            ))
        })
    }
}

/// A resolver to which foreign names are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPlace {
    /// None.
    Off,
    /// The one at this address.
    To(SocketAddr),
}

impl FromStr for ForwardPlace {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        if text == OFF {
            return Ok(Self::Off);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let address = match bare.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, DNS_PORT),
            Err(_) => text.parse().map_err(|_| match host_port::split(text) {
                Err(HostPortError::Port) => UnknownPlace(HostPortError::Port.reason()),
                Ok(_) | Err(_) => UnknownPlace("give ADDRESS or ADDRESS:PORT, numeric, or off"),
            })?,
        };
        match address.port() {
            0 => Err(UnknownPlace(HostPortError::Port.reason())),
            _ => Ok(Self::To(address)),
        }
    }
}

/// A place of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyPlace {
    /// Nowhere.
    Off,
    /// A TCP address.
    At(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for ProxyPlace {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(UnknownPlace("give a path after unix:")),
                path => Ok(Self::Unix(path.into())),
            };
        }
        match text.parse() {
            Ok(DnsPlace::Off) => Ok(Self::Off),
            Ok(DnsPlace::At(address)) => Ok(Self::At(address)),
            Err(_) => Err(listen_port_of(text).unwrap_or(UnknownPlace(
                "give ADDRESS:PORT with a numeric address, a port of 127.0.0.1, unix:PATH, or off",
            ))),
        }
    }
}

/// A text that is not a place; the error shows how one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownPlace(&'static str);

/// Returns the refusal of a text whose port is not one to listen on; port 0 takes a free one.
fn listen_port_of(text: &str) -> Option<UnknownPlace> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = is_number || host_port::split(text) == Err(HostPortError::Port);
    is_port.then_some(UnknownPlace("the port must be a number from 0 to 65535"))
}

/// The word that turns a listener off.
const OFF: &str = "off";

/// The port of a resolver that is given without one.
const DNS_PORT: u16 = 53;
