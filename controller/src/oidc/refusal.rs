//! The reasons why a token is refused, each naming the claim or the header field. Decides nothing.
//! Values of the token are shown cut and without control characters: a stranger chose them.

use std::fmt;
use std::time::Duration;

use super::token::{LIFE_MAX, TOKEN_MAX};

/// The reason why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// It is longer than any real one.
    #[error("the token has {len} bytes, and {} are the most", TOKEN_MAX)]
    TooLong { len: usize },
    /// It does not have the form of one.
    #[error("this is not a token: {0}")]
    Form(&'static str),
    /// Its header asks for something that is not understood.
    #[error("header {field} is not understood")]
    Header { field: &'static str },
    /// It is not signed in a way that only its issuer can.
    #[error("header alg is {0}, and only RS256, ES256 and EdDSA are accepted")]
    Algorithm(Shown),
    /// The signing key is not named.
    #[error("header kid is missing, which names the issuer's key")]
    NoKeyId,
    /// A claim is missing.
    #[error("claim {claim} is missing")]
    Missing { claim: &'static str },
    /// A claim is not a text.
    #[error("claim {claim} is not a text")]
    NotText { claim: &'static str },
    /// A claim is not a time.
    #[error("claim {claim} is not a time in seconds")]
    NotTime { claim: &'static str },
    /// It is for several services at once.
    #[error("claim aud names several audiences, and a token must be for this controller alone")]
    SeveralAudiences,
    /// It is from another issuer.
    #[error("claim iss is {is}, which no trust rule names")]
    Issuer { is: Shown },
    /// It is for another service.
    #[error("claim aud is {is}, which no trust rule for this issuer names")]
    Audience { is: Shown },
    /// Its life is over.
    #[error("claim exp: the token expired {} s ago", .ago.as_secs())]
    Expired { ago: Duration },
    /// Its life has not begun.
    #[error(
        "claim {claim}: the token is not valid for another {} s; is a clock wrong?",
        .left.as_secs()
    )]
    NotYet { claim: &'static str, left: Duration },
    /// It lives for too long.
    #[error("claim exp: the token is valid for more than {} h", LIFE_MAX.as_secs() / 3_600)]
    LongLived,
    /// The issuer has no such key.
    #[error("header kid is {0}, and the issuer has no such key")]
    UnknownKey(Shown),
    /// The signature is not by the key that the token names.
    #[error("the signature is not by the issuer's key that header kid names")]
    Signature,
}

/// A value of a token as messages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown(String);

impl Shown {
    pub(crate) fn new(text: &str) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let mut shown: String = text.chars().take(SHOWN_MAX).map(plain).collect();
        if text.chars().nth(SHOWN_MAX).is_some() {
            shown.push('…');
        }
        Self(shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 120;
