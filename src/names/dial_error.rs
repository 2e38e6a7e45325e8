//! The reasons why a connection through the overlay is not opened. Decides the SOCKS reply that a
//! program gets for each; opens no connection.

use std::io;

use overlan_netstack::ConnectError;
use overlan_protocol::policy::{Protocol, Sentence, Verdict};

use crate::names::{Missing, NameError, NoRouteToPort, NotADevice, Several};

/// The reason why a connection was not opened: one variant for each thing that the program, or the
/// person who reads the log, does differently. Each has one SOCKS reply code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The destination is outside the overlay, and this door reaches the overlay only.
    #[error("the destination is outside the overlay")]
    Foreign,
    /// The text is not a name, no device has that overlay address, or the gateway or the resolvers
    /// of the zone do not know the name.
    #[error("no device has that name or address")]
    UnknownName,
    /// The name is written like one of the overlay, and nothing has it. The text says in which
    /// network or zone it was looked up.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// Several networks have the short name, for different devices or records.
    #[error("{0}")]
    AmbiguousName(Box<Several>),
    /// A gateway has a route to the host, but not to that port.
    #[error("{0}")]
    NoRouteToPort(Box<NoRouteToPort>),
    /// The name is a gateway host's or a delegated zone's, and only a device can answer this kind
    /// of request, such as a datagram or a ping.
    #[error("{0}")]
    NotADevice(Box<NotADevice>),
    /// All networks use the same addresses, and this device is in several: the address alone does
    /// not say which device is meant.
    #[error("several networks use that address; use host.network.domain, or ADDRESS%NETWORK")]
    AmbiguousAddress,
    /// The device exists, but it is not connected to the overlay.
    #[error("the device is offline")]
    Offline,
    /// The controller gives other keys for the device than this device knows, or keys that the
    /// device has not signed. Anybody could answer under them.
    #[error("the device's keys do not check, so it is not used")]
    Untrusted,
    /// No rule of the network's policy lets this device open that port of the peer. The text says
    /// which rules there are.
    #[error("{0}")]
    NoRule(Box<str>),
    /// Another one denies it: the gateway, which has no route to the host's address, or this host's
    /// system.
    #[error("denied by the network's policy")]
    DeniedByPolicy,
    /// This device itself is not connected to the overlay.
    #[error("this device is not connected to the overlay")]
    NotReady,
    /// None of the relays by which the peer can be reached answers.
    #[error("no relay reaches the device")]
    NoRelay,
    /// The gateway is online, but it cannot reach the host.
    #[error("the gateway cannot reach the host")]
    Unreachable,
    /// The name is in a delegated zone, and none of the zone's resolvers answered.
    #[error("no resolver of the name's zone answers")]
    NoResolver,
    /// The name has an address that is neither an overlay address nor in a route of a gateway.
    #[error("the name's address is not in the overlay, and no gateway has a route to it")]
    NoRoute,
    /// The peer refused the connection: nothing listens on that port.
    #[error("connection refused")]
    Refused,
    /// The peer did not answer in time.
    #[error("connection timed out")]
    TimedOut,
    /// The door does not support this command.
    #[error("command not supported")]
    Unsupported,
    /// A failure of this program, such as a text that is not `HOST:PORT` or a full table, in words.
    #[error("{0}")]
    Internal(String),
}

impl DialError {
    /// Returns the SOCKS reply code (RFC 1928, section 6).
    #[must_use]
    pub fn socks_reply(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Foreign
            | Self::NoRoute
            | Self::NoRule(_)
            | Self::DeniedByPolicy
            | Self::Untrusted
            | Self::NoRouteToPort(_)
            | Self::NotADevice(_) => 2,
            Self::Missing(missing) if missing.is_foreign() => 2,
            Self::NotReady | Self::NoRelay => 3,
            Self::UnknownName
            | Self::Missing(_)
            | Self::AmbiguousName(_)
            | Self::AmbiguousAddress
            | Self::Offline
            | Self::NoResolver
            | Self::Unreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::Unsupported => 7,
        }
    }
}

