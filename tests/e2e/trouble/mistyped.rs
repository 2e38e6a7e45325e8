//! A state directory whose name is mistyped: commands that only read leave no trace of it.

use std::collections::BTreeSet;
use std::fs;

use crate::process::{overlan, run};

/// A line for each command with --state-dir that reads, asks a running `up`, or removes.
const READ: &[&str] = &[
    "admin api-token create inventory --scope devices:read",
    "admin api-token list",
    "admin api-token revoke t1",
    "admin auth-key create",
    "admin auth-key list",
    "admin auth-key revoke k1",
    "admin device approve web",
    "admin device disable web",
    "admin device enable web",
    "admin device expire web --in 1d",
    "admin device list",
    "admin device remove web",
    "admin device rename web shop",
    "admin device show web",
    "admin device tag web add ci",
    "admin dns add www A 100.64.0.7",
    "admin dns list",
    "admin dns remove www",
    "admin dns zone add corp.internal",
    "admin dns zone remove corp.internal",
    "admin identity-provider remove",
    "admin identity-provider set --issuer https://id.example --client-id overlan --invited-only",
    "admin identity-provider show",
    "admin identity-provider test",
    "admin invitation create anna@example.com",
    "admin invitation list",
    "admin invitation revoke i1",
    "admin key list",
    "admin key rotate ticket",
    "admin network add home web",
    "admin network create acme",
    "admin network delete acme",
    "admin network list",
    "admin network remove home web",
    "admin network rename home office",
    "admin organisation delete Acme --confirm Acme",
    "admin organisation leave",
    "admin organisation rename Acme",
    "admin organisation show",
    "admin person list",
    "admin person remove anna@example.com",
    "admin person reset-password anna@example.com",
    "admin person set-role anna@example.com admin",
    "admin person show anna@example.com",
    "admin policy check policy.toml",
    "admin policy diff policy.toml",
    "admin policy explain laptop web tcp/80",
    "admin policy history",
    "admin policy preview policy.toml",
    "admin policy rollback 1",
    "admin policy set policy.toml",
    "admin policy show",
    "admin policy test policy.toml",
    "admin relay list",
    "admin relay-token create r1",
    "admin route approve web 10.1.0.0/16",
    "admin route list",
    "admin route reject web 10.1.0.0/16",
    "admin trust-rule create jobs --issuer github --claim repository_id=74",
    "admin trust-rule list",
    "admin trust-rule remove jobs",
    "admin trust-rule show jobs",
    "admin trust-rule test Cargo.toml",
    "bugreport --output -",
    "ca",
    "dns query web.home.overlan.internal",
    "dns status",
    "down",
    "exec --timeout 1 -- true",
    "forward 0:web:80",
    "ip",
    "logout",
    "nc web 80",
    "netcheck",
    "network join acme",
    "network leave acme",
    "network list",
    "perf web",
    "ping -c 1 web",
    "serve list",
    "serve remove 80",
    "status",
    "status --watch",
    "status --check live",
    "wait --timeout 1",
    "whois web",
    "admin relay remove eu-1",
    "admin relay-token list",
    "admin relay-token revoke t1",
    "admin relay-token create eu-1",
    "password",
    "session approve WDJB-MJHT",
    "session deny WDJB-MJHT",
    "session end s1",
    "session list",
];

/// Commands that keep something there, so that it is made.
const WRITE: &[&str] = &[
    "controller init",
    "controller serve",
    "login",
    "relay serve",
    "serve host",
    "serve http",
    "serve route",
    "serve tcp",
    "serve udp",
    "serve unix",
    "signup",
    "up",
];

#[test]
fn a_mistyped_state_directory_is_not_made_by_whoever_reads() {
    let root = tempfile::tempdir().unwrap();
    let mistyped = root.path().join("admn/deeper");
    let mut made = Vec::new();
    for line in READ {
        let words: Vec<&str> = line.split(' ').collect();
        let own = words.iter().position(|word| *word == "--");
        let (ours, theirs) = words.split_at(own.unwrap_or(words.len()));
        let mut command = overlan();
        command.args(ours).arg("--state-dir").arg(&mistyped);
        let outcome = run(command.args(theirs), "");
        assert!(!outcome.stderr.contains("panicked"), "{line}: {outcome:#?}");
        if outcome.code == Some(2) {
            made.push(format!("{line} is not understood: {}", outcome.stderr));
        }
        if root.path().join("admn").exists() {
            made.push(format!("{line} made it"));
            fs::remove_dir_all(root.path().join("admn")).unwrap();
        }
    }
    assert!(made.is_empty(), "{}", made.join("\n"));
}

#[test]
fn every_command_with_a_state_directory_stands_in_one_of_the_lists() {
    let root = tempfile::tempdir().unwrap();
    run(overlan().args(["man", "--dir"]).arg(root.path()), "").ok();
    let mut known = BTreeSet::new();
    for line in READ.iter().chain(WRITE) {
        // The words that name a command stand first.
        let words: Vec<&str> = line.split(' ').collect();
        for end in 1..=words.len() {
            known.insert(format!("overlan-{}.1", words[..end].join("-")));
        }
    }
    let mut seen = 0;
    for page in fs::read_dir(root.path()).unwrap() {
        let page = page.unwrap();
        let text = fs::read_to_string(page.path()).unwrap();
        if !text.contains("\\fB\\-\\-state\\-dir") || text.contains(".SH SUBCOMMANDS") {
            continue;
        }
        let name = page.file_name().into_string().unwrap();
        assert!(known.contains(&name), "{name} is in no list");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}
