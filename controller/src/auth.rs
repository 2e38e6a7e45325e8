//! Secrets that the controller hands out and recognises: makes, reads and digests them. Keeps none:
//! the store has their SHA-256, and looking one up by that takes the same time for every guess.

pub(crate) mod password;
pub(crate) mod throttle;

use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use overlan_protocol::key::{KEY_LEN, Secret, random_bytes};

use crate::store::accounts::Digest;

/// Makes a secret of 256 random bits after `prefix`.
pub(crate) fn new_secret(prefix: &str) -> Secret {
    let bytes: [u8; KEY_LEN] = random_bytes();
    Secret::new(&format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes)))
}

/// Returns the SHA-256 of a secret's text. The secrets have 256 random bits, so a slow hash would
/// protect nothing.
pub(crate) fn digest(text: impl AsRef<[u8]>) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_ref()).as_ref());
    out
}

/// A secret with a public id: `<prefix><id>_<secret>`.
#[derive(Debug)]
pub(crate) struct NamedSecret {
    /// The public part.
    pub(crate) id: String,
    /// The SHA-256 of the secret part.
    pub(crate) digest: Digest,
}

impl NamedSecret {
    /// Makes a new one, and its text, which is shown once.
    pub(crate) fn generate(prefix: &str) -> (Self, Secret) {
        let id = HEXLOWER.encode(&random_bytes::<ID_BYTES>());
        let secret = new_secret("");
        let text = Secret::new(&format!("{prefix}{id}_{}", secret.reveal()));
        let named = Self {
            id,
            digest: digest(secret.reveal()),
        };
        (named, text)
    }

    /// Reads a text, without the white space around it; `None` if it has another form.
    pub(crate) fn parse(prefix: &str, text: &Secret) -> Option<Self> {
        let (id, secret) = text.reveal().trim().strip_prefix(prefix)?.split_once('_')?;
        let plain = id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| Self {
            id: id.to_owned(),
            digest: digest(secret),
        })
    }
}

/// Prefix of API tokens.
pub(crate) const API_TOKEN_PREFIX: &str = "ovt_";
/// Prefix of auth keys.
pub(crate) const AUTH_KEY_PREFIX: &str = "ovk_";
/// Prefix of relay tokens.
pub(crate) const RELAY_TOKEN_PREFIX: &str = "ovr_";
/// Prefix of sessions.
pub(crate) const SESSION_PREFIX: &str = "ovs_";
/// Prefix of the setup token.
pub(crate) const SETUP_PREFIX: &str = "ovx_";

/// The time after its last use at which a session ends, seconds.
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(12 * 3_600);
/// The time after its beginning at which a session ends, seconds.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The time between two notes of a session's last use, seconds: a request that reads must not cost
/// a write each time.
pub(crate) const SESSION_TOUCH: Duration = Duration::from_secs(300);

/// The time between two notes of an API token's last use, seconds: the same reason.
pub(crate) const API_TOKEN_TOUCH: Duration = Duration::from_secs(60);
/// The time for which an API token that has expired is listed, and says so to its user, seconds.
pub(crate) const API_TOKEN_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Bytes of the public id of a key or token.
const ID_BYTES: usize = 6;

#[cfg(test)]
mod tests;
