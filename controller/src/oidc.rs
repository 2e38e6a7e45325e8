//! Tokens that an identity provider signs (OpenID Connect): whom a job or a person is proved to be
//! by. Decides whether a token is believed; who may do what by it is decided elsewhere.
//!
//! - `token`, `claims`, `keys`, `refusal` judge one token, with `now` and the issuer's keys.
//! - `address`, `discovery`, `keeping` decide from where keys come, and how long they are kept.
//! - `fetch`, `issuers` are the shells: they connect, and ask each issuer once at a time.

mod address;
mod claims;
mod discovery;
mod fetch;
mod issuers;
mod keeping;
mod keys;
mod refusal;
mod token;

pub use self::address::{IssuerAddresses, ParseIssuerAddressesError};

pub(crate) use self::claims::Claims;
pub(crate) use self::discovery::IssuerUrl;
pub(crate) use self::fetch::check_ca;
pub(crate) use self::issuers::{IssuerError, Issuers, KeySource};
pub(crate) use self::keys::KeySet;
pub(crate) use self::refusal::{Shown, TokenRefusal};
pub(crate) use self::token::{LEEWAY, Token, Verified};

#[cfg(test)]
pub(crate) use self::token::tests::Signer;
