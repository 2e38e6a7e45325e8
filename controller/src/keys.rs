//! The keys of a running deployment: the signer of tickets and the identity of the server. Decides
//! when they are replaced and who hears of it; [`crate::tickets`] and [`crate::ca`] make them.
//!
//! The files are the truth: a rotation is one write, and what is in memory and in the database
//! follows it, now or at the next start.

use std::path::PathBuf;
use std::sync::Arc;

use overlan_protocol::ALPN_CONTROLLER;
use overlan_protocol::UnixTime;
use overlan_protocol::key::Fingerprint;
use overlan_transport::tls;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::ca::{self, RotateCaError, ServerIdentity};
use crate::key_file::FileError;
use crate::tickets::{RotateError, TicketSigner};

/// The keys, each of which may be replaced while others use it.
#[derive(Debug)]
pub(crate) struct Keys {
    dir: PathBuf,
    /// The names of the server's certificate.
    names: Vec<String>,
    /// One rotation at a time. Held while files are written.
    rotating: Mutex<()>,
    signer: RwLock<Arc<TicketSigner>>,
    server: RwLock<Arc<Server>>,
    /// Wakes streams and relays when a key changed.
    changed: watch::Sender<()>,
}

/// The identity that the server shows to those who connect.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) identity: ServerIdentity,
    pub(crate) tls: Arc<ServerConfig>,
}

/// The reason why the server's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate and the key do not make a server.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The ticket key is not replaced now.
    #[error(transparent)]
    Ticket(#[from] RotateError),
    /// The CA is not replaced now.
    #[error(transparent)]
    Ca(#[from] RotateCaError),
}

impl Keys {
    /// Loads the keys from `dir`, and makes those that are missing. The CA must be the `known` one.
    pub(crate) fn load_or_make(
        dir: PathBuf,
        names: Vec<String>,
        now: UnixTime,
        known: Option<Fingerprint>,
    ) -> Result<Self, KeysError> {
        let identity = ca::load_or_make(&dir, &names, now, known)?;
        Ok(Self {
            rotating: Mutex::new(()),
            signer: RwLock::new(Arc::new(TicketSigner::load_or_make(&dir)?)),
            server: RwLock::new(Arc::new(Server::new(identity)?)),
            changed: watch::Sender::new(()),
            dir,
            names,
        })
    }

    /// Returns what signs tickets now.
    pub(crate) fn signer(&self) -> Arc<TicketSigner> {
        self.signer.read().clone()
    }

    /// Returns what new connections are shown now.
    pub(crate) fn server(&self) -> Arc<Server> {
        self.server.read().clone()
    }

    /// Wakes streams and relays, after the database has the orders with the present keys.
    pub(crate) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Returns a receiver that hears of each change.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Replaces the ticket key. It waits for the disk.
    pub(crate) fn rotate_ticket(&self, now: UnixTime) -> Result<(), KeysError> {
        let _rotating = self.rotating.lock();
        TicketSigner::rotate(&self.dir, now)?;
        *self.signer.write() = Arc::new(TicketSigner::load_or_make(&self.dir)?);
        Ok(())
    }

    /// Replaces the CA; the one before counts until `ends`. It waits for the disk.
    pub(crate) fn rotate_ca(&self, now: UnixTime, ends: UnixTime) -> Result<(), KeysError> {
        let _rotating = self.rotating.lock();
        ca::rotate(&self.dir, now, ends)?;
        self.load_server(now)
    }

    /// Ends the CA before the present one when its time has come; says whether it did. It waits for
    /// the disk.
    pub(crate) fn end_previous_ca(&self, now: UnixTime) -> Result<bool, KeysError> {
        let is_over = |(_, ends)| ends <= now;
        if !self.server().identity.previous.is_some_and(is_over) {
            return Ok(false);
        }
        let _rotating = self.rotating.lock();
        self.load_server(now)?;
        Ok(true)
    }

    fn load_server(&self, now: UnixTime) -> Result<(), KeysError> {
        let known = Some(self.server().identity.ca);
        let identity = ca::load_or_make(&self.dir, &self.names, now, known)?;
        *self.server.write() = Arc::new(Server::new(identity)?);
        Ok(())
    }
}

impl Server {
    fn new(identity: ServerIdentity) -> Result<Self, rustls::Error> {
        let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
        let tls = tls::server_config(chain, key, ALPN_CONTROLLER)?;
        Ok(Self { identity, tls })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_running_controller_changes_its_keys_and_ends_the_ca_before_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let load = |known| {
            let names = vec!["one.example".to_owned()];
            Keys::load_or_make(dir.path().to_owned(), names, NOW, known).unwrap()
        };
        let keys = load(None);
        let (old, ticket) = (keys.server().identity.ca, keys.signer().newest().clone());
        let held = keys.server();
        keys.rotate_ca(NOW, NOW + DAY).unwrap();
        keys.rotate_ticket(NOW).unwrap();
        assert_ne!(*keys.signer().newest(), ticket);
        let new = keys.server().identity.ca;
        assert_eq!(keys.server().identity.cas(), [new, old]);
        assert_eq!(
            held.identity.ca, old,
            "a handshake goes on with what it began with"
        );
        assert!(matches!(
            keys.rotate_ca(NOW, NOW + DAY),
            Err(KeysError::Ca(RotateCaError::TooSoon { .. }))
        ));
        // A start after a crash before the database knew it.
        assert_eq!(load(Some(old)).server().identity.cas(), [new, old]);

        let second = Duration::from_secs(1);
        assert!(!keys.end_previous_ca(NOW + DAY - second).unwrap());
        assert_eq!(keys.server().identity.cas(), [new, old]);
        assert!(keys.end_previous_ca(NOW + DAY).unwrap());
        assert_eq!(keys.server().identity.cas(), [new]);
        assert!(!keys.end_previous_ca(NOW + DAY).unwrap());
        keys.rotate_ca(NOW + DAY, NOW + 2 * DAY).unwrap();
    }
}
