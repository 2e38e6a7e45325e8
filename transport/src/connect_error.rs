//! The reasons why a server is not reached, from its name to the end of the TLS handshake.

use std::io;
use std::time::Duration;

/// The reason why there is no TLS connection. One variant per thing the caller tells or does
/// differently.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name that its relay token gave the relay.
        host: String,
        /// Reason.
        source: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Reason of the last attempt.
        source: io::Error,
    },
    /// The proxy on the way there did not connect.
    #[error("the upstream proxy {proxy} did not connect to {address}: {reason}")]
    Proxy {
        /// Its URL, without credentials.
        proxy: String,
        /// `host:port`.
        address: String,
        /// What it said.
        reason: String,
    },
    /// No answer in time.
    #[error("{address} did not answer within {} s", tenths(*waited))]
    TimedOut {
        /// `host:port`.
        address: String,
        /// The time for which was waited.
        waited: Duration,
    },
    /// The server is not the one that was named.
    #[error("{address} is not the server that was named: {reason}")]
    WrongServer {
        /// `host:port`.
        address: String,
        /// What does not fit.
        reason: String,
    },
    /// It took the connection and closed it without a word of TLS.
    #[error(
        "{address} closed the connection before the TLS handshake: it may have as many connections as it takes, so try again \
         in a moment; or another program listens there"
    )]
    Closed {
        /// `host:port`.
        address: String,
    },
    /// What answers does not speak TLS 1.3 with our protocol.
    #[error("{address} does not speak this protocol: {source}")]
    Handshake {
        /// `host:port`.
        address: String,
        /// Reason.
        source: io::Error,
    },
}

/// Seconds as people read them, to a tenth: what was left of a limit is hardly ever a round number.
pub(crate) fn tenths(time: Duration) -> f32 {
    (time.as_secs_f32() * 10.0).round() / 10.0
}
