//! Seals secrets that the controller must be able to read again, such as that of an identity
//! provider's client: the database alone does not reveal them. Decides which place a sealed text
//! is good for; where it is kept is decided elsewhere.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::key::{KEY_LEN, Secret, random_bytes};
use serde::{Deserialize, Serialize};

use crate::key_file::{self, FileError};

/// Seals and opens texts by the key of this deployment.
#[derive(Debug)]
pub(crate) struct Sealer(RandomizedNonceKey);

/// The key, as its file holds it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSealingKey {
    /// 32 random bytes in base64url.
    key: Secret,
}

/// A sealed text is not the one that was sealed for this place by this deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret cannot be opened: it is damaged, or sealing-key.json is another one")]
pub(crate) struct OpenSealError;

impl Sealer {
    /// Loads the key from `dir`, making one if there is none.
    pub(crate) fn load_or_make(dir: &Path) -> Result<Self, FileError> {
        let file = dir.join(FILE);
        let stored = match key_file::read::<StoredSealingKey>(&file)? {
            Some(stored) => stored,
            None => {
                let key = BASE64URL_NOPAD.encode(&random_bytes::<KEY_LEN>());
                let made = StoredSealingKey {
                    key: Secret::new(&key),
                };
                key_file::write(&file, &made)?;
                made
            }
        };
        let damaged = || FileError::new(&file, "it is damaged: it does not hold a key");
        let key = BASE64URL_NOPAD.decode(stored.key.reveal().as_bytes());
        let key = key.map_err(|_| damaged())?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| damaged())?;
        Ok(Self(key))
    }

    /// Seals `text` for the place that `context` names, such as a table and the id of its row.
    pub(crate) fn seal(&self, context: &str, text: &Secret) -> Vec<u8> {
        let mut sealed = text.reveal().as_bytes().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(context), &mut sealed)
            .expect("a text of some KiB can be sealed");
        [&nonce.as_ref()[..], &sealed].concat()
    }

    /// Opens a text that was sealed for the same place.
    pub(crate) fn open(&self, context: &str, sealed: &[u8]) -> Result<Secret, OpenSealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenSealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenSealError)?;
        let mut text = sealed.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(context), &mut text);
        let opened = opened.map_err(|_| OpenSealError)?;
        let text = std::str::from_utf8(opened).map_err(|_| OpenSealError)?;
        Ok(Secret::new(text))
    }
}

/// The file of the key.
pub(crate) const FILE: &str = "sealing-key.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_in_its_place_and_with_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::load_or_make(dir.path()).unwrap();
        let secret = Secret::new("the-client's-secret");
        let sealed = sealer.seal("clients/1", &secret);
        assert_ne!(sealer.seal("clients/1", &secret), sealed, "no nonce twice");
        let found = sealed.windows(6).any(|part| part == b"secret");
        assert!(!found, "it cannot be read");

        // The key stays over a restart.
        let again = Sealer::load_or_make(dir.path()).unwrap();
        assert_eq!(again.open("clients/1", &sealed), Ok(secret));
        assert_eq!(again.open("clients/2", &sealed), Err(OpenSealError));
        for cut in [0, 5, NONCE_LEN, sealed.len() - 1] {
            assert_eq!(again.open("clients/1", &sealed[..cut]), Err(OpenSealError));
        }
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert_eq!(again.open("clients/1", &changed), Err(OpenSealError));
        let other = tempfile::tempdir().unwrap();
        let other = Sealer::load_or_make(other.path()).unwrap();
        assert_eq!(other.open("clients/1", &sealed), Err(OpenSealError));
    }
}
