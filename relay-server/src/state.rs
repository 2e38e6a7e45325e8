//! Keeps a relay's keys and orders on disk, so that it serves at once after a restart. Decides
//! nothing, and holds no secret longer than asked.
//!
//! ```text
//! <state dir>/          0700
//!   identity.key        0600  32 bytes, the Ed25519 seed
//!   tls.key             0600  PKCS #8 PEM, P-256; clients pin its SPKI, the certificate around it
//!                             is new at each start
//!   registration.json   0600  id, name and the newest orders of the controller
//! ```
//! [`mod@file`] writes them: after a crash there is the old or the new content.

use std::io;
use std::path::{Path, PathBuf};

use overlan_protocol::api::{FormerCas, JoinString, RelayRegisterResponse};
use overlan_protocol::key::{Fingerprint, IdentityKey, IdentitySecret, KEY_LEN};
use overlan_transport::private_dir::{self, PrivateDirError};
use overlan_transport::{file, tls};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    dir: PathBuf,
}

/// The registration as it is written to disk.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept<R> {
    /// The key that registered; a file of an older version does not say.
    #[serde(default)]
    identity: Option<IdentityKey>,
    /// The join string with what the orders said of the controller's CAs; nothing before they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(flatten)]
    former: FormerCas,
    #[serde(flatten)]
    registration: R,
}

/// A registration, and the controller as it is recognised now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) answer: RelayRegisterResponse,
    /// Nothing if the controller never named its CAs.
    pub(crate) join: Option<JoinString>,
}

/// The relay's TLS key with a certificate around it.
pub(crate) struct TlsIdentity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// SHA-256 of the key's SPKI.
    pub(crate) pin: Fingerprint,
}

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or the directory cannot be read or written.
    #[error("cannot use {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// Other users could read or change the directory.
    #[error("cannot use {}: {reason}", dir.display())]
    Unsafe {
        /// The directory.
        dir: PathBuf,
        /// The fault, and the command that mends it.
        reason: String,
    },
    /// The content of a file does not fit.
    #[error("{} is damaged: {reason}; {remedy}", file.display())]
    Damaged {
        /// The file or directory.
        file: PathBuf,
        /// The part that does not fit.
        reason: String,
        /// The next step of the operator.
        remedy: &'static str,
    },
}

impl StateDir {
    /// Opens the directory and makes it if needed.
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        private_dir::make(dir, KEYS).map_err(|error| match error {
            PrivateDirError::Io(source) => io_error(dir, source),
            PrivateDirError::Unfit(reason) => StateError::Unsafe {
                dir: dir.to_owned(),
                reason,
            },
        })?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The relay's identity; a new one is written first.
    pub(crate) fn identity(&self) -> Result<IdentitySecret, StateError> {
        let file = self.dir.join(IDENTITY);
        let Some(bytes) = self.read(IDENTITY)? else {
            let secret = IdentitySecret::generate();
            self.write(IDENTITY, secret.seed())?;
            return Ok(secret);
        };
        let seed: [u8; KEY_LEN] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| StateError::Damaged {
                file,
                reason: format!("it does not hold {KEY_LEN} bytes"),
                remedy: REREGISTER,
            })?;
        Ok(IdentitySecret::from_seed(seed))
    }

    /// The TLS key, with a fresh self-signed certificate; a new key is written first.
    pub(crate) fn tls(&self) -> Result<TlsIdentity, StateError> {
        let file = self.dir.join(TLS_KEY);
        let damaged = |reason: String| StateError::Damaged {
            file: file.clone(),
            reason,
            remedy: "remove the file: the relay makes another key and tells the controller",
        };
        let pair = match self.read(TLS_KEY)? {
            Some(bytes) => {
                let pem = str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
                KeyPair::from_pem(pem).map_err(|error| damaged(error.to_string()))?
            }
            None => {
                let pair = KeyPair::generate().map_err(|error| damaged(error.to_string()))?;
                self.write(TLS_KEY, pair.serialize_pem().as_bytes())?;
                pair
            }
        };
        let certificate = CertificateParams::new([CERTIFICATE_NAME.to_owned()])
            .and_then(|params| params.self_signed(&pair))
            .map_err(|error| damaged(error.to_string()))?;
        let certificate = certificate.der().clone();
        let pin = tls::key_fingerprint(&certificate)
            .ok_or_else(|| damaged("its certificate does not parse".to_owned()))?;
        Ok(TlsIdentity {
            certificate,
            key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
            pin,
        })
    }

    /// Reads the controller's last answer, if the relay is registered. It must have registered with
    /// `identity`.
    pub(crate) fn registration(
        &self,
        identity: IdentityKey,
    ) -> Result<Option<Registration>, StateError> {
        let file = self.dir.join(REGISTRATION);
        let Some(bytes) = self.read(REGISTRATION)? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice::<Kept<RelayRegisterResponse>>(&bytes);
        let kept = parsed.map_err(|error| StateError::Damaged {
            file,
            reason: error.to_string(),
            remedy: REREGISTER,
        })?;
        if kept.identity.is_some_and(|known| known != identity) {
            return Err(StateError::Damaged {
                file: self.dir.join(IDENTITY),
                reason: "it is not the key that this relay registered with".to_owned(),
                remedy: REREGISTER,
            });
        }
        let join = kept.server.and_then(|server| server.parse().ok());
        Ok(Some(Registration {
            answer: kept.registration,
            join: join.map(|join| JoinString {
                former: kept.former,
                ..join
            }),
        }))
    }

    /// Writes the controller's answer.
    pub(crate) fn store_registration(
        &self,
        identity: IdentityKey,
        registration: &Registration,
    ) -> Result<(), StateError> {
        let kept = Kept {
            identity: Some(identity),
            server: registration.join.as_ref().map(ToString::to_string),
            former: registration
                .join
                .as_ref()
                .map_or_else(FormerCas::default, |join| join.former.clone()),
            registration: &registration.answer,
        };
        let bytes = serde_json::to_vec_pretty(&kept)
            .map_err(|error| io_error(&self.dir.join(REGISTRATION), error.into()))?;
        self.write(REGISTRATION, &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.dir.join(name);
        file::write(&path, bytes).map_err(|source| io_error(&path, source))
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.dir.join(name);
        file::read(&path, FILE_MAX).map_err(|source| io_error(&path, source))
    }
}

fn io_error(file: &Path, source: io::Error) -> StateError {
    StateError::Io {
        file: file.to_owned(),
        source,
    }
}

/// The purpose of the directory, for messages about it.
const KEYS: private_dir::Purpose = private_dir::Purpose {
    option: "--state-dir",
    keys: "this relay's keys",
};

const IDENTITY: &str = "identity.key";
const TLS_KEY: &str = "tls.key";
const REGISTRATION: &str = "registration.json";

const REREGISTER: &str =
    "move the state directory away and start again with a new relay token, or restore a backup";

/// A name for the certificate, which has no meaning: clients know the key.
const CERTIFICATE_NAME: &str = "relay.overlan.invalid";

/// Most that is read of a file, bytes: twice the controller's largest answer.
const FILE_MAX: u64 = 2 * overlan_protocol::api::RESPONSE_MAX as u64;

#[cfg(test)]
mod tests;
