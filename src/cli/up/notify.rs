//! Who is told when `up` is ready and when it ends: a service manager, by `$NOTIFY_SOCKET`, whoever waits for a file, and whoever reads
//! a descriptor. Decides no more than in which order.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::Args;
use sd_notify::NotifyState;

use crate::cli::exit::{Code, Failure};

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    /// Write the ready line into this file once peers can reach the device, and remove the file at the end
    #[arg(long, env = "OVERLAN_READY_FILE", value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Write the ready line to this open descriptor once peers can reach the device, then close it (s6 and others)
    #[arg(long, env = "OVERLAN_READY_FD", value_name = "N", value_parser = clap::value_parser!(RawFd).range(3..))]
    ready_fd: Option<RawFd>,
    /// Who reads it, until told.
    #[arg(skip)]
    reader: Mutex<Option<File>>,
}

impl NotifyArgs {
    /// Takes the descriptor over, so that no other program gets it and its reader sees its end. Belongs before anything that opens one.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        let Some(number) = self.ready_fd else {
            return Ok(());
        };
        // One of our own, where nobody has handed one over under this number, cannot be opened like this.
        let opened = File::options()
            .write(true)
            .open(format!("{DESCRIPTORS}/{number}"))
            .and_then(|file| Ok(nix::unistd::close(number).map(|()| file)?));
        let file = opened.map_err(|error| {
            let text = format!("cannot use the descriptor {number} for --ready-fd: {error}");
            Failure::usage(text).next(format!(
                "Hand over a pipe that is open for writing: overlan up --ready-fd {number} {number}>&1 | …"
            ))
        })?;
        *self.reader() = Some(file);
        Ok(())
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what an earlier process left behind: until the file is there again, nobody is ready.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        match &self.ready_file {
            Some(path) => removed(path).map_err(|error| unusable(path, &error)),
            None => Ok(()),
        }
    }

    /// Peers reach the device; `line` says how.
    pub(super) fn ready(&self, line: &str) -> Result<(), Failure> {
        if let Some(path) = &self.ready_file {
            // Whoever sees the file sees all of it.
            let mut new = path.clone().into_os_string();
            new.push(".new");
            let written =
                fs::write(&new, format!("{line}\n")).and_then(|()| fs::rename(&new, path));
            written.map_err(|error| unusable(path, &error))?;
        }
        if let Some(mut reader) = self.reader().take()
            && let Err(error) = reader.write_all(format!("{line}\n").as_bytes())
        {
            // It may have gone away; the device is up all the same.
            tracing::warn!(%error, "the reader of --ready-fd was not told");
        }
        tell(&[NotifyState::Ready, NotifyState::Status(line)]);
        Ok(())
    }

    /// Settings are read again; [`NotifyArgs::ready`] says when that is over.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager was not told"),
        }
    }

    /// The end has begun.
    pub(super) fn ending(&self) {
        tell(&[NotifyState::Stopping]);
        if let Some(path) = &self.ready_file
            && let Err(error) = removed(path)
        {
            tracing::warn!(path = %path.display(), %error, "the ready file stays behind");
        }
    }
}

fn removed(path: &PathBuf) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Where the system shows a process its descriptors.
#[cfg(target_os = "linux")]
const DESCRIPTORS: &str = "/proc/self/fd";
#[cfg(not(target_os = "linux"))]
const DESCRIPTORS: &str = "/dev/fd";

fn unusable(path: &std::path::Path, error: &io::Error) -> Failure {
    let text = format!("cannot use {} for --ready-file: {error}", path.display());
    Failure::new(Code::Other, text).next("Name a file in a directory that this user may write.")
}

/// Without a service manager nothing is sent.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
