//! Reads the tree for the other rooms: Rust files with their code lines, and files by their ending.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct RustFile {
    pub(super) path: String,
    pub(super) text: String,
}

impl RustFile {
    /// Lines with code, numbered from 1; comments and what is after `#[cfg(test)]` at the end of a
    /// file are left out.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
    }
}

pub(super) fn rust_files() -> Vec<RustFile> {
    let mut paths = BTreeSet::new();
    for folder in [
        "src",
        "cli",
        "protocol",
        "policy",
        "transport",
        "netstack",
        "plane",
        "relay-server",
        "controller",
        "tests",
        "examples",
        "benches",
        "fuzz",
    ] {
        collect(&root().join(folder), "rs", &mut paths);
    }
    assert!(
        paths.len() > 50,
        "the search found only {} files",
        paths.len()
    );
    paths
        .into_iter()
        .map(|path| RustFile {
            text: read(&path),
            path,
        })
        .collect()
}

pub(super) fn collect(folder: &Path, ending: &str, into: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, ending, into);
            }
        } else if path.extension().is_some_and(|found| found == ending) {
            let relative = path
                .strip_prefix(root())
                .expect("it was found below the root");
            into.insert(relative.to_string_lossy().into_owned());
        }
    }
}

pub(super) fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/examples/")
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tree that is read: this one, or the one that `OVERLAN_TIDY_ROOT` names.
pub(super) fn root() -> PathBuf {
    environment("OVERLAN_TIDY_ROOT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test takes its settings from the environment"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
