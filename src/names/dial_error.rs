//! Decides what a program hears when a connection through the overlay cannot be opened. It opens
//! none itself.

use std::io;

use overlan_netstack::ConnectError;

use crate::names::{Missing, NameError, NotADevice, NotOffered, Several};

/// The reason why a connection to a destination was not opened. The SOCKS reply codes are the
/// specification: one variant per thing that the program, or the person reading the log, does
/// differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The destination is outside the overlay, and this door leads nowhere else.
    #[error("the destination is outside the overlay")]
    Foreign,
    /// Not a name at all, an address of the overlay that no device has, or a name that a gateway or
    /// the resolvers of a zone do not know.
    #[error("no device has that name or address")]
    UnknownName,
    /// Written like a name of ours, and nothing is called so; its text says whose names were looked
    /// through.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// A short name of different things in several networks.
    #[error("{0}")]
    AmbiguousName(Box<Several>),
    /// A gateway leads to that host, but not to that port.
    #[error("{0}")]
    NotOffered(Box<NotOffered>),
    /// What has that name lies behind a device, and was asked for in a way that only devices
    /// answer.
    #[error("{0}")]
    NotADevice(Box<NotADevice>),
    /// Several networks use the same addresses and this device is in more than one; only a name
    /// says which is meant.
    #[error("several networks use that address; use host.network.domain, or ADDRESS%NETWORK")]
    AmbiguousAddress,
    /// The device exists and is not connected.
    #[error("the device is offline")]
    Offline,
    /// The keys that the controller gives for the device are not those that this device knows, or
    /// are not signed by it. Whoever answered under them could be anybody.
    #[error("the device's keys do not check, so it is not used")]
    Untrusted,
    /// No rule of the network lets this device open that port of that peer.
    #[error("denied by the network's policy")]
    DeniedByPolicy,
    /// This device is not connected to the overlay yet, or not any more.
    #[error("this device is not connected to the overlay")]
    NotReady,
    /// No relay through which the peer could be reached answers.
    #[error("no relay reaches the device")]
    NoRelay,
    /// The gateway is there, and no way leads from it to the host behind it.
    #[error("the gateway cannot reach the host")]
    Unreachable,
    /// The name lies in a zone that others answer for, and none of its resolvers answered.
    #[error("no resolver of the name's zone answers")]
    NoResolver,
    /// The name has an address, but one that lies neither in the overlay nor behind a gateway.
    #[error("the name's address lies neither in the overlay nor behind a gateway")]
    LedNowhere,
    /// Nobody listens on that port of the peer.
    #[error("connection refused")]
    Refused,
    /// The peer did not answer in time.
    #[error("connection timed out")]
    TimedOut,
    /// The door does not offer what was asked for.
    #[error("command not supported")]
    Unsupported,
    /// Trouble of our own, in words for the log.
    #[error("{0}")]
    Internal(String),
}

impl DialError {
    /// The reply code of RFC 1928, section 6.
    #[must_use]
    pub fn socks_reply(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Foreign
            | Self::LedNowhere
            | Self::DeniedByPolicy
            | Self::Untrusted
            | Self::NotOffered(_)
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
    /// Returns whether nobody in the overlay has that destination, so that a door that leads
    /// outside may look for it there. Names of our domain and of private zones never are.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Foreign => true,
            Self::Missing(missing) => missing.is_foreign(),
            Self::NotOffered(not_offered) => not_offered.is_foreign(),
            Self::NotADevice(not_a_device) => not_a_device.is_foreign(),
            Self::UnknownName
            | Self::AmbiguousName(_)
            | Self::AmbiguousAddress
            | Self::Offline
            | Self::Untrusted
            | Self::DeniedByPolicy
            | Self::NotReady
            | Self::NoRelay
            | Self::Unreachable
            | Self::NoResolver
            | Self::LedNowhere
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
            NameError::NotOffered(not_offered) => Self::NotOffered(not_offered),
            NameError::NotADevice(not_a_device) => Self::NotADevice(not_a_device),
            NameError::LedNowhere => Self::LedNowhere,
        }
    }
}

/// Takes the word of the other end of the overlay, or of our own stack.
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

/// Takes the word of the operating system about a connection of its own.
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
            (DialError::Untrusted, 2),
            (DialError::NotReady, 3),
            (DialError::NoRelay, 3),
            (DialError::Unreachable, 4),
            (DialError::NoResolver, 4),
            (DialError::LedNowhere, 2),
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
