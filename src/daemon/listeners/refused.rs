//! The reasons why listeners do not open, in words for the person who configured them. Decides the
//! next step for each, but no exit code.

use std::io;
use std::net::SocketAddr;

use crate::device::node::DNS_FORWARDS_MAX;
use crate::doors::proxy::{ListenRefused, UnixDoorError};

/// The reason why the listeners of `up` do not open, or stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// The proxy and the DNS server cannot share an address.
    #[error("--socks and --dns are both {0}")]
    SameAddress(SocketAddr),
    /// The word `off` is one of several entries of a list.
    #[error("{flag} off is given together with {others}")]
    OffAndOthers {
        /// The flag with the list.
        flag: &'static str,
        /// The other entries of the list.
        others: &'static str,
    },
    /// Other hosts could use the proxy without a password.
    #[error(transparent)]
    NeedsCredentials(#[from] ListenRefused),
    /// Other hosts could reach the proxy, and --socks-public is not given.
    #[error("--socks {0} is not a loopback address, so other hosts may reach it")]
    Public(SocketAddr),
    /// The operating system refuses the address.
    #[error("cannot listen on {address} for {flag}: {source}")]
    Bind {
        /// The flag with the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// True if another listener of this process has the port.
        is_ours: bool,
        /// The system's reason.
        source: io::Error,
    },
    /// The Unix socket cannot be opened.
    #[error(transparent)]
    Unix(#[from] UnixDoorError),
    /// Foreign names cannot be forwarded to this resolver.
    #[error("--dns-forward {address} {why}")]
    Forward {
        /// The resolver.
        address: SocketAddr,
        /// The reason.
        why: ForwardRefused,
    },
    /// There are too many resolvers.
    #[error("--dns-forward names {0} resolvers; at most {DNS_FORWARDS_MAX} are possible")]
    TooManyForwards(usize),
    /// The DNS server would ask itself, since the present forwards stay until the next start.
    #[error("--dns {listener} is {forward}, to which foreign names are still forwarded")]
    Circle {
        /// The new address of the DNS server.
        listener: SocketAddr,
        /// The present forward.
        forward: SocketAddr,
    },
    /// Other hosts would reach a DNS server that forwards, since the present forwards stay until
    /// the next start.
    #[error(
        "--dns {listener} would be an open resolver: foreign names are still forwarded to {forward}"
    )]
    OpenResolver {
        /// The new address of the resolver.
        listener: SocketAddr,
        /// The present forward.
        forward: SocketAddr,
    },
}

/// The reason why foreign names cannot be forwarded to a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardRefused {
    /// The DNS server is off.
    #[error("has no effect, since --dns is off")]
    NoListener,
    /// The address stands for any address.
    #[error("is not an address of a resolver")]
    Unspecified,
    /// The address is in the overlay.
    #[error("is an address of the overlay")]
    InOverlay,
    /// The address is that of this device's own DNS server.
    #[error("is the address of this device's own DNS server")]
    Itself,
    /// Other hosts could use the resolver through this device.
    #[error("would make an open resolver of --dns {0}, which other hosts can reach")]
    OpenResolver(SocketAddr),
}

impl ListenersError {
    /// Returns true if the settings contradict each other, false if the host refuses them.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::SameAddress(_)
            | Self::OffAndOthers { .. }
            | Self::NeedsCredentials(_)
            | Self::Public(_)
            | Self::Forward { .. }
            | Self::TooManyForwards(_)
            | Self::Circle { .. }
            | Self::OpenResolver { .. } => true,
            Self::Bind { .. } | Self::Unix(_) => false,
        }
    }

    /// Returns the next step, where the error itself does not name it.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let text = match self {
            Self::SameAddress(_) => "Give one of them another port, or turn it off.",
            Self::NeedsCredentials(_) => {
                "Use a loopback address, or give --socks-public, --socks-user and \
                 --socks-password-file."
            }
            Self::Public(_) => "Add --socks-public if you want that.",
            Self::Bind { source, .. } if source.kind() != io::ErrorKind::AddrInUse => return None,
            Self::Bind { is_ours: true, .. } => {
                "This `overlan up` has that port itself, at another address; moving a port to \
                 another address takes a restart."
            }
            Self::Bind { flag, .. } => {
                return Some(format!(
                    "Another program has the port, maybe another `overlan up`. Give {flag} \
                     another port, or off."
                ));
            }
            Self::Unix(_) => "Give --socks another path, or stop the program that has it.",
            Self::Forward { why, .. } => return why.next_step().map(str::to_owned),
            Self::Circle { .. } | Self::OpenResolver { .. } => {
                "A change of --dns-forward takes a restart."
            }
            Self::OffAndOthers { .. } | Self::TooManyForwards(_) => return None,
        };
        Some(text.to_owned())
    }
}

impl ForwardRefused {
    fn next_step(self) -> Option<&'static str> {
        match self {
            Self::NoListener => Some("Give --dns an address, or leave --dns-forward out."),
            Self::Unspecified => None,
            Self::InOverlay => Some(
                "For resolvers in the overlay use a zone: `overlan admin dns zone add NAME \
                 --resolver ADDRESS`.",
            ),
            Self::Itself => {
                Some("Name the resolver of this host's network; /etc/resolv.conf often does.")
            }
            Self::OpenResolver(_) => Some(
                "Give --dns a loopback address such as 127.0.0.1:1053, or leave --dns-forward out.",
            ),
        }
    }
}
