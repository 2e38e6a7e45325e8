//! The controller: accounts, networks, devices, keys, relay assignment, and the netmap streams that tell devices of each other.
//!
//! A request's way through the modules: `server` (TLS, limits) → `api` (who calls, what is asked) → the deciding modules
//! (`naming`, `address`, `placement`, `netmaps`, `presence`, `heartbeat`) → `store` (one transaction) → `changelog` →
//! the netmap streams of everybody it concerns. Data flows between members without this program.

#![forbid(unsafe_code)]

mod server;

mod seats;

mod limits;

mod api;

mod auth;

mod enrol;

mod fleet;

mod roster;

mod namespace;

mod naming;

mod records;

mod gateway_names;

mod address;

mod placement;

mod netmaps;

mod changelog;

mod presence;

mod heartbeat;

mod report;

mod metrics;

mod operator;

mod housekeeping;

mod deployment;

mod store;

mod tickets;

mod ca;

mod secret_file;

mod backup;

mod data_dir;

mod lineage;

mod rate;

mod budget;

mod recovery;

mod clock;

pub use crate::backup::{Backup, BackupError, Restored, backup, restore, rotate_ticket_key};

use std::fs::{File, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::api::JoinString;
use overlan_protocol::key::{Fingerprint, Secret};
use overlan_protocol::{ALPN_CONTROLLER, name};
use overlan_transport::tls;
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::recovery::{ResetError, reset_password};

use crate::auth::password::Hasher;
use crate::ca::names::NamesCa;
use crate::changelog::ChangeLog;
use crate::data_dir::DirError;
use crate::deployment::Deployment;
use crate::heartbeat::Heartbeats;
use crate::limits::ConnectionBudget;
use crate::lineage::Runs;
use crate::metrics::Counts;
use crate::presence::Presence;
use crate::seats::Seats;
use crate::secret_file::FileError;
use crate::store::{Store, StoreError, accounts, changes, devices, relays, routes, runs};
use crate::tickets::TicketSigner;

/// What a controller is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 = any free one.
    pub listen: SocketAddr,
    /// Directory of the database and the keys; made if missing, for its owner only. One controller at a time.
    pub data_dir: PathBuf,
    /// `host:port` or `host` under which others reach it: goes into join string and certificate. `None` = where it listens.
    pub public_address: Option<String>,
    /// Domain of all overlay names, lower case.
    pub domain: String,
    /// Further names and addresses for the certificate.
    pub names: Vec<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, without any authentication: a loopback address. `None` = nowhere.
    pub metrics: Option<SocketAddr>,
    /// Times that tests shorten.
    pub timings: Timings,
}

impl Config {
    /// The defaults for everything but the two that have none.
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            data_dir,
            public_address: None,
            domain: "overlan.internal".to_owned(),
            names: Vec::new(),
            metrics: None,
            timings: Timings::default(),
        }
    }
}

/// How long things take. The defaults are right for every deployment.
#[derive(Debug, Clone)]
pub struct Timings {
    /// A device stays online this long behind its last netmap stream, so that a reconnect shows nothing. After a start of the
    /// controller the devices that were online before have six times as long.
    pub presence_grace: Duration,
    /// A relay silent for this long is offline: two missed heartbeats of 5 s, and 2 s on the way.
    pub relay_lost_after: Duration,
    /// How long a heartbeat that waits for orders is held.
    pub heartbeat_hold: Duration,
    /// An ephemeral device is removed this long after it went offline.
    pub ephemeral_after: Duration,
    /// A netmap stream with nothing to say says so this often.
    pub alive_every: Duration,
    /// The change log is looked at this often even if nobody hints.
    pub poll_every: Duration,
    /// Who connects must prove who it is within this time.
    pub stranger_within: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            presence_grace: Duration::from_secs(5),
            relay_lost_after: Duration::from_secs(12),
            heartbeat_hold: Duration::from_secs(overlan_protocol::api::RELAY_HEARTBEAT_SECS),
            ephemeral_after: Duration::from_secs(600),
            alive_every: Duration::from_secs(15),
            poll_every: Duration::from_millis(500),
            stranger_within: Duration::from_secs(10),
        }
    }
}

