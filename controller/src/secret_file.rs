//! Small secret files in the data directory: written whole or not at all, readable by their owner
//! only.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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

/// Opens a file, making an empty one if there is none, so that whoever fills it later does not
/// choose a wider mode.
pub(crate) fn open(file: &Path) -> io::Result<File> {
    let open = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    open.set_permissions(PermissionsExt::from_mode(0o600))?;
    Ok(open)
}

/// Reads what [`write()`] wrote; `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, FileError> {
    let mut text = Vec::new();
    match File::open(file) {
        Ok(open) => open.take(FILE_MAX).read_to_end(&mut text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    }
    .map_err(|error| FileError::new(file, error))?;
    // serde_json's message may repeat a part of the content.
    let parsed = serde_json::from_slice(&text);
    parsed
        .map(Some)
        .map_err(|error| FileError::new(file, format!("it is damaged near line {}", error.line())))
}

/// Writes a file beside its place, makes it durable, and moves it there.
pub(crate) fn write<T: Serialize>(file: &Path, value: &T) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::new(file, error);
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    put(file, &text).map_err(failed)
}

/// The same with the bytes as they are.
pub(crate) fn put(file: &Path, text: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    open.write_all(text)?;
    open.sync_all()?;
    std::fs::rename(&beside, file)?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Longest file that is read, bytes; ours are a few thousand.
const FILE_MAX: u64 = 64 * 1024;
