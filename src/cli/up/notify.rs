//! Who is told when `up` is ready and when it ends: a service manager, by `$NOTIFY_SOCKET`, and whoever waits for a file. Decides no
//! more than in which order.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use sd_notify::NotifyState;

use crate::cli::exit::{Code, Failure};

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    /// Write the ready line into this file once peers can reach the device, and remove the file at the end
    #[arg(long, env = "OVERLAN_READY_FILE", value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

impl NotifyArgs {
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
