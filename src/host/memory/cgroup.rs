//! The memory limit of this process's cgroup, of either version. Decides where it stands; it is
//! read once, when asked.

use std::fs;
use std::path::{Path, PathBuf};

/// The least memory limit of this process's cgroup and of those above it, bytes; `None` without
/// one, and where there are no cgroups. It reads `/proc` and the file system of the cgroups.
#[must_use]
pub fn cgroup_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let cgroups = read("/proc/self/cgroup".as_ref())?;
    let mounts = read("/proc/self/mountinfo".as_ref())?;
    limit(&cgroups, &mounts, read)
}

/// The same from the texts of both files; `read` reads the files of the limits.
fn limit(cgroups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut limits = Vec::new();
    for line in cgroups.lines().take(LINES_MAX) {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers {
            "" => &VERSION_2,
            _ if controllers.split(',').any(|name| name == "memory") => &VERSION_1,
            _ => continue,
        };
        let Some(mount) = Mount::find(mounts, version) else {
            continue;
        };
        for folder in mount.folders(path) {
            for file in version.files {
                let value = read(&folder.join(file));
                limits.extend(value.and_then(|text| text.trim().parse::<u64>().ok()));
            }
        }
    }
    limits.into_iter().filter(|limit| *limit < NO_LIMIT).min()
}

/// The files in which a version of cgroups shows its limits.
struct CgroupVersion {
    file_system: &'static str,
    /// Must stand among the options of the mount.
    option: Option<&'static str>,
    files: &'static [&'static str],
}

const VERSION_2: CgroupVersion = CgroupVersion {
    file_system: "cgroup2",
    option: None,
    // Above `high` a process is slowed down until it hardly moves, so it is a limit as good as the
    // other.
    files: &["memory.max", "memory.high"],
};

const VERSION_1: CgroupVersion = CgroupVersion {
    file_system: "cgroup",
    option: Some("memory"),
    files: &["memory.limit_in_bytes"],
};

/// The folder in which the cgroups of one hierarchy are seen.
struct Mount<'a> {
    /// The cgroup that is seen there.
    root: &'a str,
    at: &'a str,
}

impl<'a> Mount<'a> {
    fn find(mounts: &'a str, version: &CgroupVersion) -> Option<Self> {
        mounts.lines().take(LINES_MAX).find_map(|line| {
            // 36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup cgroup rw,memory
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(3);
            let (root, at) = (place.next()?, place.next()?);
            let mut kind = kind.split(' ');
            let file_system = kind.next()?;
            let options = kind.nth(1).unwrap_or_default();
            let fits = file_system == version.file_system
                && version
                    .option
                    .is_none_or(|option| options.split(',').any(|one| one == option));
            fits.then_some(Mount { root, at })
        })
    }

    /// The folders of the cgroup `path` and of all above it that are seen here. A cgroup outside of
    /// what is seen, as a container names its own, is the one at the mount's root.
    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).ok();
        let has_parent = |path: &&Path| path.components().all(|part| part.as_os_str() != "..");
        let below = below.filter(has_parent).unwrap_or(Path::new(""));
        let all = below.ancestors().take(DEPTH_MAX);
        all.map(|below| Path::new(self.at).join(below)).collect()
    }
}

/// Version 1 says "none" by the largest number of whole pages; nobody has as much memory.
const NO_LIMIT: u64 = 1 << 60;

/// Lines of the kernel's tables that are looked at: hosts with many containers have some thousands
/// of mounts.
const LINES_MAX: usize = 65_536;

/// Cgroups above one another that are looked at.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests;
