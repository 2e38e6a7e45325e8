//! The reasons why there is no measurement: this machine cannot make it, or something failed.

use std::fmt::Display;

/// The only two ends that the suite treats differently.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A program is not installed or the machine lacks something. Reported as absent, never as a
    /// loss.
    #[error("not available here: {0}")]
    Absent(String),
    /// Anything else. Reported as a failed run.
    #[error("{0}")]
    Failed(String),
}

/// Shorthand of this crate.
pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// A failure in words.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

/// Says what was tried when an error of another library comes up.
pub(crate) trait During<T> {
    /// The value, or `what: error`.
    fn during(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Trouble::Failed(format!("{what}: {error}")))
    }
}
