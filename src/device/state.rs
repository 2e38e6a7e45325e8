//! The state of a device: a directory of its own with a JSON file for each thing, or the same files
//! in memory. Decides which files there are, which user may own the directory, and in which order
//! several files change; `overlan_transport::file` writes each of them whole.

mod enrolled;
mod error;
mod format;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use overlan_protocol::api::TicketResponse;
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::DeviceId;
use overlan_protocol::netmap::Netmap;
use overlan_transport::file;
use overlan_transport::private_dir::{self, PrivateDirError};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

pub use enrolled::{Device, Enrolling, Login};
pub use error::StateError;

use crate::device::certificate::Held;
use crate::doors::serve::service::Serve;
use enrolled::{StoredDevice, StoredEnrolling, StoredLogin};
use error::io_error;
use format::{FILE_MAX, decode, encode};
use overlan_plane::engine::KnownPeer;

/// A directory that belongs to this user alone: mode 0700, files 0600, each file written whole or
/// not at all. A state in memory has no directory, and ends with its last clone.
#[derive(Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The files of a state in memory.
    memory: Option<Arc<Memory>>,
}

#[derive(Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Zeroizing<Vec<u8>>>>,
    lock: Mutex<Weak<()>>,
}

impl fmt::Debug for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDir")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The lock that keeps a second `overlan up` or node away. The operating system frees it when the
/// process dies, in whatever way.
#[derive(Debug)]
pub struct DirLock {
    _file: Option<File>,
    _memory: Option<Arc<()>>,
}

