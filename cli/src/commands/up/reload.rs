//! SIGHUP while `up` runs: settings are read again, or the terminal is gone. Decides which of the
//! two it is.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

use overlan::program::reload::ChangedSettings;

use super::UpArgs;
use crate::commands::config::{self, Setting};
use crate::commands::exit::Failure;
use crate::commands::{Cli, Command, NotRead};

/// Waits for SIGHUP, and knows which settings count.
pub(super) struct Reload {
    hangup: Signal,
    had_terminal: bool,
    settings: Vec<Setting>,
}

/// The meaning of a SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// The terminal is gone, and its user with it.
    Gone,
    /// Somebody asks to read the settings again.
    Asked,
}

/// The settings that were read.
pub(super) struct ReadSettings {
    pub(super) args: Box<UpArgs>,
    pub(super) log: String,
    pub(super) changed: ChangedSettings,
    settings: Vec<Setting>,
}

impl Reload {
    /// From here on SIGHUP does not end the program by itself.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            had_terminal: has_terminal(),
            settings: config::settings(&line())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Hangup {
        // `None` means that the runtime ends.
        let _ = self.hangup.recv().await;
        match self.had_terminal && !has_terminal() {
            true => Hangup::Gone,
            false => Hangup::Asked,
        }
    }

    /// Reads line, environment and file as at the start.
    pub(super) fn read(&self) -> Result<ReadSettings, Failure> {
        let settings = config::settings(&line())?;
        let cli = Cli::read(line()).map_err(|error| match error {
            NotRead::Config(failure) => failure,
            NotRead::Line(error) => Failure::wrong_line(&error),
        })?;
        let Command::Up(args) = cli.command else {
            return Err(Failure::usage(
                "the command line is not that of `up` any more",
            ));
        };
        Ok(ReadSettings {
            args,
            log: cli.log,
            changed: ChangedSettings::between(pairs(&self.settings), pairs(&settings)),
            settings,
        })
    }

    /// Makes the settings that were read the present ones.
    pub(super) fn keep(&mut self, again: ReadSettings) {
        self.settings = again.settings;
    }
}

fn pairs(settings: &[Setting]) -> impl Iterator<Item = (&str, Option<&str>)> {
    settings
        .iter()
        .map(|setting| (setting.key(), setting.value()))
}

fn line() -> Vec<std::ffi::OsString> {
    std::env::args_os().collect()
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}
