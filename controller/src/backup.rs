//! Backs a deployment up into one file, while its controller runs, and restores it. Decides what
//! belongs to a backup; the store copies the database.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use overlan_transport::file;

use crate::clock;
use crate::data_dir::{self, DirError};
use crate::sealing;
use crate::store::copies::{self, Carried};
use crate::store::{self, Found, Store, StoreError, Totals, relays, runs};
use crate::tickets::TicketSigner;

/// A backup that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The file, readable by its owner only. It holds all secrets of the deployment.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A deployment that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Number of devices that the backup knows.
    pub devices: u64,
    /// Number of networks.
    pub networks: u64,
    /// Number of relays.
    pub relays: u64,
}

/// The reason why there is no backup, or it was not restored. One variant per thing the operator
/// does differently.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory holds no controller.
    #[error(
        "{} does not hold a controller's database; give the --data-dir of `overlan controller \
         serve`",
        path.display()
    )]
    NoDeployment {
        /// The directory.
        path: PathBuf,
    },
    /// The file exists; nothing is overwritten.
    #[error("{} already exists, and nothing was written; give another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not a backup, or damaged.
    #[error("cannot restore {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The directory is not empty, not safe, or a controller runs there.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
}

/// Copies database and keys of `data_dir` into the new file `to`, or into a new file in it if it is
/// a directory. A controller that runs there goes on.
///
/// # Errors
/// If there is no deployment, the file exists, or something cannot be read or written.
pub async fn backup(data_dir: &Path, to: &Path) -> Result<Backup, BackupError> {
    let database = data_dir.join(data_dir::DATABASE);
    if !database.is_file() {
        return Err(BackupError::NoDeployment {
            path: data_dir.to_owned(),
        });
    }
    let file = match to.is_dir() {
        true => to.join(format!("overlan-controller-{}.backup", clock::wall())),
        false => to.to_owned(),
    };
    let failed = |path: &Path, source| BackupError::Io {
        path: path.to_owned(),
        source,
    };
    let mut carried = Vec::new();
    for name in data_dir::KEYS {
        let path = data_dir.join(name);
        let content = match fs::read(&path) {
            // Nothing was sealed before the version that makes it.
            Err(error) if name == sealing::FILE && error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            read => read.map_err(|error| failed(&path, error))?,
        };
        let name = name.to_owned();
        carried.push(Carried { name, content });
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                BackupError::Exists { path: file.clone() }
            } else {
                failed(&file, error)
            }
        })?;
    let written = async {
        copies::write(&database, &file, &carried)
            .await
            .map_err(|error| failed(&file, io::Error::other(error)))?;
        let sync = || {
            let open = fs::File::open(&file)?;
            open.sync_all()?;
            open.metadata().map(|found| found.len())
        };
        let bytes = sync().map_err(|error| failed(&file, error))?;
        // The keys were read before the database, which must not know newer ones.
        let is_kept = |kept: &Carried| {
            let present = fs::read(data_dir.join(&kept.name));
            present.is_ok_and(|present| present == kept.content)
        };
        match carried.iter().all(is_kept) {
            true => Ok(bytes),
            false => Err(failed(&file, io::Error::other(ROTATED_MEANWHILE))),
        }
    };
    match written.await {
        Ok(bytes) => Ok(Backup { file, bytes }),
        Err(error) => {
            let _ = fs::remove_file(&file);
            Err(error)
        }
    }
}

const ROTATED_MEANWHILE: &str =
    "a key was rotated meanwhile, and nothing was written; make the backup again";

