//! Decides why a key or token cannot be used any more, and how keys are called. Holds no secret and
//! knows no store.

use std::time::Duration;

use overlan_protocol::UnixTime;

use std::fmt;

/// The kinds of secrets by which machines come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Enrols devices; the only kind that can be made for more than one use.
    AuthKey,
    /// Registers one relay.
    RelayToken,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthKey => "auth key",
            Self::RelayToken => "relay token",
        })
    }
}

/// The reason why a key or token cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyEnd {
    /// A person revoked it.
    Revoked,
    /// It was for one use, and that was made.
    Used,
    /// Its life is over.
    Expired,
}

/// Decides which end a key that was refused at `now` came to, and how many seconds ago. Times are
/// seconds since the Unix epoch; `used` is `None` for a key that may be used again.
pub(crate) fn key_end(
    revoked: Option<UnixTime>,
    used: Option<UnixTime>,
    expires: UnixTime,
    now: UnixTime,
) -> (KeyEnd, Duration) {
    let (end, at) = match (revoked, used) {
        (Some(at), _) => (KeyEnd::Revoked, at),
        (None, Some(at)) => (KeyEnd::Used, at),
        (None, None) => (KeyEnd::Expired, expires),
    };
    (end, now.since(at))
}

/// Returns what people call a key: its id, with its note if it has one.
pub(crate) fn noted(id: &str, note: &str) -> String {
    match note {
        "" => id.to_owned(),
        note => format!("{id} ({note})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_key_is_called_revoked_whatever_else_became_of_it() {
        let at = UnixTime::from_secs;
        let end = |revoked: Option<u64>, used: Option<u64>| {
            let (end, ago) = key_end(revoked.map(at), used.map(at), at(7), at(10));
            (end, ago.as_secs())
        };
        assert_eq!(end(Some(5), Some(3)), (KeyEnd::Revoked, 5));
        assert_eq!(end(None, Some(3)), (KeyEnd::Used, 7));
        assert_eq!(end(None, None), (KeyEnd::Expired, 3));
    }
}
