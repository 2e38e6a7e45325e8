//! The laws of single files: their size, their first sentence, and words that must not be left in
//! them.

use std::collections::BTreeSet;
use std::fs;

use crate::sources::{collect, is_test, root, rust_files};

/// Rust files longer than this are too much for one job.
const LINES_MAX: usize = 800;

#[test]
fn files_stay_short() {
    for file in rust_files() {
        let lines = file.text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines; {LINES_MAX} are the limit: split it by job",
            file.path
        );
    }
}

#[test]
fn modules_say_what_they_are() {
    for file in rust_files() {
        let is_sibling_test = is_test(&file.path) && !file.path.starts_with("tests/");
        assert!(
            is_sibling_test || file.text.starts_with("//!"),
            "{} does not open with its one sentence",
            file.path
        );
        assert!(
            !file.path.ends_with("/mod.rs"),
            "{}: a module is x.rs beside x/",
            file.path
        );
    }
}

#[test]
fn no_markers_are_left() {
    // Put together here, so that this file does not find itself.
    let markers = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["dbg", "!("].concat(),
    ];
    let ignored = ["#[", "ignore"].concat();
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            for marker in markers.iter().chain([&ignored]) {
                assert!(
                    !line.contains(marker.as_str()),
                    "{}:{}: {marker}",
                    file.path,
                    number + 1
                );
            }
        }
    }
}

#[test]
fn one_product_is_named() {
    // Put together here, so that this file does not find itself. Names and prefixes of keys that
    // this product once had.
    let former = [
        ["pert", "ino"],
        ["pvk", "_"],
        ["pvr", "_"],
        ["pvs", "_"],
        ["pvt", "_"],
        ["pvx", "_"],
    ]
    .map(|it| it.concat());
    let mut files = BTreeSet::new();
    for ending in [
        "rs",
        "md",
        "toml",
        "yml",
        "yaml",
        "json",
        "js",
        "sh",
        "sql",
        "txt",
        "service",
        "lock",
        "proptest-regressions",
    ] {
        collect(&root(), ending, &mut files);
    }
    files.insert(".ci/run".to_owned());
    assert!(files.len() > 300, "the search found {} files", files.len());
    let mut found = Vec::new();
    for file in files {
        // Whatever is no text holds no name that anybody reads.
        let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
        let lines = text.lines().map(str::to_ascii_lowercase).enumerate();
        let named = std::iter::once((0, file.to_ascii_lowercase())).chain(lines);
        for (number, line) in named {
            if former.iter().any(|name| line.contains(name.as_str())) {
                found.push(format!("{file}:{}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "another name: {}", found.join(", "));
}
