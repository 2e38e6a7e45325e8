//! Brings a controller up: takes the data directory for itself, listens, and opens the database and
//! the keys, which must belong together. Serves nothing yet.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use overlan_protocol::key::{Fingerprint, Secret};
use overlan_protocol::name;
use overlan_protocol::{HostPort, UnixTime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::password::Hasher;
use crate::ca::names::NamesCa;
use crate::changelog::{self, ChangeLog};
use crate::config::Config;
use crate::data_dir::{self, DirError};
use crate::deployment::Deployment;
use crate::enrol::DeviceLimits;
use crate::heartbeat::Heartbeats;
use crate::key_file::FileError;
use crate::keys::{Keys, KeysError};
use crate::oidc::Issuers;
use crate::policy::Sights;
use crate::presence::Presence;
use crate::sealing::Sealer;
use crate::store::{self, Store, StoreError, accounts, changes, devices, relays, routes, runs};
use crate::tickets::{self, TicketSigner};
use crate::{api, auth, clock, fleet, lineage, namespace};

/// The reason why a controller does not start. One variant per thing its operator does differently.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program listens there.
    #[error("{address} is in use; stop the other program or choose another port")]
    PortInUse {
        /// The address to listen on.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address to listen on.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The metrics would be public: nobody is authenticated there.
    #[error(
        "{address} is not a loopback address, so others could read the metrics; give one such as \
         127.0.0.1:9100"
    )]
    MetricsPublic {
        /// The address to serve them on.
        address: SocketAddr,
    },
    /// The data directory or a key in it cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The data directory is not safe, or belongs to something else.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    DataDirUnfit {
        /// The directory.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// A file of the data directory cannot be used.
    #[error("cannot use {}: {reason}; {way_out}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
        /// The next step.
        way_out: &'static str,
    },
    /// There are keys of a deployment, and no database.
    #[error(
        "the database {} is missing or empty, but {} of a deployment is still there; copy \
         controller.db together with controller.db-wal while no controller runs, or restore a \
         backup: `overlan controller restore FILE --data-dir DIR`. A new deployment needs another \
         --data-dir",
        file.display(),
        beside.display()
    )]
    DatabaseLost {
        /// The missing file.
        file: PathBuf,
        /// A key file that is left.
        beside: PathBuf,
    },
    /// Another controller uses the data directory.
    #[error("another controller uses {}; stop it or choose another directory", path.display())]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error("cannot use the database {}: {reason}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A name in the configuration is not valid.
    #[error("{text:?} is not a valid {what}")]
    Name {
        /// The kind of name.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The cryptography of this machine does not work.
    #[error("cannot prepare the keys: {reason}")]
    Keys {
        /// The reason.
        reason: String,
    },
}

impl From<FileError> for StartError {
    fn from(error: FileError) -> Self {
        Self::File {
            way_out: data_dir::way_out(&error.file),
            file: error.file,
            reason: error.reason,
        }
    }
}

impl From<KeysError> for StartError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::File(error) => error.into(),
            other @ (KeysError::Tls(_) | KeysError::Ticket(_) | KeysError::Ca(_)) => Self::Keys {
                reason: other.to_string(),
            },
        }
    }
}

/// An open deployment, whose tasks do not run yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) deployment: Arc<Deployment>,
    /// Authorises setup, which was not done yet.
    pub(crate) setup_token: Option<Secret>,
}

