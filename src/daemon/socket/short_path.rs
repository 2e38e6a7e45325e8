//! The path of a socket in a form that fits a socket address. Decides the shorter name of a deep
//! directory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A socket's path in a form that fits a socket address, however deep the directory lies.
#[derive(Debug)]
pub(super) enum ShortPath {
    Fits(PathBuf),
    /// On Linux, an open directory also has a short name.
    ByDirectory {
        _directory: File,
        path: PathBuf,
    },
}

impl ShortPath {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
            return Ok(Self::Fits(path.to_owned()));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let directory = File::open(parent)?;
        let descriptors = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        if !descriptors.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                format!(
                    "its path exceeds {SOCKET_PATH_MAX} bytes and there is no /proc to shorten \
                     it; use a shorter --state-dir"
                ),
            ));
        }
        Ok(Self::ByDirectory {
            _directory: directory,
            path: descriptors.join(name),
        })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Fits(path) | Self::ByDirectory { path, .. } => path,
        }
    }
}

/// Longest path of a Unix socket, bytes, without the terminating zero.
pub(super) const SOCKET_PATH_MAX: usize = 107;
