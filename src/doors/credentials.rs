//! The user name and the password of a proxy, and the comparison with those that a client gives.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, Digest, SHA256};
use overlan_protocol::key::Secret;

/// The user name and the password that every client must give.
#[derive(Debug, Clone)]
pub struct ProxyCredentials {
    user: String,
    password: Secret,
}

/// The reason why credentials cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableCredentials {
    /// Empty, or longer than a client can send.
    #[error("the user name and the password must have 1 to {LEN_MAX} bytes each")]
    Length,
    /// HTTP ends the user name at the first colon, so no client could send it.
    #[error("the user name must not contain a colon")]
    Colon,
}

impl ProxyCredentials {
    /// Takes a user name and a password of 1 to 255 bytes each.
    ///
    /// # Errors
    /// See [`UnusableCredentials`].
    pub fn new(user: String, password: Secret) -> Result<Self, UnusableCredentials> {
        let fits = |text: &str| (1..=LEN_MAX).contains(&text.len());
        if !fits(&user) || !fits(password.reveal()) {
            return Err(UnusableCredentials::Length);
        }
        if user.contains(':') {
            return Err(UnusableCredentials::Colon);
        }
        Ok(Self { user, password })
    }

    /// Returns whether both are the same.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.are(other.user.as_bytes(), other.password.reveal().as_bytes())
    }

    /// Returns whether `user` and `password` are these. It takes as long for one wrong byte as for
    /// all, and reveals no length.
    pub(crate) fn are(&self, user: &[u8], password: &[u8]) -> bool {
        let own = fingerprint(self.user.as_bytes(), self.password.reveal().as_bytes());
        verify_slices_are_equal(fingerprint(user, password).as_ref(), own.as_ref()).is_ok()
    }
}

/// A digest of equal length for all inputs, so that a comparison in constant time hides lengths
/// too.
fn fingerprint(user: &[u8], password: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&(user.len() as u64).to_be_bytes());
    context.update(user);
    context.update(password);
    context.finish()
}

/// Bytes of a user name and of a password (RFC 1929 has one byte for the length).
pub const LEN_MAX: usize = 255;
