//! Decides whether a directory may hold keys: it must belong to its user alone. Makes one that is
//! missing, and never changes one that exists.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::process::geteuid;

/// The purpose of a directory, in the words of messages about it.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The option that names another one, such as `--state-dir`.
    pub option: &'static str,
    /// The keys that it would hold, such as `this device's keys`.
    pub keys: &'static str,
}

/// The reason why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// It cannot be made or looked at.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not belong to its user alone; the text says what is wrong and how to mend it.
    #[error("{0}")]
    Unfit(String),
}

/// Makes the directory, with those above it, for its owner only; one that exists must be so
/// already.
///
/// # Errors
/// See [`PrivateDirError`].
pub fn make(dir: &Path, purpose: Purpose) -> Result<(), PrivateDirError> {
    let made = DirBuilder::new().recursive(true).mode(MODE).create(dir);
    match made {
        // Something with this name exists; the check says what is wrong with it.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        Ok(()) | Err(_) => check(dir, purpose),
    }
}

/// Checks a directory that exists.
///
/// # Errors
/// See [`PrivateDirError`]; an [`io::ErrorKind::NotFound`] if it is missing.
pub fn check(dir: &Path, purpose: Purpose) -> Result<(), PrivateDirError> {
    let found = Found::from(&fs::metadata(dir)?);
    match objection(dir, found, geteuid().as_raw(), purpose) {
        None => Ok(()),
        Some(objection) => Err(PrivateDirError::Unfit(objection)),
    }
}

/// The facts that the file system reports.
#[derive(Debug, Clone, Copy)]
struct Found {
    is_dir: bool,
    owner: u32,
    mode: u32,
}

impl From<&Metadata> for Found {
    fn from(found: &Metadata) -> Self {
        Self {
            is_dir: found.is_dir(),
            owner: found.uid(),
            mode: found.mode(),
        }
    }
}

/// Returns what is wrong, for a program that runs as user `us`.
fn objection(dir: &Path, found: Found, us: u32, purpose: Purpose) -> Option<String> {
    let Purpose { option, keys } = purpose;
    let Found {
        is_dir,
        owner,
        mode,
    } = found;
    if !is_dir {
        return Some(format!("it is not a directory; use another {option}"));
    }
    if owner != us {
        return Some(format!(
            "it belongs to user {owner} and this program runs as user {us}; \
            run it as the owner or use another {option}"
        ));
    }
    if mode & OTHERS != 0 {
        let way_out = match mode & STICKY {
            0 => format!("run `chmod 700 {}`, or use another {option}", dir.display()),
            // It is shared on purpose, like /tmp, and must stay as it is.
            _ => format!("use another {option}, such as one inside it"),
        };
        return Some(format!(
            "its mode {:04o} lets other users in, and it would hold {keys}; {way_out}",
            mode & 0o7777
        ));
    }
    None
}

/// The mode of the directory: the owner may do everything, others nothing.
const MODE: u32 = 0o700;
/// The bits of the mode for group and others.
const OTHERS: u32 = 0o077;
/// The bit of a shared directory, in which users remove only their own files.
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose = Purpose {
        option: "--state-dir",
        keys: "this device's keys",
    };

    fn judge(owner: u32, mode: u32) -> Option<String> {
        let found = Found {
            is_dir: true,
            owner,
            mode,
        };
        objection(Path::new("/srv/x"), found, 7, PURPOSE)
    }

    #[test]
    fn a_directory_is_its_users_alone_or_refused_with_the_way_out() {
        for mode in [0o40700, 0o40500, 0o40000, 0o41700] {
            assert_eq!(judge(7, mode), None, "{mode:o}");
        }
        for bit in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
            let refused = judge(7, 0o40700 | bit).unwrap();
            assert!(
                refused.contains(&format!("{:04o}", 0o700 | bit)),
                "{refused}"
            );
            assert!(refused.contains("`chmod 700 /srv/x`"), "{refused}");
            assert!(refused.contains("this device's keys"), "{refused}");
        }
        let shared = judge(7, 0o41777).unwrap();
        assert!(!shared.contains("chmod"), "{shared}");
        let foreign = judge(0, 0o40700).unwrap();
        assert!(foreign.contains("user 0") && foreign.contains("user 7"));
        let file = Found {
            is_dir: false,
            owner: 7,
            mode: 0o100_600,
        };
        let refused = objection(Path::new("/srv/x"), file, 7, PURPOSE).unwrap();
        assert!(refused.contains("not a directory"), "{refused}");
    }
}
