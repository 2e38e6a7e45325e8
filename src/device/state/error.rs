//! Says why the state cannot be used, and what a person does next.

use std::io;
use std::path::{Path, PathBuf};

use super::{DEVICE, KNOWN_PEERS, LOGIN, SERVES, UNKNOWN};

/// The reason why the state cannot be used. One variant per thing the user does next.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file is damaged, or another version of this program wrote it.
    #[error(
        "the state file {} cannot be used: {reason}; {}", file.display(), way_out(file)
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The operating system refuses.
    #[error("cannot read or write {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// Others could read or change the state.
    #[error("the state directory {} is not safe: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// The fault, and how to mend it.
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

/// Says what helps with a damaged `file`. Losing the device's keys needs a new enrolment, losing
/// anything else less.
fn way_out(file: &Path) -> &'static str {
    match file.file_name().and_then(|name| name.to_str()) {
        Some(DEVICE | UNKNOWN) => {
            "move the file away, or run `overlan logout`, and enrol again with `overlan up`"
        }
        Some(LOGIN) => "move the file away and run `overlan login` again",
        Some(SERVES) => "move the file away and add the services again with `overlan serve`",
        Some(KNOWN_PEERS) => {
            "restore it from a backup; moving it away makes this device trust every peer's key anew"
        }
        _ => "move the file away; it is fetched again",
    }
}

pub(super) fn io_error(file: &Path) -> impl FnOnce(io::Error) -> StateError {
    let file = file.to_owned();
    |source| StateError::Io { file, source }
}
