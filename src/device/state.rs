//! What the client keeps: one directory of its own, one JSON file per thing, or the same files in memory. Decides how they are
//! read and written safely; does not know what the things mean.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::api::{JoinString, LoginResponse, TicketResponse};
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::{DeviceId, IdentitySecret, KEY_LEN, Secret};
use overlan_protocol::netmap::Netmap;
use overlan_transport::private_dir::{self, PrivateDirError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::device::certificate::Held;
use crate::doors::serve::service::Serve;
use overlan_plane::engine::KnownPeer;

/// Why the state cannot be used. One variant per thing the user does next.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file is damaged, or another version of this program wrote it.
    #[error(
        "the state file {} cannot be used: {reason}; {}", file.display(), way_out(file)
    )]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The operating system refuses.
    #[error("cannot read or write {}: {source}", file.display())]
    Io {
        /// Which file or directory.
        file: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// Others could read or change the state.
    #[error("the state directory {} is not safe: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// Another `overlan up` runs on this directory.
    #[error(
        "another `overlan up` runs with the state directory {}, or a node of another program; stop it with `overlan down`, or give this one its own --state-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// What helps with a damaged `file`. Losing the device's keys needs a new enrolment, losing anything else less.
fn way_out(file: &Path) -> &'static str {
    match file.file_name().and_then(|name| name.to_str()) {
        Some(DEVICE | UNKNOWN) => {
            "move the file away, or run `overlan logout`, and enrol again with `overlan up`"
        }
        Some(SESSION) => "move the file away and run `overlan login` again",
        Some(SERVES) => "move the file away and add the services again with `overlan serve`",
        Some(KNOWN_PEERS) => {
            "restore it from a backup; moving it away makes this device trust every peer's key anew"
        }
        _ => "move the file away; it is fetched again",
    }
}

/// This device as it was enrolled. Whoever has it is this device.
#[derive(Clone)]
pub struct Device {
    /// The controller that enrolled it.
    pub join: JoinString,
    /// Its id.
    pub device: DeviceId,
    /// Its identity key.
    pub identity: Arc<IdentitySecret>,
    /// Secret half of its X25519 tunnel key.
    pub tunnel_secret: Zeroizing<[u8; KEY_LEN]>,
    /// Its host label.
    pub label: String,
    /// Label of the first network that it joined; the netmap lists all.
    pub network: String,
    /// The deployment's domain.
    pub domain: String,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("join", &self.join.to_string())
            .field("device", &self.device)
            .field("label", &self.label)
            .field("network", &self.network)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// The keys of an enrolment that was begun. Who has them when it was answered is that device.
#[derive(Clone)]
pub struct Enrolling {
    /// The controller that was asked.
    pub join: JoinString,
    /// The device's identity key.
    pub identity: Arc<IdentitySecret>,
    /// Secret half of its X25519 tunnel key.
    pub tunnel_secret: Zeroizing<[u8; KEY_LEN]>,
}

impl fmt::Debug for Enrolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolling")
            .field("join", &self.join.to_string())
            .finish_non_exhaustive()
    }
}

/// A person's session with a controller, from `overlan login`.
#[derive(Debug, Clone)]
pub struct Session {
    /// Which controller.
    pub join: JoinString,
    /// What it answered.
    pub login: LoginResponse,
}

/// One directory that belongs to us alone: mode 0700, files 0600, every write whole or not at all. Or no directory: what is in
/// memory is gone with the last clone.
#[derive(Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The files, where there is no directory.
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

/// Keeps a second `overlan up`, or node, away while it lives. The operating system frees it when the process dies in any way.
#[derive(Debug)]
pub struct DirLock {
    _file: Option<File>,
    _memory: Option<Arc<()>>,
}

