//! The shell lines of README, of the first steps and of a team, run as they stand by one shell.
//! They use fixed ports, so each test has a network of its own.
//!
//! A block that begins with `cargo` builds the program; the test harness has done that.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::namespace::is_inside;
use crate::oidc::issuer::{Issuer, now};
use crate::process::{LONGEST, Outcome, command, installed, path, run_within};
use crate::provider::{Provider, SECRET};

#[test]
fn the_lines_of_the_readme_make_a_network_use_it_and_end_it() {
    let test = "walkthrough::the_lines_of_the_readme_make_a_network_use_it_and_end_it";
    if !can_run(test) {
        return;
    }
    let [setup, usage, end] = readme();
    let walked = walk(&[&setup, SITE_LISTENS, &usage, &end]);
    let printed = &walked.stdout;
    assert_eq!(
        printed.matches("hello from web").count(),
        4,
        "twice by a proxy, twice by exec: {walked:#?}"
    );
    for text in ["http://web.home.overlan.internal", "100.64.", "STATE"] {
        assert!(printed.contains(text), "{text}: {walked:#?}");
    }
    assert!(walked.stderr.contains("Logged out"), "{walked:#?}");
}

#[test]
fn the_first_steps_join_reach_and_serve() {
    let test = "walkthrough::the_first_steps_join_reach_and_serve";
    if !can_run(test) {
        return;
    }
    let [setup, _, _] = readme();
    let steps = blocks(include_str!("../../docs/first-steps.md"));
    assert_eq!(steps.len(), 4, "join, one program, reach, serve");
    // The person of the first steps has no device yet.
    let mut all = vec![
        setup.as_str(),
        SITE_LISTENS,
        "overlan logout --state-dir laptop",
    ];
    all.extend(steps.iter().map(String::as_str));
    all.push("overlan down");
    let walked = walk(&all);
    let printed = &walked.stdout;
    assert_eq!(
        printed.matches("hello from web").count(),
        5,
        "four by exec, one by the proxy: {walked:#?}"
    );
    for text in [".home.overlan.internal:3000", "https://", "100.64."] {
        assert!(printed.contains(text), "{text}: {walked:#?}");
    }
}

#[test]
fn a_team_is_invited_gets_a_policy_and_says_goodbye() {
    let test = "walkthrough::a_team_is_invited_gets_a_policy_and_says_goodbye";
    if !can_run(test) {
        return;
    }
    let [setup, _, _] = readme();
    let steps = blocks(include_str!("../../docs/team.md"));
    assert_eq!(
        steps.len(),
        7,
        "invite, accept, single sign-on, networks, policy, job, leave"
    );
    let mut all = vec![setup.as_str(), SITE_LISTENS, BROWSER];
    all.extend(steps.iter().map(String::as_str));
    all.push("overlan down --state-dir web");
    let provider = Provider::start();
    // The page's provider of jobs is one of the test's own.
    let issuer = Issuer::start();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("issuer.pem");
    fs::write(&ca, &issuer.ca).unwrap();
    let provider_ca = folder.path().join("provider.pem");
    fs::write(&provider_ca, &provider.ca).unwrap();
    let (door, secret) = issuer.door_for(&json!({
        "jti": "one job", "sub": "repo:acme/web:ref:refs/heads/main", "repository_id": "74",
        "ref": "refs/heads/main", "nbf": now() - 5, "iat": now(), "exp": now() + 600,
    }));
    let walked = walk_with(
        &all,
        &[
            ("ISSUER", issuer.url.as_str()),
            ("ISSUER_CA", ca.to_str().unwrap()),
            ("PROVIDER", provider.url.as_str()),
            ("PROVIDER_CA", provider_ca.to_str().unwrap()),
            ("CLIENT_SECRET", SECRET),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", door.as_str()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret),
            ("OVERLAN_CONTROLLER_ISSUER_ADDRESSES", "127.0.0.1=127.0.0.1"),
        ],
    );
    for text in [
        "The job read: hello from web",
        "Ben's connection ended with exit code",
        "no rule of the network's policy allows it",
        "ben@example.com",
        "ana@example.org",
    ] {
        assert!(walked.stdout.contains(text), "{text}: {walked:#?}");
    }
    assert!(walked.stderr.contains("devices, "), "{walked:#?}");
}

/// Returns true inside of the test's own network, where the lines can run.
#[track_caller]
fn can_run(test: &str) -> bool {
    installed(&["bash", "curl", "dig", "git", "python3"]) && is_inside(test, "true")
}

/// The blocks of README after those that build: the network, its use and its end.
#[track_caller]
fn readme() -> [String; 3] {
    let blocks = blocks(include_str!("../../README.md"));
    blocks.try_into().expect("README has three blocks that run")
}

/// The shell blocks of a document that do not build the program.
fn blocks(document: &str) -> Vec<String> {
    let fenced = document.split("\n```").skip(1).step_by(2);
    let shell = fenced.filter_map(|block| block.strip_prefix("sh\n"));
    shell
        .filter(|lines| !lines.starts_with("cargo "))
        .map(str::to_owned)
        .collect()
}

/// Runs all of it in one shell that ends at the first line that fails, with an empty home. Its
/// programs end with it.
#[track_caller]
fn walk(blocks: &[&str]) -> Outcome {
    walk_with(blocks, &[])
}

/// The same with variables of the shell.
#[track_caller]
fn walk_with(blocks: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let home = tempfile::tempdir().unwrap();
    let mut script = String::from("set -xeuo pipefail\n");
    for block in blocks {
        writeln!(script, "{block}").unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_overlan")).parent().unwrap();
    let mut found = program.as_os_str().to_owned();
    found.push(":");
    found.push(path());
    let mut shell = command("unshare");
    shell
        .args(["--pid", "--fork", "--kill-child", "bash", "-c", &script])
        .env("HOME", home.path())
        .env("PATH", found)
        .envs(variables.iter().copied())
        .current_dir(home.path());
    let walked = run_within(WITHIN, &mut shell, "");
    assert_eq!(walked.code, Some(0), "{walked:#?}");
    walked
}

/// A person pastes the next block later than the site of README begins to listen.
const SITE_LISTENS: &str = "until curl -so /dev/null 127.0.0.1:8000; do sleep 0.1; done";

/// The browser of the page: it follows the one link of what it opens, and all redirects.
const BROWSER: &str = r#"mkdir browser
cat > browser/xdg-open <<'END'
#!/bin/sh
jar=$(mktemp)
page=$(curl -sk -H 'accept: text/html' --cookie-jar "$jar" "$1")
link=$(printf %s "$page" | sed 's/.*href="\([^"]*\)".*/\1/; s/&amp;/\&/g')
curl -skL -H 'accept: text/html' --cookie "$jar" "$(printf %s "$1" | cut -d/ -f1-3)$link"
END
chmod +x browser/xdg-open
PATH=$PWD/browser:$PATH"#;

/// Time for all lines of a page: about ten seconds with nothing beside it.
const WITHIN: Duration = Duration::from_secs(2 * LONGEST.as_secs());