/// Prepares the data directory, and takes it for as long as the returned file is open.
pub(crate) fn take_data_dir(dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::DataDir {
        path: dir.to_owned(),
        source,
    };
    data_dir::prepare(dir).map_err(|error| match error {
        DirError::Io(source) => failed(source),
        DirError::Unfit(reason) => StartError::DataDirUnfit {
            path: dir.to_owned(),
            reason,
        },
    })?;
    let lock = data_dir::open(&dir.join(data_dir::LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::DataDirInUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Listens, and returns the actual address with the listener.
pub(crate) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortInUse { address }
        } else {
            StartError::Listen { address, source }
        }
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Listens for the operator, on a loopback address only.
pub(crate) async fn listen_for_operator(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    match address {
        None => Ok(None),
        Some(address) if address.ip().is_loopback() => Ok(Some(listen(address).await?)),
        Some(address) => Err(StartError::MetricsPublic { address }),
    }
}

/// Checks the domain of a configuration.
pub(crate) fn check_domain(domain: &str) -> Result<(), StartError> {
    if name::is_domain(domain) {
        return Ok(());
    }
    Err(StartError::Name {
        what: "domain; give lower-case labels joined by dots",
        text: domain.to_owned(),
    })
}

/// Opens database and keys, and makes what a new deployment lacks. `names` are those of the
/// server's certificate, `server` is the address by which others reach it.
pub(crate) async fn open(
    config: Config,
    names: &[String],
    server: &HostPort,
) -> Result<Opened, StartError> {
    let dir = &config.data_dir;
    let now = clock::wall();
    let file = dir.join(data_dir::DATABASE);
    let database = |error: StoreError| StartError::Database {
        file: file.clone(),
        reason: error.to_string(),
    };
    check_database(dir, &file).await?;
    data_dir::open(&file).map_err(|source| StartError::DataDir {
        path: dir.clone(),
        source,
    })?;
    let store = Store::open(&file).await.map_err(database)?;
    let known = known_ca(&store).await.map_err(database)?;
    let keys = Keys::load_or_make(dir.clone(), names.to_vec(), now, known)?;
    let names_ca = NamesCa::load_or_make(dir, &config.domain, now)?;
    check_ticket_keys(&store, &keys.signer(), &dir.join(tickets::FILE))
        .await
        .map_err(database)??;
    let sealer = Sealer::load_or_make(dir)?;
    let hasher = hasher()?;
    let begun = begin(&store, &config, &keys, now).await;
    let begun = begun.map_err(database)?;
    let deployment = Arc::new(Deployment {
        store,
        changelog: begun.changelog,
        presence: begun.presence.into(),
        heartbeats: begun.heartbeats.into(),
        keys,
        sealer,
        names_ca,
        hasher,
        throttle: Default::default(),
        polls: Default::default(),
        budgets: Default::default(),
        repeats: Default::default(),
        reports: Default::default(),
        issuers: Issuers::new(config.issuer_addresses),
        sights: Sights::new(),
        awaiting: Default::default(),
        confirmed: Default::default(),
        origin: format!("https://{server}"),
        domain: config.domain,
        timings: config.timings,
        sign_up: config.sign_up,
        device_limits: DeviceLimits {
            per_organisation: config.devices_per_organisation,
            per_person: config.devices_per_person,
        },
        presence_changed: Default::default(),
        ends_changed: Default::default(),
        runs: begun.runs,
        began: now,
        rewound: Default::default(),
        stop: CancellationToken::new(),
    });
    Ok(Opened {
        deployment,
        setup_token: begun.setup_token,
    })
}

/// Makes the password hasher; one core is left for everything else.
fn hasher() -> Result<Hasher, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let hashers = NonZero::new(cores - 1).unwrap_or(NonZero::<usize>::MIN);
    Hasher::new(hashers).map_err(|error| StartError::Keys {
        reason: error.to_string(),
    })
}

/// The state with which a run begins, as the database has it.
struct Begun {
    changelog: ChangeLog,
    presence: Presence,
    heartbeats: Heartbeats,
    runs: lineage::Runs,
    setup_token: Option<Secret>,
}

/// Checks that the database is there if its keys are. The rest of a deployment must not pass for a
/// new one: anybody who reads the log could take its setup token.
async fn check_database(dir: &Path, file: &Path) -> Result<(), StartError> {
    let unusable = |reason: String| StartError::Database {
        file: file.to_owned(),
        reason,
    };
    match store::inspect(file).await {
        store::Found::Ours => Ok(()),
        store::Found::Nothing => match data_dir::traces(dir).into_iter().next() {
            None => Ok(()),
            Some(beside) => Err(StartError::DatabaseLost {
                file: file.to_owned(),
                beside,
            }),
        },
        store::Found::Foreign => Err(unusable(
            "it belongs to another program; give --data-dir another directory".to_owned(),
        )),
        store::Found::Damaged(how) => Err(unusable(format!(
            "it is damaged ({how}); restore a backup into a new directory: `overlan controller \
             restore FILE --data-dir DIR`"
        ))),
    }
}

/// Returns the CA that this deployment's devices pin, once there is one.
async fn known_ca(store: &Store) -> Result<Option<Fingerprint>, StoreError> {
    let mut tx = store.read().await?;
    fleet::announced_ca(&mut tx).await
}

/// Checks that no key has the id of another one that relays know, which would be a damaged one.
async fn check_ticket_keys(
    store: &Store,
    signer: &TicketSigner,
    file: &Path,
) -> Result<Result<(), FileError>, StoreError> {
    let mut tx = store.read().await?;
    let damaged = || {
        FileError::new(
            file,
            "it is damaged: it does not hold the key that relays know",
        )
    };
    let fits = fleet::announced_keys_fit(&mut tx, signer, clock::wall()).await?;
    Ok(fits.then_some(()).ok_or_else(damaged))
}

async fn begin(
    store: &Store,
    config: &Config,
    keys: &Keys,
    unix_now: UnixTime,
) -> Result<Begun, StoreError> {
    let timings = &config.timings;
    let now = clock::now();
    let mut tx = store.write().await?;
    let runs = runs::begin(&mut tx, unix_now, lineage::RUNS_MAX).await?;
    fleet::announce_ca(&mut tx, keys.server().identity.ca).await?;
    let set_up = accounts::is_set_up(&mut tx).await?;
    let setup_token = (!set_up).then(|| auth::new_secret(auth::SETUP_PREFIX));
    if let Some(token) = &setup_token {
        let digest = auth::digest(token.reveal());
        store::put_setting(&mut tx, api::SETUP_TOKEN, &digest).await?;
    }
    fleet::announce_keys(&mut tx, &keys.signer(), unix_now).await?;
    namespace::settle(&mut tx, &config.domain).await?;
    let forbidden = routes::forget_forbidden(&mut tx).await?;
    if !forbidden.is_empty() {
        tracing::warn!(routes = ?forbidden, "removed routes that a gateway must not have");
        changes::restart(&mut tx).await?;
    }
    let mut presence = Presence::new(timings.presence_grace);
    for device in devices::online(&mut tx).await? {
        presence.restore(device, now + timings.presence_grace * RESTART_GRACES);
    }
    let mut heartbeats = Heartbeats::new(timings.relay_lost_after);
    for relay in relays::online(&mut tx).await? {
        heartbeats.handle_beat(now, relay, 0);
    }
    let base = changes::base(&mut tx, changelog::ENTRIES_MAX as u64).await?;
    store.commit(tx).await?;
    Ok(Begun {
        changelog: ChangeLog::new(base),
        presence,
        heartbeats,
        runs,
        setup_token,
    })
}

/// Number of graces that devices have to come back after a restart: they spread their reconnects
/// over some seconds.
const RESTART_GRACES: u32 = 6;
