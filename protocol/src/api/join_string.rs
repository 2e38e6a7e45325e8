//! The join string: decides which texts name a controller, and which of them need a fingerprint.
//! Re-exported by [`crate::api`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
    /// The CAs before that one. They are not in the text.
    pub former: FormerCas,
}

/// The CAs that a controller had before its present one, as somebody who follows it keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerCas {
    /// The one before, while the controller may still be recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_before: Option<Fingerprint>,
    /// Those that have ended, the newest first: they are not trusted, and an old join string with
    /// one of them still means this controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cas_ended: Vec<Fingerprint>,
}

impl JoinString {
    /// Returns the CAs by which the controller is recognised; none = a public one vouches for it.
    #[must_use]
    pub fn trusted(&self) -> Vec<Fingerprint> {
        let before = self.ca.and(self.former.ca_before);
        self.ca.into_iter().chain(before).collect()
    }

    /// Returns whether `other`, as somebody wrote it down, means the controller that this one has
    /// followed: by its present CA, or by one that it had.
    #[must_use]
    pub fn is_known_as(&self, other: &Self) -> bool {
        let once = self.former.cas_ended.iter().copied().map(Some);
        let mut known = [self.ca, self.former.ca_before.or(self.ca)]
            .into_iter()
            .chain(once);
        self.server == other.server && known.any(|ca| ca == other.ca)
    }

    /// Takes up the CAs that the controller, recognised by this, names as its own: the present one,
    /// and the one before while it counts. Returns whether anything changed.
    pub fn learn(&mut self, cas: &[Fingerprint]) -> bool {
        let (Some(own), Some(newest)) = (self.ca, cas.first().copied()) else {
            return false;
        };
        let held = self.trusted();
        // Only a CA that was trusted before: it is not for the controller to add old ones.
        let before = held
            .iter()
            .copied()
            .find(|ca| *ca != newest && cas.contains(ca));
        let ended = held
            .into_iter()
            .chain(self.former.cas_ended.iter().copied());
        let ended = ended.filter(|ca| *ca != newest && Some(*ca) != before);
        let former = FormerCas {
            ca_before: before,
            cas_ended: ended.take(ENDED_MAX).collect(),
        };
        if own == newest && former == self.former {
            return false;
        }
        (self.ca, self.former) = (Some(newest), former);
        true
    }
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
        Ok(Self {
            server,
            ca,
            former: FormerCas::default(),
        })
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

/// CAs that have ended and are still known by name: a rotation a year, for longer than a CA lives.
const ENDED_MAX: usize = 12;

/// Port of a controller whose join string names none: that of HTTPS.
const DEFAULT_PORT: u16 = 443;

#[cfg(test)]
mod tests;
