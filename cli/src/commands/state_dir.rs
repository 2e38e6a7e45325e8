//! The directory where a program keeps its state: by its flag, or by the XDG base directory rules.
//! Decides nothing about what lies in it.

use std::path::PathBuf;

use clap::Args;
use overlan::program::state::{IN_MEMORY, StateDir};

use crate::commands::exit::Failure;

/// The directory where a client keeps its state.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateArgs {
    /// Directory with this device's keys and settings
    /// [default: $XDG_STATE_HOME/overlan or ~/.local/state/overlan]
    #[arg(
        long,
        aliases = ["state", "data-dir"],
        env = "OVERLAN_STATE_DIR",
        value_name = "DIR"
    )]
    pub(super) state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// Opens the directory if it exists. A mistyped one is not made: a reader finds nothing in it.
    pub(super) fn open(&self) -> Result<StateDir, Failure> {
        Ok(StateDir::existing(&self.path()?)?)
    }

    /// Opens the directory and makes it if it is missing: for commands that keep something there.
    pub(super) fn create(&self) -> Result<StateDir, Failure> {
        Ok(StateDir::open(&self.path()?)?)
    }

    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(path) if path.as_os_str() == IN_MEMORY => {
                let text = "only `overlan up` can keep its state in memory: no other command \
                    could find it";
                Err(Failure::usage(text))
            }
            Some(path) => Ok(path.clone()),
            None => default_dir("overlan", "--state-dir"),
        }
    }

    /// Does the same for `up`, whose state may be in memory.
    pub(super) fn create_or_in_memory(&self) -> Result<StateDir, Failure> {
        match &self.state_dir {
            Some(path) if path.as_os_str() == IN_MEMORY => Ok(StateDir::in_memory()),
            Some(_) | None => self.create(),
        }
    }
}

/// Returns the default directory for the state of `name`, by the XDG base directory rules; `flag`
/// names another one.
#[expect(
    clippy::disallowed_methods,
    reason = "these variables belong to the desktop, not to a flag of ours"
)]
pub(super) fn default_dir(name: &str, flag: &str) -> Result<PathBuf, Failure> {
    let absolute = |variable| {
        let path = PathBuf::from(std::env::var(variable).ok()?);
        path.is_absolute().then_some(path)
    };
    default_dir_from(absolute("XDG_STATE_HOME"), absolute("HOME"), name, flag)
}

pub(super) fn default_dir_from(
    state_home: Option<PathBuf>,
    home: Option<PathBuf>,
    name: &str,
    flag: &str,
) -> Result<PathBuf, Failure> {
    state_home
        .or_else(|| home.map(|home| home.join(".local/state")))
        .map(|base| base.join(name))
        .ok_or_else(|| {
            Failure::usage(format!(
                "neither {flag} nor $XDG_STATE_HOME nor $HOME says where to keep the state; give \
                 {flag} DIR"
            ))
        })
}
