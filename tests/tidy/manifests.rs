//! The laws of the manifests: lints, checked arithmetic, and the crates that a layer never links.

use crate::sources::read;

/// A number that wraps is a wrong length or a wrong limit; in release builds, too, it must be an
/// end instead.
#[test]
fn release_builds_check_overflows() {
    let manifest = read("Cargo.toml");
    let (_, after) = manifest.split_once("[profile.release]").unwrap();
    let release = after.split("\n[").next().unwrap();
    let checks = |line: &str| line.trim() == "overflow-checks = true";
    assert!(release.lines().any(checks), "{release}");
    let (_, after) = manifest.split_once("[profile.dist]").unwrap();
    let dist = after.split("\n[").next().unwrap();
    assert!(dist.contains("inherits = \"release\""), "{dist}");
    assert!(!dist.contains("overflow-checks"), "{dist}");
}

#[test]
fn every_member_takes_the_lints() {
    let workspace = read("Cargo.toml");
    for member in [
        "",
        "cli/",
        "protocol/",
        "policy/",
        "transport/",
        "netstack/",
        "plane/",
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
        (
            "cli/Cargo.toml",
            &[
                "overlan-plane",
                "overlan-netstack",
                "smoltcp",
                "snow",
                "fast-socks5",
                "hickory-proto",
                "axum",
                "sqlx",
            ][..],
        ),
        ("protocol/Cargo.toml", &["tokio", "overlan-"]),
        (
            "policy/Cargo.toml",
            &["tokio", "overlan-transport", "overlan-controller"],
        ),
        ("netstack/Cargo.toml", &["overlan-", "rustls"]),
        (
            "plane/Cargo.toml",
            &[
                "overlan-transport",
                "tokio-util",
                "rustls",
                "hyper",
                "socket2",
                "rustix",
                "futures-util",
            ],
        ),
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
