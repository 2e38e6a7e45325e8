//! Tokens that an identity provider signs (OpenID Connect): whom a job or a person is proved to be
//! by. Decides whether a token is believed; who may do what by it is decided elsewhere.
//!
//! - `token`, `claims`, `keys`, `refusal` judge one token, with `now` and the issuer's keys.
//! - `address`, `discovery`, `keeping` decide from where keys come, and how long they are kept.
//! - `endpoints`, `sign_on`, `refreshing` decide how a person logs in by a provider, whom its token
//!   names, and when it is asked again; `provider` is their shell.
//! - `fetch`, `issuers` are the shells: they connect, and ask each issuer once at a time.

mod address;
mod claims;
mod discovery;
mod endpoints;
mod fetch;
mod issuers;
mod keeping;
mod keys;
mod provider;
mod refreshing;
mod refusal;
mod sign_on;
mod token;

pub use self::address::{IssuerAddresses, ParseIssuerAddressesError};

pub(crate) use self::claims::Claims;
pub(crate) use self::discovery::IssuerUrl;
pub(crate) use self::fetch::check_ca;
pub(crate) use self::issuers::{IssuerError, Issuers, KeySource};
pub(crate) use self::keys::KeySet;
pub(crate) use self::provider::{Answer, Client, Code, ProviderError};
pub(crate) use self::refreshing::Refreshing;
pub(crate) use self::refusal::{Shown, TokenRefusal};
pub(crate) use self::sign_on::{Groups, Ties, address};
pub(crate) use self::token::{LEEWAY, Token, Verified};

#[cfg(test)]
pub(crate) use self::token::tests::Signer;
