//! Announces that `up` is ready, and that it ends: to a service manager by `$NOTIFY_SOCKET`, to
//! programs that wait for a file, and to the reader of a descriptor. Decides the order of these.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use sd_notify::NotifyState;

/// The programs to which readiness is announced.
#[derive(Debug, Default)]
pub struct Announcer {
    ready_file: Option<PathBuf>,
    /// The open descriptor, until the line is written.
    reader: Mutex<Option<File>>,
}

/// The reason why readiness cannot be announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The number is not a descriptor that is open for writing.
    #[error("cannot use the descriptor {number} for --ready-fd: {source}")]
    Descriptor {
        /// Its number.
        number: RawFd,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be written or removed.
    #[error("cannot use {} for --ready-file: {source}", path.display())]
    ReadyFile {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Announcer {
    /// Takes the descriptor over, so that no child inherits it and its reader sees the end. It must
    /// be called before this process opens any descriptor.
    ///
    /// # Errors
    /// [`AnnounceError::Descriptor`] if it is not open for writing.
    pub fn take_over(
        ready_file: Option<PathBuf>,
        ready_fd: Option<RawFd>,
    ) -> Result<Self, AnnounceError> {
        let reader = match ready_fd {
            Some(number) => Some(
                descriptor(number)
                    .map_err(|source| AnnounceError::Descriptor { number, source })?,
            ),
            None => None,
        };
        Ok(Self {
            ready_file,
            reader: Mutex::new(reader),
        })
    }

    /// Removes the ready file of an earlier process: this device is not ready until it is back.
    ///
    /// # Errors
    /// [`AnnounceError::ReadyFile`] if it stays.
    pub fn begin(&self) -> Result<(), AnnounceError> {
        match &self.ready_file {
            Some(path) => removed(path).map_err(|source| unusable(path, source)),
            None => Ok(()),
        }
    }

    /// Announces that peers reach the device, with `line` as the text.
    ///
    /// # Errors
    /// [`AnnounceError::ReadyFile`] if the file cannot be written.
    pub fn ready(&self, line: &str) -> Result<(), AnnounceError> {
        if let Some(path) = &self.ready_file {
            // A reader that sees the file sees all of it.
            let mut new = path.clone().into_os_string();
            new.push(".new");
            let written =
                fs::write(&new, format!("{line}\n")).and_then(|()| fs::rename(&new, path));
            written.map_err(|source| unusable(path, source))?;
        }
        if let Some(mut reader) = self.reader.lock().take()
            && let Err(error) = reader.write_all(format!("{line}\n").as_bytes())
        {
            // The reader may have left; the device is up all the same.
            tracing::warn!(%error, "cannot announce readiness to the reader of --ready-fd");
        }
        tell(&[NotifyState::Ready, NotifyState::Status(line)]);
        Ok(())
    }

    /// Announces that settings are read again, until [`Announcer::ready`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot announce a reload to the service manager"),
        }
    }

    /// Announces that the end has begun.
    pub fn ending(&self) {
        tell(&[NotifyState::Stopping]);
        if let Some(path) = &self.ready_file
            && let Err(error) = removed(path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the ready file");
        }
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The directory in which the system shows a process its descriptors.
#[cfg(target_os = "linux")]
const DESCRIPTORS: &str = "/proc/self/fd";
#[cfg(not(target_os = "linux"))]
const DESCRIPTORS: &str = "/dev/fd";

fn descriptor(number: RawFd) -> io::Result<File> {
    // The path of a descriptor that this process opened itself cannot be opened for writing.
    File::options()
        .write(true)
        .open(format!("{DESCRIPTORS}/{number}"))
        .and_then(|file| Ok(nix::unistd::close(number).map(|()| file)?))
}

fn unusable(path: &Path, source: io::Error) -> AnnounceError {
    let path = path.to_owned();
    AnnounceError::ReadyFile { path, source }
}

/// Sends nothing if there is no service manager.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot announce the state to the service manager");
    }
}