impl DialError {
    /// Says that no rule lets `from` reach `port` of `to`, with the reason in `verdict`: by the
    /// sentence with which the policy explains itself everywhere.
    pub(crate) fn no_rule(
        (from, to): (&str, &str),
        protocol: Protocol,
        port: u16,
        verdict: &Verdict,
    ) -> Self {
        let sentence = Sentence {
            from,
            to,
            protocol,
            port,
            verdict,
        };
        Self::NoRule(sentence.to_string().into())
    }

    /// Returns true if the destination is foreign: nothing in the overlay has it, so a door with
    /// access to other networks may look for it there. Names below our domain and in private zones
    /// are never foreign.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Foreign => true,
            Self::Missing(missing) => missing.is_foreign(),
            Self::NoRouteToPort(no_route_to_port) => no_route_to_port.is_foreign(),
            Self::NotADevice(not_a_device) => not_a_device.is_foreign(),
            Self::UnknownName
            | Self::AmbiguousName(_)
            | Self::AmbiguousAddress
            | Self::Offline
            | Self::Untrusted
            | Self::NoRule(_)
            | Self::DeniedByPolicy
            | Self::NotReady
            | Self::NoRelay
            | Self::Unreachable
            | Self::NoResolver
            | Self::NoRoute
            | Self::Refused
            | Self::TimedOut
            | Self::Unsupported
            | Self::Internal(_) => false,
        }
    }
}

impl From<NameError> for DialError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Foreign => Self::Foreign,
            NameError::Unknown => Self::UnknownName,
            NameError::Missing(missing) => Self::Missing(missing),
            NameError::AmbiguousAddress => Self::AmbiguousAddress,
            NameError::AmbiguousName(several) => Self::AmbiguousName(several),
            NameError::NoRouteToPort(no_route_to_port) => Self::NoRouteToPort(no_route_to_port),
            NameError::NotADevice(not_a_device) => Self::NotADevice(not_a_device),
            NameError::NoRoute => Self::NoRoute,
        }
    }
}

/// Translates the answer of the peer, or of our own TCP/IP stack.
impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused => Self::Refused,
            ConnectError::TimedOut => Self::TimedOut,
            ConnectError::Unreachable => Self::Offline,
            ConnectError::NoAddress | ConnectError::TooManyFlows | ConnectError::PortsExhausted => {
                Self::Internal(error.to_string())
            }
        }
    }
}

/// Translates the operating system's error about a connection of this host.
impl From<io::Error> for DialError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list of kinds is open, and the rest has one answer"
    )]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::NetworkUnreachable => Self::NoRelay,
            io::ErrorKind::HostUnreachable => Self::Offline,
            io::ErrorKind::PermissionDenied => Self::DeniedByPolicy,
            _ => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_exact_reply() {
        for (error, reply) in [
            (DialError::Foreign, 2),
            (DialError::UnknownName, 4),
            (DialError::AmbiguousAddress, 4),
            (DialError::Offline, 4),
            (DialError::DeniedByPolicy, 2),
            (DialError::NoRule("no rule".into()), 2),
            (DialError::Untrusted, 2),
            (DialError::NotReady, 3),
            (DialError::NoRelay, 3),
            (DialError::Unreachable, 4),
            (DialError::NoResolver, 4),
            (DialError::NoRoute, 2),
            (DialError::Refused, 5),
            (DialError::TimedOut, 6),
            (DialError::Unsupported, 7),
            (DialError::Internal("out of memory".into()), 1),
        ] {
            assert_eq!(error.socks_reply(), reply, "{error}");
        }
    }

    #[test]
    fn the_systems_errors_keep_their_meaning() {
        let from = |kind: io::ErrorKind| DialError::from(io::Error::from(kind)).socks_reply();
        assert_eq!(from(io::ErrorKind::ConnectionRefused), 5);
        assert_eq!(from(io::ErrorKind::TimedOut), 6);
        assert_eq!(from(io::ErrorKind::HostUnreachable), 4);
        assert_eq!(from(io::ErrorKind::NetworkUnreachable), 3);
        assert_eq!(from(io::ErrorKind::AddrInUse), 1);
    }
}