/// Why a controller does not start. One variant per thing its operator does differently.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something listens there already.
    #[error("{address} is in use; stop the other program or choose another port")]
    PortInUse {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it would listen.
        address: SocketAddr,
        /// Reason.
        source: io::Error,
    },
    /// Who asks there is not asked who they are.
    #[error("{address} is not a loopback address, and whoever reaches it could read the metrics")]
    MetricsPublic {
        /// Where they would be served.
        address: SocketAddr,
    },
    /// The data directory or a key in it cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The data directory is not safe, or belongs to something else.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    DataDirUnfit {
        /// The directory.
        path: PathBuf,
        /// Reason, and the way out.
        reason: String,
    },
    /// A file of the data directory cannot be used.
    #[error("cannot use {}: {reason}; {way_out}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Reason.
        reason: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Keys of a deployment lie where its database is not.
    #[error(
        "the database {} is missing or empty, but {} of a deployment lies beside it; copy controller.db together with \
         controller.db-wal while no controller runs, or bring back a backup: `overlan controller restore FILE --data-dir DIR`. A new \
         deployment needs a new --data-dir",
        file.display(),
        beside.display()
    )]
    DatabaseLost {
        /// Where it should be.
        file: PathBuf,
        /// What is left.
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
        /// Reason.
        reason: String,
    },
    /// A name in the configuration is none.
    #[error("{text:?} is not a valid {what}")]
    Name {
        /// What it should be.
        what: &'static str,
        /// What it is.
        text: String,
    },
    /// Cryptography of this machine does not work.
    #[error("cannot prepare the keys: {reason}")]
    Keys {
        /// Reason.
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

/// A controller that listens, and answers once [`Controller::run`] is awaited.
#[derive(Debug)]
pub struct Controller {
    deployment: Arc<Deployment>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    local: SocketAddr,
    join: JoinString,
    setup_token: Option<Secret>,
    seats: Arc<Seats>,
    counts: Arc<Counts>,
    metrics: Option<(TcpListener, SocketAddr)>,
    lock: File,
}

impl Controller {
    /// Listens, and opens the data directory, making what is missing there.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        if !name::is_domain(&config.domain) {
            return Err(StartError::Name {
                what: "domain: give lower-case labels with dots between",
                text: config.domain,
            });
        }
        let dir = config.data_dir.clone();
        let data_dir = |source| StartError::DataDir {
            path: dir.clone(),
            source,
        };
        data_dir::prepare(&dir).map_err(|error| match error {
            DirError::Io(source) => data_dir(source),
            DirError::Unfit(reason) => StartError::DataDirUnfit {
                path: dir.clone(),
                reason,
            },
        })?;
        let lock = secret_file::open(&dir.join(data_dir::LOCK)).map_err(data_dir)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StartError::DataDirInUse { path: dir }),
            Err(TryLockError::Error(source)) => return Err(data_dir(source)),
        }
        let (listener, local) = listen(config.listen).await?;
        let metrics = match config.metrics {
            None => None,
            Some(address) if address.ip().is_loopback() => Some(listen(address).await?),
            Some(address) => return Err(StartError::MetricsPublic { address }),
        };
        let (host, port) = public_address(config.public_address.as_deref(), local)?;
        let names = certificate_names(&host, local.ip(), &config.names);
        let now = clock::unix_secs();
        let file = dir.join(data_dir::DATABASE);
        let database = |error: StoreError| StartError::Database {
            file: file.clone(),
            reason: error.to_string(),
        };
        check_database(&dir, &file).await?;
        secret_file::open(&file).map_err(data_dir)?;
        let store = Store::open(&file).await.map_err(database)?;
        let known = known_ca(&store).await.map_err(database)?;
        let identity = ca::load_or_make(&dir, &names, now, known)?;
        let names_ca = NamesCa::load_or_make(&dir, &config.domain, now)?;
        let signer = TicketSigner::load_or_make(&dir)?;
        check_ticket_keys(&store, &signer, &dir.join(tickets::FILE))
            .await
            .map_err(database)??;
        let join = JoinString {
            host,
            port,
            ca: Some(identity.ca),
        };
        let ca = identity.ca;
        let keys = |reason: String| StartError::Keys { reason };
        let tls = tls::server_config(identity.chain, identity.key, ALPN_CONTROLLER)
            .map_err(|error| keys(error.to_string()))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        // One core is for everybody else.
        let hashers = NonZero::new(cores - 1).unwrap_or(NonZero::<usize>::MIN);
        let hasher = Hasher::new(hashers).map_err(|error| keys(error.to_string()))?;

        let opened = begin(store, &config, &signer, ca, now).await;
        let opened = opened.map_err(database)?;
        let deployment = Arc::new(Deployment {
            store: opened.store,
            changelog: opened.changelog,
            presence: opened.presence.into(),
            heartbeats: opened.heartbeats.into(),
            signer,
            names_ca,
            hasher,
            throttle: Default::default(),
            budgets: Default::default(),
            reports: Default::default(),
            domain: config.domain,
            timings: config.timings,
            presence_changed: Default::default(),
            runs: opened.runs,
            began: now,
            rewound: Default::default(),
            stop: CancellationToken::new(),
        });
        Ok(Self {
            deployment,
            listener,
            tls,
            local,
            join,
            setup_token: opened.setup_token,
            seats: Seats::new(ConnectionBudget::of_files(files)),
            counts: Arc::default(),
            metrics,
            lock,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// What devices, relays and people need to reach and to know it.
    pub fn join(&self) -> JoinString {
        self.join.clone()
    }

    /// Authorises setup; another one at every start, `None` once setup was done.
    pub fn setup_token(&self) -> Option<Secret> {
        self.setup_token.clone()
    }

    /// Answers until `stop` is cancelled, then ends all streams and connections, waits for every task of its own, and closes the
    /// database. Dropping the future ends them as well, without waiting.
    pub async fn run(self, stop: CancellationToken) {
        let deployment = self.deployment;
        let _stop_when_dropped = deployment.stop.clone().drop_guard();
        if let Err(error) = housekeeping::catch_up(&deployment).await {
            tracing::error!(%error, "cannot read the change log");
        }
        let tasks = TaskTracker::new();
        tasks.spawn(housekeeping::follow_changes(deployment.clone()));
        tasks.spawn(housekeeping::keep_house(deployment.clone()));
        if let Some((listener, _)) = self.metrics {
            let door = Arc::new(operator::OperatorDoor {
                deployment: deployment.clone(),
                seats: self.seats.clone(),
                counts: self.counts.clone(),
                tried: Default::default(),
            });
            let respond = move |path: String| {
                let door = door.clone();
                async move { door.answer(&path).await }
            };
            let door =
                overlan_transport::operator::serve(listener, respond, deployment.stop.clone());
            tasks.spawn(door);
        }
        let api = api::Api::new(deployment.clone());
        let answers = server::Answers {
            tls: self.tls,
            api,
            seats: self.seats,
            counts: self.counts,
            stranger_within: deployment.timings.stranger_within,
        };
        let serve = server::serve(self.listener, answers, deployment.stop.clone());
        tokio::pin!(serve);
        tokio::select! {
            () = &mut serve => {}
            () = stop.cancelled() => {
                deployment.stop.cancel();
                serve.await;
            }
        }
        tasks.close();
        tasks.wait().await;
        deployment.store.close().await;
        drop(self.lock);
    }
}

/// What the database says at the start.
struct Opened {
    store: Store,
    changelog: ChangeLog,
    presence: Presence,
    heartbeats: Heartbeats,
    runs: Runs,
    setup_token: Option<Secret>,
}

/// A deployment is its database and its keys: what is left of one without the database is not taken for a new one, whose setup
/// token would be anybody's who reads the log.
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
            "it is damaged ({how}); bring back a backup into a new directory: `overlan controller restore FILE --data-dir DIR`"
        ))),
    }
}

