//! The log file of a client in the background, which is its standard error. Decides when it has
//! become too long, and what becomes of it then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::commands::up;

/// Standard error, as a file in the state directory. It is exchanged for a new one when it is full;
/// the full one is kept beside it.
#[derive(Debug)]
pub(super) struct BoundedLog {
    path: PathBuf,
    /// Bytes in the file.
    written: u64,
}

impl BoundedLog {
    /// The log at `path`, which is standard error already.
    pub(super) fn new(path: PathBuf) -> Self {
        let written = fs::metadata(&path).map_or(0, |about| about.len());
        Self { path, written }
    }

    /// From here on standard error is a new file.
    fn exchange(&mut self) -> io::Result<()> {
        let new = up::log_file(&self.path)?;
        self.use_file(&new)
    }

    fn use_file(&mut self, file: &File) -> io::Result<()> {
        rustix::stdio::dup2_stderr(file)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if is_full(self.written, line.len()) && self.exchange().is_err() {
            // A log that cannot be written has no place for its own error; a full disk is worse
            // than a lost line.
            return Ok(line.len());
        }
        let count = io::stderr().write(line)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn is_full(written: u64, more: usize) -> bool {
    written > 0 && written + more as u64 > LOG_MAX
}

/// Longest log of a client in the background, bytes: weeks at the level `info`, minutes at `trace`.
/// With the one before it takes twice as much.
const LOG_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_full_before_it_is_too_long() {
        assert!(!is_full(0, usize::MAX >> 1), "one line always fits");
        assert!(!is_full(LOG_MAX - 10, 10));
        assert!(is_full(LOG_MAX - 10, 11));
    }
}
