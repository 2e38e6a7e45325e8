//! The laws of this repository that a text search can check: layers, doors, file sizes, lints, links in the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a text must not stand. Paths are prefixes from the repository's root; test files are left out.
struct Ban {
    in_files: &'static [&'static str],
    texts: &'static [&'static str],
    because: &'static str,
}

const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "tokio::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "rand::random",
    "spawn(",
];

const BANS: &[Ban] = &[
    Ban {
        in_files: &["protocol/src/"],
        texts: &[
            "tokio",
            "smoltcp",
            "tracing",
            "overlan_",
            "std::net::Tcp",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
        ],
        because: "protocol is the floor: pure data, no runtime and no crate of ours",
    },
    Ban {
        in_files: &["netstack/src/"],
        texts: &[
            "overlan_",
            "rustls",
            "tokio::net",
            "tokio::time",
            "tokio::fs",
            "tokio::spawn",
            "Instant::now",
            "SystemTime::now",
        ],
        because: "the netstack knows nothing of peers, keys or TLS and cannot dial, sleep or spawn",
    },
    Ban {
        in_files: &["src/tunnel", "src/relay"],
        texts: IMPURE,
        because: "these modules decide; simulation and replay need them pure",
    },
    Ban {
        in_files: &["src/engine"],
        texts: IMPURE,
        because: "the engine is driven by its links and its owner, in virtual time too",
    },
    Ban {
        in_files: &["src/tunnel", "src/relay"],
        texts: &["overlan_netstack", "crate::engine", "crate::link"],
        because: "the engine joins them; they do not know each other's neighbours",
    },
    Ban {
        in_files: &["relay-server/src/"],
        texts: &["snow", "overlan_netstack", "smoltcp", "overlan::"],
        because: "a relay cannot read traffic because the code is not there",
    },
    Ban {
        in_files: &[
            "relay-server/src/switch",
            "relay-server/src/limits",
            "relay-server/src/egress",
            "relay-server/src/ledger",
        ],
        texts: IMPURE,
        because: "these modules decide; simulation and replay need them pure",
    },
    Ban {
        in_files: &[
            "controller/src/registry",
            "controller/src/policy",
            "controller/src/address",
            "controller/src/placement",
        ],
        texts: IMPURE,
        because: "these modules decide; simulation and replay need them pure",
    },
    Ban {
        in_files: &["controller/src/"],
        texts: &[
            "overlan_netstack",
            "overlan_relay",
            "smoltcp",
            "snow",
            "overlan::",
        ],
        because: "the controller never sees a data packet",
    },
    Ban {
        in_files: &["src/"],
        texts: &["println!(", "eprintln!(", "process::exit"],
        because: "only cli/output.rs prints and only main ends the process",
    },
];

/// One door per outside dependency: the text may stand only in files with these prefixes.
const DOORS: &[(&str, &[&str])] = &[
    ("fast_socks5::", &["src/socks", "transport/src/outgoing/"]),
    ("hickory_proto::", &["src/dns"]),
    ("smoltcp::", &["netstack/"]),
    ("rustix::mm", &["netstack/src/arena"]),
    ("unsafe ", &["netstack/src/arena"]),
    ("snow::", &["src/tunnel/"]),
    (
        "axum::",
        &[
            "controller/src/api",
            "controller/src/server",
            "src/node/axum",
            "examples/",
        ],
    ),
    ("sqlx::", &["controller/src/store"]),
    (
        "clap::",
        &[
            "src/cli",
            "src/main.rs",
            "benches/src/main.rs",
            "benches/src/options",
        ],
    ),
    ("rustix::termios", &["src/cli/prompt", "src/cli/terminal"]),
    ("nix::unistd", &["src/cli/up/notify"]),
    ("argon2::", &["controller/src/auth"]),
    (
        "rcgen::",
        &[
            "controller/src/ca",
            "relay-server/src/state",
            "transport/src/tls/tests",
            "benches/src/hop/tls",
        ],
    ),
    ("tracing_subscriber::", &["src/main.rs", "src/cli"]),
];

/// The modules that only the binary has: they may use the server crates, which the library must not.
const BINARY_ONLY: &[&str] = &["src/main.rs", "src/cli", "src/demo"];

/// Rust files longer than this are too much for one job.
const LINES_MAX: usize = 800;