impl StateDir {
    /// Opens the directory at `path`, making it if it is missing.
    ///
    /// # Errors
    /// [`StateError::Unsafe`] if it is not a directory, belongs to another user, or other users may
    /// enter it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // A relative path would mean another directory after the working directory changed.
        let path = std::path::absolute(path).map_err(io_error(path))?;
        checked(&path, private_dir::make(&path, KEYS))?;
        Ok(Self { path, memory: None })
    }

    /// Opens the directory at `path` for reading, without making it. A missing file reads as empty,
    /// and nothing can be written.
    ///
    /// # Errors
    /// As [`StateDir::open`], for a directory that exists.
    pub fn existing(path: &Path) -> Result<Self, StateError> {
        let path = std::path::absolute(path).map_err(io_error(path))?;
        match private_dir::check(&path, KEYS) {
            Err(PrivateDirError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            looked_at => checked(&path, looked_at)?,
        }
        Ok(Self { path, memory: None })
    }

    /// Returns true if the directory exists, so that it can be read and locked.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.is_in_memory() || self.path.is_dir()
    }

    /// Makes a state that never touches a disk. Its device is lost with it, so its owner has to
    /// remove the device at the end.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            path: PathBuf::from(IN_MEMORY),
            memory: Some(Arc::default()),
        }
    }

    /// Returns true for a state in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Locks the directory for one `overlan up`, or one node.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another one has it.
    pub fn lock(&self) -> Result<DirLock, StateError> {
        if let Some(memory) = &self.memory {
            let mut lock = memory.lock.lock();
            if lock.strong_count() > 0 {
                return Err(StateError::InUse {
                    path: self.path.clone(),
                });
            }
            let held = Arc::new(());
            *lock = Arc::downgrade(&held);
            return Ok(DirLock {
                _file: None,
                _memory: Some(held),
            });
        }
        let file = self.file(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&file)
            .map_err(io_error(&file))?;
        match lock.try_lock() {
            Ok(()) => Ok(DirLock {
                _file: Some(lock),
                _memory: None,
            }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(StateError::Io { file, source }),
        }
    }

    /// Returns the absolute path of the directory; [`IN_MEMORY`] for a state in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the control socket of a running `overlan up`.
    pub fn socket_path(&self) -> PathBuf {
        self.file(SOCKET)
    }

    /// Returns the enrolled device, if there is one, even if it was put aside.
    pub fn load_device(&self) -> Result<Option<Device>, StateError> {
        for name in [DEVICE, UNKNOWN] {
            if let Some(stored) = self.load::<StoredDevice>(name)? {
                let file = self.file(name);
                let device = Device::try_from(stored)
                    .map_err(|reason| StateError::Corrupt { file, reason })?;
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Puts a device aside that its controller does not know. It is used until another one is
    /// enrolled, or until the controller knows it again. Returns the path of its keys.
    pub fn set_device_aside(&self) -> Result<PathBuf, StateError> {
        self.rename(DEVICE, UNKNOWN)?;
        Ok(self.file(UNKNOWN))
    }

    /// Takes a device back that was put aside. If another one was enrolled since, only the file
    /// with the old keys is removed, which a crash may have left.
    pub fn take_device_back(&self) -> Result<(), StateError> {
        match self.is_device_aside() {
            true => self.rename(UNKNOWN, DEVICE),
            false => self.remove(UNKNOWN),
        }
    }

    /// Returns true if the device was put aside.
    #[must_use]
    pub fn is_device_aside(&self) -> bool {
        !self.is_in_memory() && self.file(UNKNOWN).exists() && !self.file(DEVICE).exists()
    }

    /// Stores the enrolled device.
    pub fn save_device(&self, device: &Device) -> Result<(), StateError> {
        self.save(DEVICE, &StoredDevice::from(device))
    }

    /// Returns the keys of an unfinished enrolment.
    pub fn load_enrolling(&self) -> Result<Option<Enrolling>, StateError> {
        let Some(stored) = self.load::<StoredEnrolling>(ENROLLING)? else {
            return Ok(None);
        };
        let keys = Enrolling::try_from(stored).map_err(|reason| StateError::Corrupt {
            file: self.file(ENROLLING),
            reason,
        })?;
        Ok(Some(keys))
    }

    /// Stores the keys of an enrolment before the controller is asked.
    pub fn save_enrolling(&self, keys: &Enrolling) -> Result<(), StateError> {
        self.save(ENROLLING, &StoredEnrolling::from(keys))
    }

    /// Stores a device that was just enrolled, in place of everything of an earlier one.
    pub fn replace_device(
        &self,
        device: &Device,
        ticket: &TicketResponse,
    ) -> Result<(), StateError> {
        self.remove_what_belongs_to_a_device()?;
        self.save_device(device)?;
        self.save_ticket(ticket)?;
        // From here on, the keys are the device's.
        self.remove(ENROLLING)?;
        self.remove(UNKNOWN)
    }

    /// Removes the device with its ticket and netmap, if there is one.
    pub fn remove_device(&self) -> Result<(), StateError> {
        // The keys go last: if this is interrupted, no ticket or netmap outlives its device.
        self.remove_what_belongs_to_a_device()?;
        self.remove(DEVICE)?;
        self.remove(UNKNOWN)?;
        self.remove(ENROLLING)
    }

    fn remove_what_belongs_to_a_device(&self) -> Result<(), StateError> {
        self.remove(TICKET)?;
        self.remove(NETMAP)?;
        self.remove(CERTIFICATES)
    }

    /// Removes services and routes, if there are any: the next device here must not begin with
    /// them.
    pub fn remove_services(&self) -> Result<(), StateError> {
        self.remove(SERVES)?;
        self.remove(ROUTES)
    }

    /// Returns the stored netmap. A damaged one counts as none, since the controller sends it
    /// again.
    pub fn load_netmap(&self) -> Result<Option<Netmap>, StateError> {
        self.load_copy(NETMAP)
    }

    /// Stores the netmap, so that the next start needs no controller.
    pub fn save_netmap(&self, netmap: &Netmap) -> Result<(), StateError> {
        self.save(NETMAP, netmap)
    }

    /// Returns the stored ticket, which may be out of date. A damaged one counts as none, since the
    /// controller gives another.
    pub fn load_ticket(&self) -> Result<Option<TicketResponse>, StateError> {
        self.load_copy(TICKET)
    }

    /// Stores the ticket, so that the next start needs no controller.
    pub fn save_ticket(&self, ticket: &TicketResponse) -> Result<(), StateError> {
        self.save(TICKET, ticket)
    }

    /// Returns the services to serve at every start; empty if none were stored.
    pub fn load_serves(&self) -> Result<Vec<Serve>, StateError> {
        Ok(self.load(SERVES)?.unwrap_or_default())
    }

    /// Stores the services to serve at every start.
    pub fn save_serves(&self, serves: &[Serve]) -> Result<(), StateError> {
        self.save(SERVES, &serves)
    }

    /// Returns the routes that this device serves as a gateway; `None` if it never had any.
    pub fn load_routes(&self) -> Result<Option<Vec<OfferedRoute>>, StateError> {
        self.load(ROUTES)
    }

    /// Stores the routes to serve at every start.
    pub fn save_routes(&self, routes: &[OfferedRoute]) -> Result<(), StateError> {
        self.save(ROUTES, &routes)
    }

    /// Returns the certificates for this device's names, which may be out of date.
    pub(crate) fn load_certificates(&self) -> Result<Option<Held>, StateError> {
        self.load(CERTIFICATES)
    }

    /// Stores the certificates with their key.
    pub(crate) fn save_certificates(&self, held: &Held) -> Result<(), StateError> {
        self.save(CERTIFICATES, held)
    }

    /// Returns the login of `overlan login`, which may be out of date.
    pub fn load_login(&self) -> Result<Option<Login>, StateError> {
        let Some(stored) = self.load::<StoredLogin>(LOGIN)? else {
            return Ok(None);
        };
        let file = self.file(LOGIN);
        let login =
            Login::try_from(stored).map_err(|reason| StateError::Corrupt { file, reason })?;
        Ok(Some(login))
    }

    /// Stores the login of `overlan login`.
    pub fn save_login(&self, login: &Login) -> Result<(), StateError> {
        self.save(LOGIN, &StoredLogin::from(login))
    }

    /// Removes the login, if there is one.
    pub fn remove_login(&self) -> Result<(), StateError> {
        self.remove(LOGIN)
    }

    /// Returns the identities of peers as they were first seen; empty if none were stored.
    pub fn load_known_peers(&self) -> Result<BTreeMap<DeviceId, KnownPeer>, StateError> {
        Ok(self.load(KNOWN_PEERS)?.unwrap_or_default())
    }

    /// Stores the identities of peers.
    pub fn save_known_peers(
        &self,
        peers: &BTreeMap<DeviceId, KnownPeer>,
    ) -> Result<(), StateError> {
        self.save(KNOWN_PEERS, peers)
    }

    /// Loads a file that is only a copy of data of the controller.
    fn load_copy<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        match self.load(name) {
            Err(error @ StateError::Corrupt { .. }) => {
                tracing::warn!(%error, "a damaged file is ignored");
                Ok(None)
            }
            loaded => loaded,
        }
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.file(name);
        let decoded = match &self.memory {
            Some(memory) => memory.files.lock().get(name).map(|bytes| decode(bytes)),
            None => {
                let bytes = file::read(&path, FILE_MAX + 1).map_err(io_error(&path))?;
                bytes.map(|bytes| decode(&bytes))
            }
        };
        let corrupt = |reason| StateError::Corrupt { file: path, reason };
        decoded.transpose().map_err(corrupt)
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.file(name);
        let bytes = encode(value).map_err(io_error(&path))?;
        if let Some(memory) = &self.memory {
            memory.files.lock().insert(name.to_owned(), bytes);
            return Ok(());
        }
        // Several processes may write here; the lock lets one write at a time.
        let directory = File::open(&self.path).map_err(io_error(&self.path))?;
        directory.lock().map_err(io_error(&self.path))?;
        file::write(&path, &bytes).map_err(io_error(&path))
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.file(name);
        match &self.memory {
            Some(memory) => {
                memory.files.lock().remove(name);
                Ok(())
            }
            None => file::remove(&path).map_err(io_error(&path)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StateError> {
        let from = self.file(from);
        file::rename(&from, &self.file(to)).map_err(io_error(&from))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Names the directory in the error of a check of it.
fn checked(path: &Path, looked_at: Result<(), PrivateDirError>) -> Result<(), StateError> {
    looked_at.map_err(|error| {
        let path = path.to_owned();
        match error {
            PrivateDirError::Io(source) => StateError::Io { file: path, source },
            PrivateDirError::Unfit(reason) => StateError::Unsafe { path, reason },
        }
    })
}

/// The word for a state in memory, in place of a directory.
pub const IN_MEMORY: &str = "mem:";

/// The purpose of the directory, for errors about it.
const KEYS: private_dir::Purpose = private_dir::Purpose {
    option: "--state-dir",
    keys: "this device's keys",
};

/// Only the owner may read and write.
const FILE_MODE: u32 = 0o600;

const DEVICE: &str = "device.json";
const UNKNOWN: &str = "device-unknown.json";
const ENROLLING: &str = "enrolling.json";
const NETMAP: &str = "netmap.json";
const TICKET: &str = "ticket.json";
const SERVES: &str = "serves.json";
const ROUTES: &str = "routes.json";
const CERTIFICATES: &str = "certificates.json";
const LOGIN: &str = "session.json";
const KNOWN_PEERS: &str = "known-peers.json";
const LOCK: &str = "lock";
const SOCKET: &str = "overlan.sock";

#[cfg(test)]
mod tests;
