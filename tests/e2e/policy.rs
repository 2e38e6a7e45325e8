//! The policy of a network, from the file to running connections: who loses a right is cut off at
//! both ends and hears why, and who may not be reached is not even known.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use overlan_protocol::Utc;
use overlan_transport::clock::{now, wall};
use serde_json::Value;

use crate::full::connection;
use crate::lab::{DOMAIN, Lab};
use crate::process::{LONGEST, Owned, installed};
use crate::service::Service;

/// The time within which a connection without a right ends.
pub(crate) const WITHIN: Duration = Duration::from_secs(2);

/// The laptop reaches port 80 of web, and nothing else of anybody.
const ONLY_WEB: &str = "\
[[rules]]
id = \"pages\"
from = \"device:laptop\"
to = \"device:web\"
services = [\"tcp/80\", \"udp/53\"]

[[tests]]
from = \"device:laptop\"
to = \"device:web\"
allow = \"tcp/80\"
deny = \"tcp/5432\"
";

/// A service that gives back what it gets, and says when a connection ended.
pub(crate) fn echo(at: &str) -> (Service, Receiver<()>) {
    let (ended, ends) = mpsc::channel();
    let service = Service::start_at(at, move |mut stream: TcpStream| {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _received = ended.send(());
    });
    (service, ends)
}

pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"overlay").unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"overlay");
}

pub(crate) fn explain(lab: &Lab, from: &str, to: &str, service: &str) -> Value {
    let asked = lab.admin(&["policy", "explain", from, to, service, "--json"]);
    let document: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(document["schema_version"], 1);
    document["explanation"].clone()
}

/// Writes a file of the lab, and returns its path.
pub(crate) fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn name(label: &str) -> String {
    format!("{label}.home.{DOMAIN}")
}

/// Sets a policy, and says what the command printed.
#[track_caller]
pub(crate) fn set(lab: &Lab, file: &str) -> String {
    let outcome = crate::process::run(&mut lab.admin_command(&["policy", "set", file]), "");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    outcome.stderr
}

#[test]
fn a_policy_cuts_what_it_forbids_at_both_ends_and_leaves_the_rest() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let tablet = lab.up("tablet");
    laptop.sees(&tablet, true);
    let (pages, page_ends) = echo("127.0.0.1:0");
    let (database, database_ends) = echo("127.0.0.1:0");
    web.serve(80, pages.address());
    web.serve(5_432, database.address());
    let mut page = connection(&laptop, &web.name, 80).unwrap();
    let mut rows = connection(&laptop, &web.name, 5_432).unwrap();
    echoes(&mut page);
    echoes(&mut rows);
    let mut nc = laptop.command(&["nc", "web", "5432"]);
    let mut nc = nc
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = nc.stdin.take().unwrap();
    let mut heard = nc.stdout.take().unwrap();
    said.write_all(b"query").unwrap();
    heard.read_exact(&mut [0; 5]).unwrap();

    let policy = file(&lab, "policy.toml", ONLY_WEB);
    let began = now();
    let printed = set(&lab, &policy);
    assert!(printed.contains("applied on 3 of 3 devices"), "{printed}");
    let mut nc = Owned::new(nc);
    let status = nc.ended("nc");
    assert!(!status.success());
    let cut = rows.read(&mut [0; 8]).map_err(|error| error.kind());
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    for _ in 0..2 {
        database_ends.recv_timeout(LONGEST).unwrap();
    }
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    echoes(&mut page);
    assert!(page_ends.try_recv().is_err());

    // Programs, `nc` and `explain` say the same.
    let denied = explain(&lab, "laptop", "web", "tcp/5432");
    assert_eq!(denied["allowed"], false);
    assert_eq!(denied["socks_reply"], 2);
    assert_eq!(
        laptop.socks_reply(&format!("http://{}:5432/", web.name)),
        "2"
    );
    let sentence = denied["sentence"].as_str().unwrap();
    assert!(sentence.contains("pages"), "it names the rule: {sentence}");
    laptop.run(&["nc", "web", "5432"]).refused(6, &[sentence]);
    let allowed = explain(&lab, "laptop", "web", "tcp/80");
    assert_eq!(
        (&allowed["rule"], &allowed["socks_reply"]),
        (&"pages".into(), &0.into())
    );

    // Who may reach nobody, and whom nobody reaches, is not there.
    laptop.sees_label("tablet", false);
    tablet.sees_label("laptop", false);
    web.sees_label("laptop", true);
    let hidden = explain(&lab, "laptop", "tablet", "tcp/22");
    assert_eq!(
        (&hidden["visible"], &hidden["socks_reply"]),
        (&false.into(), &4.into())
    );
    assert_eq!(
        laptop.socks_reply(&format!("http://{}:22/", name("tablet"))),
        "4"
    );

    lab.admin(&["policy", "rollback", "0"]);
    laptop.sees(&tablet, true);
    let mut again = connection(&laptop, &web.name, 5_432).unwrap();
    echoes(&mut again);
}

