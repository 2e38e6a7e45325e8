//! Files with keys in the data directory, as JSON. Decides what a damaged one is called; how files
//! are kept whole and private is [`overlan_transport::file`]'s.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use overlan_transport::file;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file of the data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub(crate) struct FileError {
    pub(crate) file: PathBuf,
    pub(crate) reason: String,
}

impl FileError {
    pub(crate) fn new(file: &Path, reason: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Reads a file that [`write()`] wrote; `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let text = file::read(path, FILE_MAX).map_err(|error| FileError::new(path, error))?;
    let Some(text) = text else {
        return Ok(None);
    };
    // The message of serde_json may repeat a part of the content.
    let parsed = serde_json::from_slice(&text);
    parsed
        .map(Some)
        .map_err(|error| FileError::new(path, format!("it is damaged near line {}", error.line())))
}

/// Writes a file, whole and durable, in place of what was there.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::new(path, error);
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    file::write(path, &text).map_err(failed)
}

/// Longest file that is read, bytes; ours are a few thousand.
const FILE_MAX: u64 = 64 * 1024;
