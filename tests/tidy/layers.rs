//! The laws of layers: imports that a room must not have, one door per dependency, and the
//! manifests.

use crate::sources::{is_test, read, rust_files};

/// Where a text must not stand. Paths are prefixes from the repository's root; test files are left
/// out.
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
            "controller/src/address",
            "controller/src/auth/throttle",
            "controller/src/budget",
            "controller/src/enrol/",
            "controller/src/heartbeat",
            "controller/src/limits",
            "controller/src/lineage",
            "controller/src/metrics",
            "controller/src/naming",
            "controller/src/netmaps",
            "controller/src/placement",
            "controller/src/presence",
            "controller/src/rate",
            "controller/src/reach",
            "controller/src/records",
            "controller/src/report",
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
        &["controller/src/api", "src/node/axum", "examples/"],
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
        "prometheus_client::",
        &["controller/src/metrics", "relay-server/src/metrics"],
    ),
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

/// The modules that only the binary has: they may use the server crates, which the library must
/// not.
const BINARY_ONLY: &[&str] = &["src/main.rs", "src/cli", "src/demo"];

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

/// A number that wraps is a wrong length or a wrong limit; in release builds, too, it must be an
/// end instead.
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