#[test]
fn a_policy_that_does_not_hold_changes_nothing() {
    let lab = Lab::start();
    let refused = |args: &[&str], texts: &[&str]| {
        crate::process::run(&mut lab.admin_command(args), "").refused(1, texts);
    };
    let shown = lab.admin(&["policy", "show"]);
    assert!(shown.contains("id = \"members\""), "{shown}");

    let unread = file(&lab, "unread.toml", "[[rules]]\nfrom = \"nobody-at-all\"\n");
    for verb in ["set", "check", "preview"] {
        refused(
            &["policy", verb, &unread],
            &["not understood", "line 2, column"],
        );
    }
    refused(
        &["policy", "check", "--offline", &unread],
        &["line 2, column"],
    );
    let wrong = ONLY_WEB.replace("\"tcp/80\", \"udp/53\"", "\"tcp/80-5500\"");
    let failing = file(&lab, "failing.toml", &wrong);
    refused(&["policy", "set", &failing], &["test", "line 7", "pages"]);
    refused(
        &["policy", "test", "--offline", &failing],
        &["line 7", "pages"],
    );
    assert_eq!(lab.admin(&["policy", "show"]), shown);
    assert_eq!(lab.admin(&["policy", "history"]), "");

    let policy = file(&lab, "policy.toml", ONLY_WEB);
    let checked = lab.admin(&["policy", "test", "--offline", &policy]);
    assert!(checked.contains("1 test holds"), "{checked}");
    refused(
        &["policy", "set", &policy, "--if-match", "7"],
        &["number 0"],
    );
    lab.admin(&["policy", "set", &policy, "--if-match", "0"]);
    refused(&["policy", "set", &failing, "--if-match", "0"], &["test"]);
    refused(
        &["policy", "rollback", "0", "--if-match", "0"],
        &["number 1"],
    );
    let diff = lab.admin(&["policy", "diff", &failing]);
    assert!(
        diff.contains("-services = [\"tcp/80\", \"udp/53\"]"),
        "{diff}"
    );
    assert!(diff.contains("+services = [\"tcp/80-5500\"]"), "{diff}");
    let history = lab.admin(&["policy", "history"]);
    assert!(history.contains("owner@"), "{history}");
}

#[test]
fn a_preview_says_who_gains_and_who_loses() {
    let lab = Lab::start();
    let (_laptop, _web) = lab.pair();
    let policy = file(&lab, "policy.toml", ONLY_WEB);
    let lost = lab.admin(&["policy", "preview", &policy]);
    assert!(lost.contains("loses") && !lost.contains("gains"), "{lost}");
    set(&lab, &policy);
    let open = lab.admin(&["policy", "show", "--number", "0"]);
    let open = file(&lab, "open.toml", &open);
    let gained = lab.admin(&["policy", "preview", &open]);
    assert!(
        gained.contains("gains") && !gained.contains("loses"),
        "{gained}"
    );
}

#[test]
fn a_rule_ends_when_it_says_so() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let (pages, _ends) = echo("127.0.0.1:0");
    web.serve(80, pages.address());
    let ends = Utc(wall() + Duration::from_secs(4));
    let (rule, _tests) = ONLY_WEB.split_once("[[tests]]").unwrap();
    let text = format!("{}until = {ends}\n", rule.trim_end().to_owned() + "\n");
    set(&lab, &file(&lab, "policy.toml", &text));
    let mut page = connection(&laptop, &web.name, 80).unwrap();
    echoes(&mut page);
    // It waits for bytes that never come, and hears the end.
    let end = page.read(&mut [0; 8]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(wall() >= ends.0);
    let ended = explain(&lab, "laptop", "web", "tcp/80");
    assert_eq!(ended["allowed"], false);
    let sentence = ended["sentence"].as_str().unwrap();
    assert!(sentence.contains("until"), "{sentence}");
    laptop.sees_label("web", false);
}
