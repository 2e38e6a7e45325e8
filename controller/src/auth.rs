//! Secrets that the controller hands out and recognises: how they are made, written and looked up.
//! Holds none of them: the store has their SHA-256, and a lookup by that takes the same time for
//! every guess.

pub(crate) mod password;
pub(crate) mod throttle;

use aws_lc_rs::digest;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use overlan_protocol::key::{KEY_LEN, Secret, random_bytes};

use crate::store::accounts::Digest;

/// A new secret of 256 random bits behind `prefix`.
pub(crate) fn new_secret(prefix: &str) -> Secret {
    let bytes: [u8; KEY_LEN] = random_bytes();
    Secret::new(&format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes)))
}

/// SHA-256 of a secret's text. The secrets have 256 random bits, so a slow hash would protect
/// nothing.
pub(crate) fn digest(text: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    out
}

/// A secret with a public id: `<prefix><id>_<secret>`.
#[derive(Debug)]
pub(crate) struct NamedSecret {
    /// Public part.
    pub(crate) id: String,
    /// SHA-256 of the secret part.
    pub(crate) digest: Digest,
}

impl NamedSecret {
    /// A new one, and its text to be shown once.
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

    /// Reads a text; `None` if it has another form. White space around it is not part of it.
    pub(crate) fn parse(prefix: &str, text: &Secret) -> Option<Self> {
        let (id, secret) = text.reveal().trim().strip_prefix(prefix)?.split_once('_')?;
        let plain = id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| Self {
            id: id.to_owned(),
            digest: digest(secret),
        })
    }
}

/// Prefix of auth keys.
pub(crate) const AUTH_KEY_PREFIX: &str = "ovk_";
/// Prefix of relay tokens.
pub(crate) const RELAY_TOKEN_PREFIX: &str = "ovr_";
/// Prefix of sessions.
pub(crate) const SESSION_PREFIX: &str = "ovs_";
/// Prefix of the setup token.
pub(crate) const SETUP_PREFIX: &str = "ovx_";

/// A session ends this long after its last use, seconds.
pub(crate) const SESSION_IDLE_SECS: u64 = 12 * 3_600;
/// A session ends this long after its beginning, seconds.
pub(crate) const SESSION_LIFE_SECS: u64 = 7 * 24 * 3_600;
/// The last use of a session is written at most this often, seconds: reading must not cost a write
/// each time.
pub(crate) const SESSION_TOUCH_SECS: u64 = 300;

/// Bytes of the public id of a key or token.
const ID_BYTES: usize = 6;

#[cfg(test)]
mod tests;
