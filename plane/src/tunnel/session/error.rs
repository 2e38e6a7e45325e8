//! The reasons why a session does not seal or open a message.

use thiserror::Error;

/// The reason why a packet was not sealed. The buffer is unchanged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// No session: keep the packet, call [`handle_want_send`], wait for [`Established`].
    ///
    /// [`handle_want_send`]: super::PeerSession::handle_want_send
    /// [`Established`]: super::Event::Established
    #[error("no session with this peer yet")]
    NoSession,
    /// The session has reached its hard limit of messages or bytes. Treat it like `NoSession`; it
    /// is separate because it means that handshakes have failed under load for a long time.
    #[error("the session has sealed as much as its keys allow")]
    Exhausted,
    /// The buffer is too short for header and tag, or longer than a message can be: a mistake of
    /// the caller.
    #[error("the buffer does not fit a tunnel message")]
    Length,
}

/// The reason why a message was dropped. Nothing but a counter should follow, except for
/// [`UnknownIndex`](Self::UnknownIndex).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// It does not have the form of a tunnel message.
    #[error("not a tunnel message")]
    Malformed,
    /// It is for keys or a handshake that this side does not have: it is late, or both sides came
    /// to hold different keys, because one was restarted or handshakes were lost. In the latter
    /// case a new handshake is under way; late messages cause few of them.
    #[error("the message is for an unknown session")]
    UnknownIndex,
    /// The counter was used before or is older than the window.
    #[error("the message was seen before")]
    Replayed,
    /// The cipher rejects it, or it was made with another key than the peer's.
    #[error("the message is not authentic")]
    Forged,
    /// The peer sent more handshakes per second than it may.
    #[error("the peer sent too many handshakes within a second")]
    RateLimited,
    /// Its keys have reached the end of their age or use.
    #[error("the message is for an expired session")]
    Expired,
}

impl OpenError {
    /// Every reason, for registering one counter each.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::UnknownIndex,
        Self::Replayed,
        Self::Forged,
        Self::RateLimited,
        Self::Expired,
    ];

    /// The name for metrics. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownIndex => "unknown_index",
            Self::Replayed => "replayed",
            Self::Forged => "forged",
            Self::RateLimited => "rate_limited",
            Self::Expired => "expired",
        }
    }
}
