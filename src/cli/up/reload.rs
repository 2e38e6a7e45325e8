//! SIGHUP while `up` runs: settings are read again. Decides which of those that changed count at once and which at the next start.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{UpArgs, doors};
use crate::cli::config::{self, Setting};
use crate::cli::exit::Failure;
use crate::cli::{Cli, Command, NotRead};

/// Waits for SIGHUP, and knows which settings count.
pub(super) struct Reload {
    hangup: Signal,
    had_terminal: bool,
    settings: Vec<Setting>,
}

/// What a SIGHUP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// The terminal is gone, and whoever sat there with it.
    Gone,
    /// Somebody asks to read the settings again.
    Asked,
}

/// What was read.
pub(super) struct Again {
    pub(super) args: Box<UpArgs>,
    pub(super) log: String,
    pub(super) changed: Changed,
    settings: Vec<Setting>,
}

/// Names of settings that are not what they were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    now: Vec<String>,
    later: Vec<String>,
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
    pub(super) fn read(&self) -> Result<Again, Failure> {
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
        Ok(Again {
            args,
            log: cli.log,
            changed: compare(&self.settings, &settings),
            settings,
        })
    }

    /// What was read counts from now on.
    pub(super) fn keep(&mut self, again: Again) {
        self.settings = again.settings;
    }
}

impl Changed {
    /// What a file of secrets holds changed, though its name did not.
    pub(super) fn add_now(&mut self, setting: &str) {
        if !self.now.iter().any(|known| known == setting) {
            self.now.push(setting.to_owned());
        }
    }

    /// One sentence for people.
    pub(super) fn sentence(&self) -> String {
        let later = match self.later.as_slice() {
            [] => String::new(),
            later => format!("; at the next start: {}", later.join(", ")),
        };
        match self.now.as_slice() {
            [] if later.is_empty() => "Settings were read again; nothing changed.".to_owned(),
            [] => format!("Settings were read again; nothing changes now{later}."),
            now => format!(
                "Settings were read again; changed: {}{later}.",
                now.join(", ")
            ),
        }
    }
}

/// Settings of the same command, before and after.
fn compare(before: &[Setting], after: &[Setting]) -> Changed {
    let mut changed = Changed::default();
    for setting in after {
        let same = |known: &&Setting| known.key() == setting.key();
        if before
            .iter()
            .find(same)
            .is_some_and(|known| known.value() == setting.value())
        {
            continue;
        }
        let key = setting.key().to_owned();
        match key == LOG || doors::SETTINGS.contains(&setting.key()) {
            true => changed.now.push(key),
            false => changed.later.push(key),
        }
    }
    changed
}

fn line() -> Vec<std::ffi::OsString> {
    std::env::args_os().collect()
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// The setting of the log filter.
const LOG: &str = "log";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        let pairs = pairs.iter();
        pairs.map(|(key, value)| Setting::of(key, value)).collect()
    }

    #[test]
    fn what_counts_now_is_told_apart_from_what_counts_later() {
        let before = settings(&[("hold", "10"), ("hostname", "web"), ("log", "warn")]);
        let none = compare(&before, &before);
        assert_eq!(
            none.sentence(),
            "Settings were read again; nothing changed."
        );
        let after = settings(&[("hold", "3"), ("hostname", "db"), ("log", "debug")]);
        assert_eq!(
            compare(&before, &after).sentence(),
            "Settings were read again; changed: hold, log; at the next start: hostname."
        );
        let later = settings(&[("hold", "10"), ("hostname", "db"), ("log", "warn")]);
        assert_eq!(
            compare(&before, &later).sentence(),
            "Settings were read again; nothing changes now; at the next start: hostname."
        );
    }
}
