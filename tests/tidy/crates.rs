//! The laws about the crates that we build: `deny.toml`'s bans and its list of second versions,
//! held by asking cargo, so that they hold where `cargo-deny` is not installed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::sources::{read, root};

#[test]
fn banned_crates_are_not_built() {
    let deny = deny();
    let banned: BTreeSet<&str> = deny.bans("deny").map(|entry| entry.name).collect();
    assert!(banned.contains("ring"), "{banned:?}");
    let built = built("normal,build,dev");
    let found: Vec<_> = banned
        .iter()
        .filter(|name| built.contains_key(**name))
        .collect();
    assert!(
        found.is_empty(),
        "deny.toml bans {found:?}: `cargo tree --invert NAME` names who asks for it"
    );
}

/// Two versions of a crate are compiled, linked and held in memory. Each but the one that we would
/// keep is written down in `deny.toml`, with the crate that asks for it, and leaves the list when
/// it has left the build.
#[test]
fn a_second_version_of_a_crate_is_written_down() {
    let deny = deny();
    let mut written: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in deny.bans("skip") {
        let version = entry
            .version
            .unwrap_or_else(|| panic!("{} without a version", entry.name));
        written.entry(entry.name).or_default().push(version);
    }
    let mut wrong = Vec::new();
    let built = built("normal,build");
    for (name, versions) in &built {
        let known = written.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        let free = versions
            .iter()
            .filter(|version| !known.iter().any(|start| begins(version, start)));
        if free.count() > 1 {
            wrong.push(format!("{name} is built as {versions:?}"));
        }
    }
    for (name, known) in &written {
        for start in known {
            let versions = built.get(*name);
            if !versions.is_some_and(|all| {
                all.len() > 1 && all.iter().any(|version| begins(version, start))
            }) {
                wrong.push(format!(
                    "deny.toml skips {name}@{start}, which is not a second version"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns whether a version is one that a requirement such as `0.22` or `1` names.
fn begins(version: &str, requirement: &str) -> bool {
    version
        .strip_prefix(requirement)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Returns the versions of each crate that is built on this system, with every feature of ours.
fn built(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args([
            "tree",
            "--offline",
            "--locked",
            "--workspace",
            "--all-features",
        ])
        .args(["--edges", edges, "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo runs, as it ran this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut built: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // A name and a version; after them a path, or that it is a macro.
        if let Some((name, rest)) = line.split_once(" v") {
            let version = rest.split(' ').next().unwrap_or_default();
            built
                .entry(name.to_owned())
                .or_default()
                .insert(version.to_owned());
        }
    }
    assert!(built.len() > 100, "cargo names only {} crates", built.len());
    built
}

/// `deny.toml` as it is read here: lines of `{ crate = "name@version", … }` in the lists of
/// `[bans]`.
struct Deny(String);

struct Entry<'a> {
    name: &'a str,
    version: Option<&'a str>,
}

fn deny() -> Deny {
    Deny(read("deny.toml"))
}

impl Deny {
    fn bans(&self, list: &str) -> impl Iterator<Item = Entry<'_>> {
        let (_, after) = self.0.split_once("\n[bans]\n").expect("deny.toml has bans");
        let (_, after) = after
            .split_once(&format!("\n{list} = [\n"))
            .unwrap_or_else(|| panic!("[bans] has no list {list}"));
        let (entries, _) = after.split_once("\n]").expect("the list ends");
        entries.lines().map(|line| {
            let (_, named) = line
                .split_once("{ crate = \"")
                .expect("an entry names a crate");
            let (named, _) = named.split_once('"').expect("a name ends");
            match named.split_once('@') {
                Some((name, version)) => Entry {
                    name,
                    version: Some(version),
                },
                None => Entry {
                    name: named,
                    version: None,
                },
            }
        })
    }
}