/// Restores the backup `file` into `data_dir`, which must be new or empty. Addresses that were
/// given out after the backup are not given out again while tickets for them live.
///
/// # Errors
/// If the file is not a whole backup, or the directory cannot take it.
pub async fn restore(file: &Path, data_dir: &Path) -> Result<Restored, BackupError> {
    let unusable = |reason: String| BackupError::Unusable {
        path: file.to_owned(),
        reason,
    };
    match store::inspect(file).await {
        Found::Ours => {}
        Found::Nothing => return Err(unusable("it is missing or empty".to_owned())),
        Found::Foreign => return Err(unusable("it is the database of another program".to_owned())),
        Found::Damaged(how) => return Err(unusable(format!("it is damaged ({how})"))),
    }
    let unfit = |reason: String| BackupError::DataDir {
        path: data_dir.to_owned(),
        reason,
    };
    data_dir::prepare(data_dir).map_err(|error| match error {
        DirError::Io(source) => BackupError::Io {
            path: data_dir.to_owned(),
            source,
        },
        DirError::Unfit(reason) => unfit(reason),
    })?;
    let holds = |name: &&str| data_dir.join(name).exists();
    let mut names = data_dir::KEYS.into_iter().chain([data_dir::DATABASE]);
    if let Some(found) = names.find(holds) {
        return Err(unfit(format!(
            "it holds {found} of a controller, which is not overwritten; give --data-dir a new \
             directory"
        )));
    }
    let lock_file = data_dir.join(data_dir::LOCK);
    let lock = data_dir::open(&lock_file).map_err(|source| BackupError::Io {
        path: lock_file,
        source,
    })?;
    if lock.try_lock().is_err() {
        return Err(unfit("a controller uses it; stop it first".to_owned()));
    }
    let restored = bring_back(file, data_dir).await;
    if restored.is_err() {
        let made = data_dir::KEYS.into_iter().chain([
            data_dir::DATABASE,
            data_dir::DATABASE_WAL,
            "controller.db-shm",
        ]);
        for name in made {
            let _ = fs::remove_file(data_dir.join(name));
        }
    }
    restored
}

async fn bring_back(file: &Path, data_dir: &Path) -> Result<Restored, BackupError> {
    let unusable = |reason: String| BackupError::Unusable {
        path: file.to_owned(),
        reason,
    };
    let database = data_dir.join(data_dir::DATABASE);
    let failed = |source| BackupError::Io {
        path: database.clone(),
        source,
    };
    // The mode is right before there is anything to read.
    let mut made = data_dir::open(&database).map_err(failed)?;
    let mut open = fs::File::open(file).map_err(|source| BackupError::Io {
        path: file.to_owned(),
        source,
    })?;
    io::copy(&mut open, &mut made).map_err(failed)?;
    made.sync_all().map_err(failed)?;
    let store = Store::open(&database).await;
    let store = store.map_err(|error| unusable(error.to_string()))?;
    let unpacked = unpack(&store).await;
    store.close().await;
    let (carried, totals) = unpacked.map_err(|error| unusable(error.to_string()))?;
    for name in data_dir::KEYS {
        let found = carried.iter().find(|carried| carried.name == name);
        let Some(found) = found else {
            if name == sealing::FILE {
                continue;
            }
            return Err(unusable(format!(
                "`overlan controller backup` did not write it: {name} is missing"
            )));
        };
        let path = data_dir.join(name);
        file::write(&path, &found.content).map_err(|source| BackupError::Io { path, source })?;
    }
    Ok(Restored {
        devices: totals.devices,
        networks: totals.networks,
        relays: totals.relays,
    })
}

async fn unpack(store: &Store) -> Result<(Vec<Carried>, Totals), StoreError> {
    let mut tx = store.write().await?;
    let carried = copies::take(&mut tx).await?;
    runs::set_rewound(&mut tx, clock::wall()).await?;
    relays::bump_orders(&mut tx).await?;
    store.commit(tx).await?;
    Ok((carried, store.totals().await?))
}

/// Replaces the ticket key from the next start of the controller of `data_dir` on, which must not
/// run now.
///
/// # Errors
/// If a controller runs there, or the last rotation is too recent.
pub fn rotate_ticket_key(data_dir: &Path) -> Result<(), BackupError> {
    let unfit = |reason: String| BackupError::DataDir {
        path: data_dir.to_owned(),
        reason,
    };
    if !data_dir.join(data_dir::DATABASE).is_file() {
        return Err(BackupError::NoDeployment {
            path: data_dir.to_owned(),
        });
    }
    let lock_file = data_dir.join(data_dir::LOCK);
    let lock = data_dir::open(&lock_file).map_err(|source| BackupError::Io {
        path: lock_file,
        source,
    })?;
    if lock.try_lock().is_err() {
        return Err(unfit(
            "a controller uses it; `overlan admin key rotate ticket` rotates the key while it runs"
                .to_owned(),
        ));
    }
    TicketSigner::rotate(data_dir, clock::wall()).map_err(|error| unfit(error.to_string()))
}
