//! Requests and responses about a login that one machine asks for and a person grants on another
//! one (RFC 8628): how it is begun, polled, looked at and decided. Re-exported by [`crate::api`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::sessions::LoginResponse;
use crate::UnixTime;
use crate::key::{Secret, random_bytes};

/// Asks for a login that somebody grants elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginBeginRequest {
    /// The program that asks, in its own words; at most [`LOGIN_WORDS_MAX`] characters.
    pub program: String,
    /// The name of the machine that asks, in its own words; at most [`LOGIN_WORDS_MAX`]
    /// characters.
    pub host: String,
}

/// Most characters of what a login request says about itself.
pub const LOGIN_WORDS_MAX: usize = 64;

/// A login request that waits for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginBegun {
    /// Opens the session when the request was granted; nobody but the program that asks has it.
    pub secret: Secret,
    /// The [`UserCode`] that the person enters.
    pub code: String,
    /// Its end.
    pub expires: UnixTime,
    /// The time between two polls, seconds.
    pub interval_secs: u32,
}

/// Names the login request of the program that asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginSecret {
    /// That of [`LoginBegun`].
    pub secret: Secret,
}

/// The standing of a login request, for the program that asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum LoginPolled {
    /// Nobody has decided yet.
    Pending {
        /// The time until the next poll, seconds.
        interval_secs: u32,
    },
    /// The poll came too early; nobody has decided yet.
    SlowDown {
        /// The time until the next poll, seconds. It is longer than before.
        interval_secs: u32,
    },
    /// Somebody refused.
    Denied {
        /// One line for people.
        reason: String,
    },
    /// Nobody decided in time.
    Expired,
    /// Somebody granted it. The request has ended: the session is given once.
    Approved {
        /// The session.
        login: LoginResponse,
    },
}

/// Names a login request by the code that the person was shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginCode {
    /// A [`UserCode`].
    pub code: String,
}

/// A login request, for the person who decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginAsked {
    /// The [`UserCode`].
    pub code: String,
    /// The program that asks, as it says itself.
    pub program: String,
    /// The machine that asks, as it says itself.
    pub host: String,
    /// The address from which the controller was asked: an IPv4 address, or the /56 of an IPv6
    /// one.
    pub source: String,
    /// The time at which it was asked.
    pub asked: UnixTime,
    /// Its end.
    pub expires: UnixTime,
}

/// The code that a person carries from one machine to the other: eight consonants, shown as
/// `XXXX-XXXX`. It has no vowels, so it is not a word, and no digits, which look like letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserCode([u8; CODE_LEN]);

impl UserCode {
    /// Makes a code at random; there are 2.5 · 10¹⁰.
    #[must_use]
    pub fn random() -> Self {
        let mut code = [0; CODE_LEN];
        let mut filled = 0;
        while filled < CODE_LEN {
            for byte in random_bytes::<{ 2 * CODE_LEN }>() {
                // A byte beyond the largest multiple would make some letters more likely.
                let letters = CODE_LETTERS.len();
                let fits = usize::from(byte) < 256 / letters * letters;
                if let (true, Some(place)) = (fits, code.get_mut(filled)) {
                    *place = CODE_LETTERS[usize::from(byte) % letters];
                    filled += 1;
                }
            }
        }
        Self(code)
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, letter) in self.0.iter().enumerate() {
            if place == CODE_LEN / 2 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl FromStr for UserCode {
    type Err = ParseCodeError;

    /// Reads a code as people type it: in any case of letters, with or without the hyphen.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut code = [0; CODE_LEN];
        let mut places = code.iter_mut();
        let typed = text
            .chars()
            .filter(|letter| !matches!(letter, '-' | ' '))
            .take(CODE_LEN + 1);
        for letter in typed {
            let letter = u8::try_from(letter.to_ascii_uppercase()).map_err(|_| ParseCodeError)?;
            let place = places.next().ok_or(ParseCodeError)?;
            if !CODE_LETTERS.contains(&letter) {
                return Err(ParseCodeError);
            }
            *place = letter;
        }
        match places.next() {
            None => Ok(Self(code)),
            Some(_) => Err(ParseCodeError),
        }
    }
}

/// The text is not a code of a login request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has eight letters, such as WDJB-MJHT, and no vowels or digits")]
pub struct ParseCodeError;

/// Letters of a code: no vowels, and no Y, which can stand for one.
const CODE_LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters in a code.
const CODE_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code: UserCode = "WDJB-MJHT".parse().unwrap();
        assert_eq!(code.to_string(), "WDJB-MJHT");
        for typed in ["wdjbmjht", " wdjb mjht ", "WD-JB-MJ-HT"] {
            assert_eq!(typed.parse(), Ok(code), "{typed}");
        }
        for wrong in [
            "",
            "WDJB-MJH",
            "WDJB-MJHTT",
            "WDJA-MJHT",
            "WDJ8-MJHT",
            "ẞDJB-MJHT",
        ] {
            assert_eq!(wrong.parse::<UserCode>(), Err(ParseCodeError), "{wrong}");
        }
    }

    #[test]
    fn codes_differ_and_can_be_read_again() {
        let codes: Vec<_> = (0..200).map(|_| UserCode::random()).collect();
        for code in &codes {
            assert_eq!(code.to_string().parse(), Ok(*code));
            assert_eq!(codes.iter().filter(|other| *other == code).count(), 1);
        }
    }
}
