//! The reasons why the state cannot be used. Decides the next step that each error names.

use std::io;
use std::path::{Path, PathBuf};

use super::{DEVICE, KNOWN_PEERS, LOGIN, SERVES, UNKNOWN};

/// The reason why the state cannot be used: one variant for each thing that the user does next.
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
    /// The operating system refuses access.
    #[error("cannot read or write {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Other users could read or change the state.
    #[error("the state directory {} is not safe: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// The fault, and how to mend it.
        reason: String,
    },
    /// Another `overlan up` runs on this directory.
    #[error(
        "another `overlan up` runs with the state directory {}, or a node of another program; stop \
         it with `overlan down`, or give this one its own --state-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// Returns the next step after `file` was found damaged. Without the device's keys a new enrolment
/// is needed; every other file costs less.
fn way_out(file: &Path) -> &'static str {
    match file.file_name().and_then(|name| name.to_str()) {
        Some(DEVICE | UNKNOWN) => {
            "move the file away, or run `overlan logout`, and enrol again with `overlan up`"
        }
        Some(LOGIN) => "move the file away and run `overlan login` again",
        Some(SERVES) => "move the file away and add the services again with `overlan serve`",
        Some(KNOWN_PEERS) => {
            "restore it from a backup; if you move it away, this device trusts the keys of all \
             peers again as if it saw them for the first time"
        }
        _ => "move the file away; the controller sends its content again",
    }
}

pub(super) fn io_error(file: &Path) -> impl FnOnce(io::Error) -> StateError {
    let file = file.to_owned();
    |source| StateError::Io { file, source }
}