#[test]
fn layers_hold() {
    let mut broken = Vec::new();
    for file in rust_files() {
        if is_test(&file.path) {
            continue;
        }
        for ban in BANS {
            if !ban
                .in_files
                .iter()
                .any(|prefix| file.path.starts_with(prefix))
            {
                continue;
            }
            if file.path.starts_with("src/cli/output.rs")
                || BINARY_ONLY.contains(&file.path.as_str())
            {
                continue;
            }
            for (number, line) in file.code_lines() {
                if let Some(text) = ban.texts.iter().find(|text| line.contains(**text)) {
                    broken.push(format!("{}:{number}: `{text}`: {}", file.path, ban.because));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_dependency_has_one_door() {
    let mut broken = Vec::new();
    for file in rust_files() {
        if is_test(&file.path) {
            continue;
        }
        for (text, doors) in DOORS {
            if doors.iter().any(|door| file.path.starts_with(door)) {
                continue;
            }
            for (number, line) in file.code_lines() {
                if line.contains(text) {
                    broken.push(format!(
                        "{}:{number}: `{text}` belongs to {doors:?}",
                        file.path
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_library_does_not_know_the_servers() {
    for file in rust_files() {
        let is_library = file.path.starts_with("src/")
            && !BINARY_ONLY.iter().any(|own| file.path.starts_with(own));
        if !is_library || is_test(&file.path) {
            continue;
        }
        for (number, line) in file.code_lines() {
            let knows = line.contains("overlan_relay") || line.contains("overlan_controller");
            assert!(!knows, "{}:{number}: programs meet on the wire", file.path);
        }
    }
}

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

/// A number that wraps is a wrong length or a wrong limit; in release builds, too, it must be an end instead.
#[test]
fn release_builds_check_overflows() {
    let manifest = read("Cargo.toml");
    let (_, after) = manifest.split_once("[profile.release]").unwrap();
    let release = after.split("\n[").next().unwrap();
    let checks = |line: &str| line.trim() == "overflow-checks = true";
    assert!(release.lines().any(checks), "{release}");
}

#[test]
fn every_member_takes_the_lints() {
    let workspace = read("Cargo.toml");
    for member in [
        "",
        "protocol/",
        "transport/",
        "netstack/",
        "relay-server/",
        "controller/",
        "benches/",
    ] {
        let manifest = read(&format!("{member}Cargo.toml"));
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{member}Cargo.toml does not take the workspace's lints"
        );
        let name = member.trim_end_matches('/');
        assert!(
            name.is_empty() || workspace.contains(&format!("\"{name}\"")),
            "{name} is not a member"
        );
    }
}

#[test]
fn manifests_keep_the_layers() {
    for (manifest, never) in [
        ("protocol/Cargo.toml", &["tokio", "overlan-"][..]),
        ("netstack/Cargo.toml", &["overlan-", "rustls"]),
        (
            "relay-server/Cargo.toml",
            &["snow", "overlan-netstack", "smoltcp"],
        ),
        (
            "controller/Cargo.toml",
            &["snow", "overlan-netstack", "overlan-relay", "smoltcp"],
        ),
    ] {
        let text = read(manifest);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("name") && !line.starts_with("description"));
        for line in lines {
            for crate_name in never {
                assert!(
                    !line.starts_with(crate_name),
                    "{manifest} must not depend on {crate_name}"
                );
            }
        }
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
    // Put together here, so that this file does not find itself. Names and prefixes of keys that this product once had.
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

#[test]
fn links_in_documents_lead_somewhere() {
    let root = root();
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document)
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned();
        for target in links(&text) {
            if target.starts_with("http")
                || target.starts_with('#')
                || target.starts_with("mailto:")
            {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            assert!(
                root.join(&folder).join(file).exists(),
                "{document} links to {target}, which does not exist"
            );
        }
    }
}

#[test]
fn files_named_in_documents_exist() {
    let root = root();
    for document in documents() {
        if document == "CHANGELOG.md" {
            continue;
        }
        let text = read(&document);
        for word in text.split('`').skip(1).step_by(2) {
            let is_path =
                word.contains('/') && word.ends_with(".rs") && !word.contains([' ', '*', '<', '{']);
            assert!(
                !is_path || root.join(word).exists(),
                "{document} names `{word}`, which does not exist"
            );
        }
    }
}

#[test]
fn tests_named_as_evidence_exist() {
    let mut tests = String::new();
    for file in rust_files() {
        tests.push_str(&file.text);
    }
    let complaints = read("docs/complaints.md");
    let mut named = 0;
    for word in complaints.split('`').skip(1).step_by(2) {
        if word.matches('_').count() < 3
            || word.contains(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
        {
            continue;
        }
        named += 1;
        assert!(
            tests.contains(&format!("fn {word}(")),
            "docs/complaints.md names the test `{word}`, which does not exist"
        );
    }
    assert!(named > 30, "docs/complaints.md names only {named} tests");
}

#[test]
fn readme_starts_with_the_two_commands() {
    let readme = read("README.md");
    let top: String = readme.lines().take(40).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert!(
            top.contains(command),
            "README.md does not show `{command}` near its top"
        );
    }
    assert!(
        read("ARCHITECTURE.md").lines().count() < 200,
        "ARCHITECTURE.md must stay under 200 lines"
    );
    assert!(
        read(".ci/run").contains("cargo test --workspace"),
        ".ci/run must call README's test command"
    );
}

struct RustFile {
    path: String,
    text: String,
}

impl RustFile {
    /// Lines with code, numbered from 1; comments and what is behind `#[cfg(test)]` at the end of a file are left out.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn rust_files() -> Vec<RustFile> {
    let mut paths = BTreeSet::new();
    for folder in [
        "src",
        "protocol",
        "transport",
        "netstack",
        "relay-server",
        "controller",
        "tests",
        "examples",
        "benches",
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

fn documents() -> Vec<String> {
    let mut paths = BTreeSet::new();
    collect(&root().join("docs"), "md", &mut paths);
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        paths.insert(name.to_owned());
    }
    paths.into_iter().collect()
}

fn collect(folder: &Path, ending: &str, into: &mut BTreeSet<String>) {
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

fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/examples/")
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        if let Some(end) = part.find(')') {
            found.push(part[..end].to_owned());
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
