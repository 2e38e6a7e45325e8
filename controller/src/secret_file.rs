//! Small secret files in the data directory: written whole or not at all, readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Makes the directory if needed, and keeps others out of it.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))
}

/// Opens a file, making an empty one if there is none, so that whoever fills it later does not choose a wider mode.
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
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    let mut text = Vec::new();
    match File::open(file) {
        Ok(open) => open.take(FILE_MAX).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|error| {
        // serde_json's message may repeat a part of the content.
        let place = format!("not readable near line {}", error.line());
        io::Error::new(io::ErrorKind::InvalidData, place)
    })
}

/// Writes a file beside its place, makes it durable, and moves it there.
pub(crate) fn write<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
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
    open.write_all(&text)?;
    open.sync_all()?;
    std::fs::rename(&beside, file)?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Longest file that is read, bytes; ours are a few thousand.
const FILE_MAX: u64 = 64 * 1024;
