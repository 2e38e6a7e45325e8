//! The law of this crate's rooms: each names only rooms below it, so that none can be understood
//! only together with another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn no_room_is_on_a_circle() {
    let mut below = rooms();
    assert!(below.len() > 15, "only {} rooms were found", below.len());
    // Takes away what names nothing that is left, until nothing goes any more.
    loop {
        let left: BTreeSet<String> = below.keys().cloned().collect();
        let before = below.len();
        below.retain(|_, named| named.iter().any(|room| left.contains(room)));
        if below.len() == before {
            break;
        }
    }
    assert!(below.is_empty(), "these rooms name each other: {below:#?}");
}

/// Each room of `src/` with those that its code names by `crate::`. Tests are left out, as they may
/// look from above, and so is `lib.rs`.
fn rooms() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let mut rooms = BTreeMap::<_, BTreeSet<_>>::new();
    for file in files {
        let relative = file.strip_prefix(&source).expect("it was found there");
        let relative = relative.to_string_lossy();
        let room = relative.split(['/', '.']).next().unwrap_or_default();
        let room = room.to_owned();
        let is_test = ["tests", "patterns", "watch"]
            .iter()
            .any(|test| relative.contains(test));
        if room == "lib" || is_test {
            continue;
        }
        let named = rooms.entry(room.clone()).or_default();
        let text = fs::read_to_string(&file).expect("a source can be read");
        let code = text.lines().filter(|line| !line.trim().starts_with("//"));
        for line in code {
            for path in line.split("crate::").skip(1) {
                let name: String = path
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                assert!(
                    !name.is_empty(),
                    "{relative}: `crate::{path}` names no room"
                );
                if name != room {
                    named.insert(name);
                }
            }
        }
    }
    rooms
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}
