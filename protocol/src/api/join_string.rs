//! The join string: decides which texts name a controller, and which of them need a fingerprint.
//! Re-exported by [`crate::api`].

use std::fmt;
use std::str::FromStr;

use crate::HostPort;
use crate::key::Fingerprint;

/// A controller's address and the means to recognise it: `https://host:port#sha256:<fingerprint>`.
///
/// The fingerprint is the SHA-256 of the deployment CA's certificate. Without one the controller's
/// certificate must chain to a public root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinString {
    /// The controller's name or address, and its port.
    pub server: HostPort,
    /// The pinned CA of the deployment; `None` = a public one vouches for the controller.
    pub ca: Option<Fingerprint>,
}

/// A text that is not a join string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join string: {0}; copy it as `overlan controller serve` prints it, \
    such as https://controller.example:8443#sha256:…"
)]
pub struct ParseJoinError(&'static str);

impl FromStr for JoinString {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, ParseJoinError> {
        let rest = text
            .trim()
            .strip_prefix("https://")
            .ok_or(ParseJoinError("it must start with https://"))?;
        let (authority, fragment) = match rest.split_once('#') {
            Some((authority, fragment)) => (authority, Some(fragment)),
            None => (rest, None),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '@']) {
            return Err(ParseJoinError("it cannot have a path, query or user"));
        }
        let server = HostPort::parse_or(authority, DEFAULT_PORT)
            .map_err(|error| ParseJoinError(error.reason()))?;
        let ca = match fragment {
            None if !may_be_public(&server) => {
                return Err(ParseJoinError(
                    "the fingerprint is missing, and a host that is not public needs one",
                ));
            }
            None => None,
            Some(fragment) => {
                let pin = fragment
                    .strip_prefix("sha256:")
                    .ok_or(ParseJoinError("the part after # must start with sha256:"))?;
                Some(
                    pin.parse()
                        .map_err(|_| ParseJoinError("the fingerprint after # is damaged"))?,
                )
            }
        };
        Ok(Self { server, ca })
    }
}

/// Returns whether the host has a public name or address, so that a public CA may vouch for it.
fn may_be_public(server: &HostPort) -> bool {
    use std::net::IpAddr;
    match server.address().map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || shared)
        }
        Some(IpAddr::V6(v6)) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
        None => {
            let name = server.host().trim_end_matches('.').to_ascii_lowercase();
            let last = name.rsplit_once('.').map(|(_, last)| last);
            last.is_some_and(|last| !PRIVATE_DOMAINS.contains(&last))
        }
    }
}

/// Last labels that are never delegated (RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of
/// `internal`).
const PRIVATE_DOMAINS: [&str; 7] = [
    "internal",
    "local",
    "localhost",
    "test",
    "invalid",
    "lan",
    "home",
];

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.server)?;
        match &self.ca {
            Some(ca) => write!(f, "#sha256:{ca}"),
            None => Ok(()),
        }
    }
}

/// Port of a controller whose join string names none: that of HTTPS.
const DEFAULT_PORT: u16 = 443;

#[cfg(test)]
mod tests;
