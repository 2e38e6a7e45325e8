//! Small files of a private directory: readable only by their owner, and whole at any moment.
//! Decides how they are read, written and removed; does not know their content.
//!
//! A file is written beside its place under the name of [`part_of`], synced, and renamed; then the
//! directory is synced. A reader, also after a crash, finds the old content or the new one, and a
//! crash leaves at most one part file, which the next write replaces. There may be one writer at a
//! time per file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Reads at most `max` bytes of a file; `None` if there is none.
///
/// # Errors
/// Those of the operating system.
pub fn read(path: &Path, max: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Room for the whole file, and for the read that finds the end: a buffer that grows leaves
    // copies of secrets in memory.
    let size = file.metadata()?.len().min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 2));
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a file, mode 0600, in place of what was there.
///
/// # Errors
/// Those of the operating system. The file is then as it was, or, if only the last sync of the
/// directory failed, possibly new.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = part_of(path);
    if let Err(error) = write_part(&part, bytes).and_then(|()| fs::rename(&part, path)) {
        // Half a file with keys is of no use; the next attempt makes another.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    sync_dir(path)
}

/// Removes a file, and a part file that a crash left beside it, which may hold keys as well. It is
/// not an error if the file does not exist.
///
/// # Errors
/// Those of the operating system.
pub fn remove(path: &Path) -> io::Result<()> {
    let was_there = [remove_one(&part_of(path))?, remove_one(path)?];
    match was_there {
        [false, false] => Ok(()),
        _ => sync_dir(path),
    }
}

/// Renames a file within its directory. It is not an error if the file does not exist.
///
/// # Errors
/// Those of the operating system.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Ok(()) => sync_dir(to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the name that a file has while it is written: `.NAME.part`.
#[must_use]
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

fn write_part(part: &Path, bytes: &[u8]) -> io::Result<()> {
    // A part file that a crash left may have any content and any mode.
    remove_one(part)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(part)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file. Returns whether there was one.
fn remove_one(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_dir(file: &Path) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

/// The mode of files: the owner reads and writes, others may do nothing.
const MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_written_whole_for_its_owner_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.key");
        assert_eq!(read(&path, 100).unwrap(), None);
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path, 100).unwrap().unwrap().as_slice(), b"second");
        assert_eq!(read(&path, 3).unwrap().unwrap().as_slice(), b"sec");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_that_a_crash_left_lends_neither_content_nor_mode_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.key");
        let part = dir.path().join(".seed.key.part");
        assert_eq!(part_of(&path), part);
        fs::write(&part, b"half of a much longer key").unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"whole").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read(&path, 100).unwrap().unwrap().as_slice(), b"whole");
        fs::write(&part, b"half").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        // A directory cannot be replaced by a file.
        fs::create_dir(&path).unwrap();
        write(&path, b"new").unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn renaming_a_file_that_is_missing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        rename(&from, &to).unwrap();
        write(&from, b"x").unwrap();
        rename(&from, &to).unwrap();
        assert_eq!(read(&to, 9).unwrap().unwrap().as_slice(), b"x");
    }
}