impl StateDir {
    /// Opens the directory at `path`, making it if it is missing.
    ///
    /// # Errors
    /// [`StateError::Unsafe`] if it is no directory, belongs to someone else, or others may enter it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // A relative path would mean another place after a change of the working directory.
        let path = std::path::absolute(path).map_err(io_error(path))?;
        checked(&path, private_dir::make(&path, KEYS))?;
        Ok(Self { path, memory: None })
    }

    /// Names the directory at `path` without making it: for whoever reads. What is missing reads as empty, and nothing can be written.
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

    /// Whether there is anything to read or to lock.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.is_in_memory() || self.path.is_dir()
    }

    /// A state that never touches a disk. Its device is lost with it, so whoever uses it removes the device at the end.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            path: PathBuf::from(IN_MEMORY),
            memory: Some(Arc::default()),
        }
    }

    /// Whether it is [`StateDir::in_memory`].
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Takes the directory for one `overlan up`, or one node.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another one has it.
    pub fn lock(&self) -> Result<DirLock, StateError> {
        if let Some(memory) = &self.memory {
            let mut lock = locked(&memory.lock);
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

    /// Where it is, absolute; [`IN_MEMORY`] if it is nowhere.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the control socket of a running `overlan up` is.
    pub fn socket_path(&self) -> PathBuf {
        self.file(SOCKET)
    }

    /// The enrolled device, if there is one; also one that was set aside.
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

    /// Puts the device aside whose controller does not know it: it is used until another one is enrolled, or until the controller
    /// knows it again. Returns where its keys are.
    pub fn set_device_aside(&self) -> Result<PathBuf, StateError> {
        self.rename(DEVICE, UNKNOWN)?;
        Ok(self.file(UNKNOWN))
    }

    /// Takes the device back that was put aside. Where another one was enrolled since, only the old keys' file goes, if a crash left it.
    pub fn take_device_back(&self) -> Result<(), StateError> {
        match self.is_device_aside() {
            true => self.rename(UNKNOWN, DEVICE),
            false => self.remove(UNKNOWN),
        }
    }

    /// Whether the device is one that was put aside.
    #[must_use]
    pub fn is_device_aside(&self) -> bool {
        !self.is_in_memory() && self.file(UNKNOWN).exists() && !self.file(DEVICE).exists()
    }

    /// Stores the enrolled device.
    pub fn save_device(&self, device: &Device) -> Result<(), StateError> {
        self.save(DEVICE, &StoredDevice::from(device))
    }

    /// The keys of an enrolment that was begun and not finished.
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

    /// Stores a device that was enrolled just now, in place of what an earlier enrolment left.
    pub fn replace_device(
        &self,
        device: &Device,
        ticket: &TicketResponse,
    ) -> Result<(), StateError> {
        self.remove_what_belongs_to_a_device()?;
        self.save_device(device)?;
        self.save_ticket(ticket)?;
        // From here on they are the device's.
        self.remove(ENROLLING)?;
        self.remove(UNKNOWN)
    }

    /// Forgets the device with its ticket and netmap. Nothing to forget is fine.
    pub fn remove_device(&self) -> Result<(), StateError> {
        // The keys go last: whatever interrupts this, no ticket or netmap outlives the device it belongs to.
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

    /// Forgets what is published and offered: another device here must not begin with that. Nothing to forget is fine.
    pub fn remove_services(&self) -> Result<(), StateError> {
        self.remove(SERVES)?;
        self.remove(ROUTES)
    }

    /// The last netmap that was stored. One that is damaged is none: the controller tells it again.
    pub fn load_netmap(&self) -> Result<Option<Netmap>, StateError> {
        self.load_copy(NETMAP)
    }

    /// Stores the netmap, so that the next start needs no controller.
    pub fn save_netmap(&self, netmap: &Netmap) -> Result<(), StateError> {
        self.save(NETMAP, netmap)
    }

    /// The last ticket that was stored; it may be out of date. One that is damaged is none: the controller gives another.
    pub fn load_ticket(&self) -> Result<Option<TicketResponse>, StateError> {
        self.load_copy(TICKET)
    }

    /// Stores the ticket, so that the next start needs no controller.
    pub fn save_ticket(&self, ticket: &TicketResponse) -> Result<(), StateError> {
        self.save(TICKET, ticket)
    }

    /// Services to publish at every start; none if none were stored.
    pub fn load_serves(&self) -> Result<Vec<Serve>, StateError> {
        Ok(self.load(SERVES)?.unwrap_or_default())
    }

    /// Stores the services to publish at every start.
    pub fn save_serves(&self, serves: &[Serve]) -> Result<(), StateError> {
        self.save(SERVES, &serves)
    }

    /// What this device offers to lead to; `None` if it never offered anything.
    pub fn load_routes(&self) -> Result<Option<Vec<OfferedRoute>>, StateError> {
        self.load(ROUTES)
    }

    /// Stores what to offer at every start.
    pub fn save_routes(&self, routes: &[OfferedRoute]) -> Result<(), StateError> {
        self.save(ROUTES, &routes)
    }

    /// The certificates for this device's names; they may be out of date.
    pub(crate) fn load_certificates(&self) -> Result<Option<Held>, StateError> {
        self.load(CERTIFICATES)
    }

    /// Stores them with their key.
    pub(crate) fn save_certificates(&self, held: &Held) -> Result<(), StateError> {
        self.save(CERTIFICATES, held)
    }

    /// The session of `overlan login`; it may be out of date.
    pub fn load_session(&self) -> Result<Option<Session>, StateError> {
        let Some(stored) = self.load::<StoredSession>(SESSION)? else {
            return Ok(None);
        };
        let join = stored.server.parse();
        let join = join.map_err(|error| StateError::Corrupt {
            file: self.file(SESSION),
            reason: format!("server: {error}"),
        })?;
        Ok(Some(Session {
            join,
            login: stored.login,
        }))
    }

    /// Stores the session of `overlan login`.
    pub fn save_session(&self, session: &Session) -> Result<(), StateError> {
        let stored = StoredSession {
            server: session.join.to_string(),
            login: session.login.clone(),
        };
        self.save(SESSION, &stored)
    }

    /// Forgets the session. Nothing to forget is fine.
    pub fn remove_session(&self) -> Result<(), StateError> {
        self.remove(SESSION)
    }

    /// Identities of peers as they were first seen; none if none were stored.
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

    /// Loads what is only a copy of what the controller has.
    fn load_copy<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        match self.load(name) {
            Err(error @ StateError::Corrupt { .. }) => {
                tracing::warn!(%error, "a damaged file is not used");
                Ok(None)
            }
            loaded => loaded,
        }
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.file(name);
        if let Some(memory) = &self.memory {
            return match locked(&memory.files).get(name) {
                Some(bytes) => decode(bytes)
                    .map(Some)
                    .map_err(|reason| StateError::Corrupt { file: path, reason }),
                None => Ok(None),
            };
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { file: path, source }),
        };
        // Room for all at once: a buffer that grows leaves copies of secrets behind.
        let size = file
            .metadata()
            .map_err(io_error(&path))?
            .len()
            .min(FILE_MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 2));
        file.take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error(&path))?;
        decode(&bytes)
            .map(Some)
            .map_err(|reason| StateError::Corrupt { file: path, reason })
    }

    /// Writes beside the file, then renames: a reader, or a crash, meets the old file or the new one.
    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.file(name);
        let part = self.part(name);
        let bytes = encode(value).map_err(|source| StateError::Io {
            file: path.clone(),
            source,
        })?;
        if let Some(memory) = &self.memory {
            locked(&memory.files).insert(name.to_owned(), bytes);
            return Ok(());
        }
        // One writer at a time per directory, so that the part file's name can be fixed and a crash leaves at most one.
        let directory = File::open(&self.path).map_err(io_error(&self.path))?;
        directory.lock().map_err(io_error(&self.path))?;
        let written = write_private(&part, &bytes).and_then(|()| fs::rename(&part, &path));
        if let Err(source) = written {
            // Half a file with keys is of no use; the next attempt makes another.
            let _ = fs::remove_file(&part);
            return Err(StateError::Io { file: path, source });
        }
        directory.sync_all().map_err(io_error(&self.path))
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        if let Some(memory) = &self.memory {
            locked(&memory.files).remove(name);
            return Ok(());
        }
        // What a crash left half written may hold keys as well.
        let (part, path) = (self.part(name), self.file(name));
        let was_there = [remove_file(&part)?, remove_file(&path)?];
        if was_there == [false, false] {
            return Ok(());
        }
        let directory = File::open(&self.path).map_err(io_error(&self.path))?;
        directory.sync_all().map_err(io_error(&self.path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StateError> {
        let from = self.file(from);
        match fs::rename(&from, self.file(to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(io_error(&from))?,
        }
        let directory = File::open(&self.path).map_err(io_error(&self.path))?;
        directory.sync_all().map_err(io_error(&self.path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What a file is called while it is written.
    fn part(&self, name: &str) -> PathBuf {
        self.file(&format!(".{name}.part"))
    }
}

/// Whether there was one.
fn remove_file(path: &Path) -> Result<bool, StateError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// What a lock here guards is whole after every statement, so a panic elsewhere leaves nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a directory may hold a device's keys.
fn checked(path: &Path, looked_at: Result<(), PrivateDirError>) -> Result<(), StateError> {
    looked_at.map_err(|error| {
        let path = path.to_owned();
        match error {
            PrivateDirError::Io(source) => StateError::Io { file: path, source },
            PrivateDirError::Unfit(reason) => StateError::Unsafe { path, reason },
        }
    })
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A part file left by a crash may have any content; it is ours alone and starts anew.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What every file looks like.
#[derive(Serialize, Deserialize)]
struct Versioned<'f> {
    schema_version: u32,
    /// SHA-256 of the bytes of `value`; earlier versions wrote none.
    #[serde(default)]
    sum: Option<String>,
    #[serde(borrow)]
    value: &'f RawValue,
}

/// Its version alone, read first: a later version's `value` need not be understood to say so.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

fn encode<T: Serialize>(value: &T) -> io::Result<Zeroizing<Vec<u8>>> {
    let value = Zeroizing::new(serde_json::to_string(value)?);
    let versioned = Versioned {
        schema_version: SCHEMA_VERSION,
        sum: Some(sum_of(&value)),
        value: serde_json::from_str(&value)?,
    };
    let mut bytes = Zeroizing::new(serde_json::to_vec(&versioned)?);
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("it is larger than {FILE_MAX} bytes"));
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    if version.schema_version != SCHEMA_VERSION {
        return Err(format!(
            "it has schema version {}, and this program (overlan {}) knows version {SCHEMA_VERSION} only, so another version wrote it",
            version.schema_version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let versioned: Versioned<'_> =
        serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    let value = versioned.value.get();
    if versioned.sum.is_some_and(|sum| sum != sum_of(value)) {
        return Err("its checksum does not fit, so something else than this program changed it; without the field \"sum\" it is taken as it is".to_owned());
    }
    serde_json::from_str(value).map_err(|error| damaged(&error))
}

/// By which damage is noticed that leaves a file readable, such as a bit that a disk turned. It keeps nobody from changing it.
fn sum_of(value: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, value.as_bytes()).as_ref())
}

/// Where the damage is. Not serde's own text: that may quote what it found, and the files hold keys.
fn damaged(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "a value is missing or not of the right form",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// The form of [`Device`] on disk.
#[derive(Serialize, Deserialize)]
struct StoredDevice {
    server: String,
    device: DeviceId,
    identity_secret: Secret,
    tunnel_secret: Secret,
    label: String,
    network: String,
    domain: String,
}

/// The form of [`Enrolling`] on disk.
#[derive(Serialize, Deserialize)]
struct StoredEnrolling {
    server: String,
    identity_secret: Secret,
    tunnel_secret: Secret,
}

impl From<&Enrolling> for StoredEnrolling {
    fn from(keys: &Enrolling) -> Self {
        Self {
            server: keys.join.to_string(),
            identity_secret: Secret::new(&BASE64URL_NOPAD.encode(keys.identity.seed())),
            tunnel_secret: Secret::new(&BASE64URL_NOPAD.encode(&*keys.tunnel_secret)),
        }
    }
}

impl TryFrom<StoredEnrolling> for Enrolling {
    type Error = String;

    fn try_from(stored: StoredEnrolling) -> Result<Self, String> {
        let join = stored.server.parse();
        let seed = secret(&stored.identity_secret, "identity_secret")?;
        Ok(Self {
            join: join.map_err(|error| format!("server: {error}"))?,
            identity: Arc::new(IdentitySecret::from_seed(*seed)),
            tunnel_secret: secret(&stored.tunnel_secret, "tunnel_secret")?,
        })
    }
}

impl From<&Device> for StoredDevice {
    fn from(device: &Device) -> Self {
        Self {
            server: device.join.to_string(),
            device: device.device,
            identity_secret: Secret::new(&BASE64URL_NOPAD.encode(device.identity.seed())),
            tunnel_secret: Secret::new(&BASE64URL_NOPAD.encode(&*device.tunnel_secret)),
            label: device.label.clone(),
            network: device.network.clone(),
            domain: device.domain.clone(),
        }
    }
}

impl TryFrom<StoredDevice> for Device {
    type Error = String;

    fn try_from(stored: StoredDevice) -> Result<Self, String> {
        let join = stored.server.parse();
        Ok(Self {
            join: join.map_err(|error| format!("server: {error}"))?,
            device: stored.device,
            identity: Arc::new(IdentitySecret::from_seed(*secret(
                &stored.identity_secret,
                "identity_secret",
            )?)),
            tunnel_secret: secret(&stored.tunnel_secret, "tunnel_secret")?,
            label: stored.label,
            network: stored.network,
            domain: stored.domain,
        })
    }
}

fn secret(text: &Secret, what: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    let bytes = BASE64URL_NOPAD
        .decode(text.reveal().as_bytes())
        .map(Zeroizing::new);
    bytes
        .ok()
        .and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes.as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| format!("{what} is not a key"))
}

/// The form of [`Session`] on disk.
#[derive(Serialize, Deserialize)]
struct StoredSession {
    server: String,
    login: LoginResponse,
}

/// What a state in memory is called where a directory is expected.
pub const IN_MEMORY: &str = "mem:";

/// Version of the form of all files.
const SCHEMA_VERSION: u32 = 1;

/// Largest file that is read, bytes: the netmap is the largest, and its longest form on the wire is half of this.
const FILE_MAX: u64 = 2 * overlan_protocol::netmap::MAP_EVENT_MAX as u64;

/// What the directory is for.
const KEYS: private_dir::Purpose = private_dir::Purpose {
    option: "--state-dir",
    keys: "this device's keys",
};

/// The owner may read and write.
const FILE_MODE: u32 = 0o600;

const DEVICE: &str = "device.json";
const UNKNOWN: &str = "device-unknown.json";
const ENROLLING: &str = "enrolling.json";
const NETMAP: &str = "netmap.json";
const TICKET: &str = "ticket.json";
const SERVES: &str = "serves.json";
const ROUTES: &str = "routes.json";
const CERTIFICATES: &str = "certificates.json";
const SESSION: &str = "session.json";
const KNOWN_PEERS: &str = "known-peers.json";
const LOCK: &str = "lock";
const SOCKET: &str = "overlan.sock";

fn io_error(file: &Path) -> impl FnOnce(io::Error) -> StateError {
    let file = file.to_owned();
    |source| StateError::Io { file, source }
}

#[cfg(test)]
mod tests;
