//! The reasons why a server is not reached, from its name to the end of the TLS handshake.

use std::io;
use std::time::Duration;

/// The reason why there is no TLS connection. One variant per thing that the caller reports or does
/// differently.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The error of the last attempt.
        source: io::Error,
    },
    /// The proxy on the way there did not connect.
    #[error("the upstream proxy {proxy} did not connect to {address}: {reason}")]
    Proxy {
        /// Its URL, without credentials.
        proxy: String,
        /// `host:port`.
        address: String,
        /// The proxy's answer, or the failure in reaching it.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("{address} did not answer within {} s", tenths(*waited))]
    TimedOut {
        /// `host:port`.
        address: String,
        /// The time that the caller waited.
        waited: Duration,
    },
    /// The server is not the one that the caller named.
    #[error("{address} is not the server that was named: {reason}")]
    WrongServer {
        /// `host:port`.
        address: String,
        /// The difference between the two.
        reason: String,
    },
    /// The server accepted the connection and closed it before the TLS handshake.
    #[error(
        "{address} closed the connection before the TLS handshake; \
        it may have no room for more connections, so try again in a moment, \
        or check that no other program listens there"
    )]
    Closed {
        /// `host:port`.
        address: String,
    },
    /// The server does not speak TLS 1.3 with our protocol.
    #[error("{address} does not speak this protocol: {source}")]
    Handshake {
        /// `host:port`.
        address: String,
        /// The error of the handshake.
        source: io::Error,
    },
}

/// Rounds seconds to a tenth for people: the rest of a limit is hardly ever a round number.
pub(crate) fn tenths(time: Duration) -> f32 {
    (time.as_secs_f32() * 10.0).round() / 10.0
}
