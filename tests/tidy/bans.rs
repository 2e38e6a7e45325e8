//! The laws of texts that a room must not have: what a layer may not know, the one door of each
//! outside dependency, and that the library does not know the servers.

use crate::sources::{is_test, rust_files};

/// Texts that a room must not have. Paths are prefixes from the repository's root; test files are
/// left out.
struct Ban {
    in_files: &'static [&'static str],
    texts: &'static [&'static str],
    because: &'static str,
}

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
        in_files: &["policy/src/"],
        texts: &[
            "tokio",
            "tracing",
            "overlan_controller",
            "overlan_transport",
            "std::net::Tcp",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
        ],
        because: "a policy is read and compiled alike in the controller and offline",
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
        in_files: &["plane/src/tunnel", "plane/src/route", "plane/src/backoff"],
        texts: &["overlan_netstack", "crate::engine"],
        because: "the engine joins them; they do not know each other's neighbours",
    },
    Ban {
        in_files: &["relay-server/src/"],
        texts: &["snow", "overlan_netstack", "smoltcp", "overlan::"],
        because: "a relay cannot read traffic because the code is not there",
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
        in_files: &["src/", "cli/src/"],
        texts: &["println!(", "eprintln!(", "process::exit"],
        because: "only the program's output.rs prints and only main ends the process",
    },
    Ban {
        in_files: &["cli/src/demo"],
        texts: &["crate::commands"],
        because: "the command starts the demo, and not the other way round",
    },
];

/// One door per outside dependency: the text may stand only in files with these prefixes.
const DOORS: &[(&str, &[&str])] = &[
    (
        "fast_socks5::",
        &["src/doors/socks", "transport/src/outgoing/"],
    ),
    ("hickory_proto::", &["src/doors/dns", "src/names/lookup"]),
    ("smoltcp::", &["netstack/"]),
    ("rustix::mm", &["netstack/src/arena"]),
    ("unsafe ", &["netstack/src/arena"]),
    ("snow::", &["plane/src/tunnel/"]),
    (
        "axum::",
        &["controller/src/api", "src/device/node/axum", "examples/"],
    ),
    ("schemars::", &["controller/src/api", "protocol/src/"]),
    ("sqlx::", &["controller/src/store"]),
    (
        "clap::",
        &[
            "cli/src/commands",
            "cli/src/main.rs",
            "benches/src/main.rs",
            "benches/src/options",
        ],
    ),
    (
        "rustix::termios",
        &["cli/src/commands/prompt", "cli/src/commands/terminal"],
    ),
    ("nix::unistd", &["src/daemon/notify"]),
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
    (
        "tracing_subscriber::",
        &["cli/src/main.rs", "cli/src/commands"],
    ),
];

/// The files that speak with a person or end the process.
const PRINTS: &[&str] = &["cli/src/main.rs", "cli/src/commands/output.rs"];

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
            if PRINTS.contains(&file.path.as_str()) {
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
        if !file.path.starts_with("src/") || is_test(&file.path) {
            continue;
        }
        for (number, line) in file.code_lines() {
            let knows = line.contains("overlan_relay") || line.contains("overlan_controller");
            assert!(!knows, "{}:{number}: programs meet on the wire", file.path);
        }
    }
}
