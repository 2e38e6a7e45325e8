//! Decides whether a directory may hold a controller's database and keys, and whether the files
//! there are one whole deployment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use overlan_transport::private_dir::{self, PrivateDirError};

use crate::ca;
use crate::{sealing, tickets};

/// The reason why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    /// It cannot be read or made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not safe, or belongs to something else.
    #[error("{0}")]
    Unfit(String),
}

/// Makes the directory for its owner only, or checks that it is. The mode of an existing one stays
/// as it is.
pub(crate) fn prepare(dir: &Path) -> Result<(), DirError> {
    private_dir::make(dir, PURPOSE).map_err(|error| match error {
        PrivateDirError::Io(error) => DirError::Io(error),
        PrivateDirError::Unfit(reason) => DirError::Unfit(reason),
    })?;
    let mut foreign = None;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_ours(&name) {
            return Ok(());
        }
        // The root of a file system has it.
        if name != "lost+found" {
            foreign = Some(name);
        }
    }
    match foreign {
        None => Ok(()),
        Some(name) => Err(DirError::Unfit(format!(
            "it holds other files, such as {name}, and none of a controller; give --data-dir an \
             empty or a new directory"
        ))),
    }
}

/// Opens a file, making an empty one if there is none: the mode is right before anybody fills it.
pub(crate) fn open(file: &Path) -> io::Result<File> {
    let open = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    open.set_permissions(PermissionsExt::from_mode(0o600))?;
    Ok(open)
}

/// Returns the files that only a deployment leaves, beside its database. Without the database they
/// are the remains of one.
pub(crate) fn traces(dir: &Path) -> Vec<PathBuf> {
    let written = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() > 0);
    let files = KEYS.into_iter().chain([DATABASE_WAL]);
    files.map(|name| dir.join(name)).filter(written).collect()
}

/// Returns what helps if a file cannot be used.
pub(crate) fn way_out(file: &Path) -> &'static str {
    let name = file.file_name().and_then(|name| name.to_str());
    match name {
        Some(ca::CA_FILE) => {
            "restore a backup (`overlan controller restore`): devices trust only this CA, so \
             another one would lock all of them out"
        }
        Some(ca::names::FILE) => {
            "restore it from a backup, or move it away: the controller then makes another CA for \
             names, and everybody who trusts the old one has to fetch it again (`overlan ca`)"
        }
        Some(tickets::FILE) => {
            "restore it from a backup, or move it away: the controller then makes another key, and \
             devices get new tickets by themselves"
        }
        Some(sealing::FILE) => {
            "restore it from a backup, or move it away: the controller then makes another key, and \
             what was sealed by the old one has to be given again, such as the secret of an \
             identity provider's client"
        }
        Some(_) | None => "check that the controller may read and write it",
    }
}

/// Says whether a file of this name is a controller's.
fn is_ours(name: &str) -> bool {
    name == DATABASE || name == DATABASE_WAL || name == LOCK || KEYS.contains(&name)
}

/// The purpose of the directory, for error texts.
const PURPOSE: private_dir::Purpose = private_dir::Purpose {
    option: "--data-dir",
    keys: "this deployment's keys",
};

/// The database.
pub(crate) const DATABASE: &str = "controller.db";
/// The newest writes, which are not in [`DATABASE`] yet.
pub(crate) const DATABASE_WAL: &str = "controller.db-wal";
/// Locked while a controller uses the directory.
pub(crate) const LOCK: &str = "lock";
/// Keys that only a backup can restore. The server's own certificate is not among them: it is made
/// again.
pub(crate) const KEYS: [&str; 4] = [ca::CA_FILE, ca::names::FILE, tickets::FILE, sealing::FILE];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_directory_of_other_things_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        prepare(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
        fs::create_dir(data.join("lost+found")).unwrap();
        prepare(&data).unwrap();
        fs::write(data.join("photo.jpg"), "x").unwrap();
        let refused = prepare(&data).unwrap_err().to_string();
        assert!(refused.contains("photo.jpg"), "{refused}");
        fs::write(data.join(DATABASE), "x").unwrap();
        prepare(&data).unwrap();
    }
}