/// The CA that this deployment's devices pin, once there is one.
async fn known_ca(store: &Store) -> Result<Option<Fingerprint>, StoreError> {
    let mut tx = store.read().await?;
    let known = store::setting(&mut tx, CA).await?;
    Ok(known
        .and_then(|known| known.try_into().ok())
        .map(Fingerprint))
}

/// A key that has the id of one that relays know, and is another one, is a damaged one.
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
    let fits = fleet::announced_keys_fit(&mut tx, signer, clock::unix_secs()).await?;
    Ok(fits.then_some(()).ok_or_else(damaged))
}

async fn begin(
    store: Store,
    config: &Config,
    signer: &TicketSigner,
    ca: Fingerprint,
    unix_now: u64,
) -> Result<Opened, StoreError> {
    let timings = &config.timings;
    let now = clock::now();
    let mut tx = store.write().await?;
    let runs = runs::begin(&mut tx, unix_now, lineage::RUNS_MAX).await?;
    store::put_setting(&mut tx, CA, &ca.0).await?;
    let set_up = accounts::is_set_up(&mut tx).await?;
    let setup_token = (!set_up).then(|| auth::new_secret(auth::SETUP_PREFIX));
    if let Some(token) = &setup_token {
        let digest = auth::digest(token.reveal());
        store::put_setting(&mut tx, api::SETUP_TOKEN, &digest).await?;
    }
    fleet::announce_keys(&mut tx, signer, unix_now).await?;
    namespace::settle(&mut tx, &config.domain).await?;
    let forbidden = routes::forget_forbidden(&mut tx).await?;
    if !forbidden.is_empty() {
        tracing::warn!(routes = ?forbidden, "routes were removed that no gateway may have");
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
    Ok(Opened {
        store,
        changelog: ChangeLog::new(base),
        presence,
        heartbeats,
        runs,
        setup_token,
    })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
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

/// Host and port for the join string.
fn public_address(
    configured: Option<&str>,
    local: SocketAddr,
) -> Result<(String, u16), StartError> {
    let Some(text) = configured else {
        let host = match local.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(v6) if v6.is_unspecified() => "::1".to_owned(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip.to_string(),
        };
        return Ok((host, local.port()));
    };
    let bad = || StartError::Name {
        what: "public address: give HOST:PORT",
        text: text.to_owned(),
    };
    let has_port = match text.rfind(']') {
        Some(bracket) => text[bracket..].contains(':'),
        None => text.contains(':'),
    };
    let port = local.port();
    let whole = if has_port {
        format!("https://{text}")
    } else {
        format!("https://{text}:{port}")
    };
    let join: JoinString = whole.parse().map_err(|_| bad())?;
    let plain = join.host.parse::<IpAddr>().is_ok() || name::is_domain(&join.host);
    if plain && join.ca.is_none() {
        Ok((join.host, join.port))
    } else {
        Err(bad())
    }
}

/// All names of the server certificate: sorted, each once, so that the same configuration gives the same list.
fn certificate_names(public: &str, listen: IpAddr, further: &[String]) -> Vec<String> {
    let mut names = vec![public.to_owned()];
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(further.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Setting that holds the SHA-256 of the CA's certificate.
const CA: &str = "ca";

/// How many graces devices have to come back after a restart: they spread their reconnects over some seconds.
const RESTART_GRACES: u32 = 6;

#[cfg(test)]
mod tests;
