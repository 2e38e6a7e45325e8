//! The flags by which `up` announces that it is ready. The daemon carries it out.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::Args;
use overlan::program::notify::{AnnounceError, Announcer};

use crate::commands::exit::{Code, Failure};

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    /// Write the ready line to this file once peers can reach the device, and remove it at the end
    #[arg(long, env = "OVERLAN_READY_FILE", value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Write the ready line to this open descriptor once peers can reach the device, then close it
    /// (for s6 and others)
    #[arg(
        long,
        env = "OVERLAN_READY_FD",
        value_name = "N",
        value_parser = clap::value_parser!(RawFd).range(3..),
    )]
    ready_fd: Option<RawFd>,
}

impl NotifyArgs {
    /// Takes the descriptor over. To be called before anything opens one.
    pub(super) fn take_over(&self) -> Result<Announcer, Failure> {
        Ok(Announcer::take_over(
            self.ready_file.clone(),
            self.ready_fd,
        )?)
    }
}

impl From<AnnounceError> for Failure {
    fn from(error: AnnounceError) -> Self {
        match &error {
            AnnounceError::Descriptor { number, .. } => {
                let next = format!(
                    "Hand over a pipe that is open for writing: overlan up --ready-fd {number} \
                     {number}>&1 | …"
                );
                Self::new(Code::Usage, error).next(next)
            }
            AnnounceError::ReadyFile { .. } => Self::new(Code::Other, error)
                .next("Name a file in a directory that this user may write."),
        }
    }
}
