//! A Unix socket as the door's place: decides whether a file that is there already may be replaced,
//! and who may open the socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::{UnixListener, UnixStream};

use crate::host::accept::AcceptFrom;

/// A listening Unix socket. Dropping it removes its file, unless another has taken its place.
#[derive(Debug)]
pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

/// The reason why a Unix socket was not opened.
#[derive(Debug, thiserror::Error)]
pub enum UnixDoorError {
    /// Another program listens there.
    #[error("another program listens on {}; give another path, or stop that program", .0.display())]
    InUse(PathBuf),
    /// Something else has that name, and is not ours to remove.
    #[error("{} exists and is not a socket; give another path, or remove it", .0.display())]
    Occupied(PathBuf),
    /// The system refused.
    #[error("cannot make the socket {}: {source}", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl UnixDoor {
    /// Listens on `path`, whose file gets the permissions `mode` before anybody can find it. A dead
    /// socket, which a crashed program left and on which nobody listens, is replaced.
    ///
    /// # Errors
    /// See [`UnixDoorError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, UnixDoorError> {
        let failed = |source| UnixDoorError::Io {
            path: path.to_owned(),
            source,
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        // Two that start at once must not both find a dead socket and replace each other's live
        // one.
        let lock = fs::File::open(folder).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        check_free(path)?;

        // It becomes visible under its name only with the right mode.
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let hidden = folder.join(hidden);
        let made = make(&hidden, mode).and_then(|(listener, file)| {
            fs::rename(&hidden, path)?;
            Ok((listener, file))
        });
        match made {
            Ok((listener, file)) => Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            }),
            Err(error) => {
                // Nothing is there if the socket was not made.
                let _ = fs::remove_file(&hidden);
                Err(failed(error))
            }
        }
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the permissions of the socket's file.
    ///
    /// # Errors
    /// The file is gone, or was taken over by another user.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }
}

impl AcceptFrom for UnixDoor {
    type Stream = UnixStream;
    type Client = ();

    async fn next(&self) -> io::Result<(UnixStream, ())> {
        self.listener.next().await
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file);
        if is_ours {
            // It may be gone already, which is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    match fs::remove_file(path) {
        // A process with our number died in the middle of this.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let file = identity(&fs::symlink_metadata(path)?);
    Ok((listener, file))
}

/// Checks that nothing is at `path`, or a socket on which nobody listens.
fn check_free(path: &Path) -> Result<(), UnixDoorError> {
    let failed = |source| UnixDoorError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(UnixDoorError::Occupied(path.to_owned()));
        }
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(UnixDoorError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
