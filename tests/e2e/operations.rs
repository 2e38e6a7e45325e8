//! The commands of an operator: backup while the controller serves, restore, also of the wrong one,
//! rotation of the ticket key, readiness, and what ends when people, keys and relays leave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::lab::{KeyBy, Lab, OWNER};
use crate::process::{Program, overlan, run};

/// A controller in `directory`/`name`, and its operator's door.
fn serve(directory: &Path, name: &str, port: u16) -> (Program, String) {
    let mut command = overlan();
    let listen = format!("127.0.0.1:{port}");
    command.args(["controller", "serve", "--listen", &listen]);
    command.args(["--metrics", "127.0.0.1:0", "--data-dir"]);
    command.arg(directory.join(name));
    let mut program = Program::start(name, directory, &mut command, "");
    program.line("join string: ");
    let metrics = program.line("metrics on http://");
    let address = metrics.trim_end_matches("/metrics").to_owned();
    (program, address)
}

fn get(address: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    write!(tcp, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_controller_is_backed_up_while_it_serves_and_brought_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = |name: &str| directory.path().join(name);
    let (mut first, metrics) = serve(directory.path(), "one", 0);
    assert!(get(&metrics, "/readyz").starts_with("HTTP/1.1 200 OK"));
    assert!(get(&metrics, "/metrics").contains("\noverlan_controller_can_write 1\n"));

    let backup = |to: &str| {
        let mut command = overlan();
        command.args(["controller", "backup"]).arg(here(to));
        command.arg("--data-dir").arg(here("one"));
        run(&mut command, "")
    };
    let told = backup("one.backup").ok();
    assert_eq!(told.trim_end(), here("one.backup").to_str().unwrap());
    backup("one.backup").refused(1, &["already exists"]);
    let rotate = || {
        let mut command = overlan();
        command.args(["controller", "rotate", "ticket-key", "--data-dir"]);
        run(command.arg(here("one")), "")
    };
    rotate().refused(1, &["overlan admin key rotate ticket"]);
    first.stop();
    rotate().ok();

    let restore = || {
        let mut command = overlan();
        command
            .args(["controller", "restore"])
            .arg(here("one.backup"));
        run(command.arg("--data-dir").arg(here("two")), "")
    };
    restore().ok();
    restore().refused(1, &["which is not overwritten"]);
    let ca = |name: &str| fs::read(here(name).join("ca.json")).unwrap();
    assert_eq!(ca("one"), ca("two"));
    let (mut second, metrics) = serve(directory.path(), "two", 0);
    assert!(get(&metrics, "/healthz").starts_with("HTTP/1.1 200 OK"));
    second.stop();

    fs::remove_file(here("two").join("controller.db")).unwrap();
    let mut command = overlan();
    command.args([
        "controller",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    run(command.arg(here("two")), "")
        .refused(1, &["is missing or empty", "overlan controller restore"]);
}

#[test]
fn a_wrong_backup_loses_no_device() {
    let mut lab = Lab::start();
    let (data, wrong, right) = (lab.path("controller"), lab.path("wrong"), lab.path("right"));
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        let done = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.unwrap().success());
    };
    lab.controller.program.stop();
    copy(&data, &wrong);
    lab.restart_controller();
    let mut web = lab.up("web");
    let known = web.status()["device"].clone();
    lab.controller.program.stop();
    copy(&data, &right);
    copy(&wrong, &data);
    lab.restart_controller();
    let told = web.until("the controller does not know it", |status| {
        status["state"] == "needs-login"
    });
    let why = told["control"]["last_error"].as_str().unwrap();
    assert!(why.contains("restored from an older backup"), "{why}");
    let ready = web.run(&["status", "--check", "ready"]);
    assert_eq!(ready.code, Some(4), "{ready:?}");
    let aside = lab.path("web").join("device-unknown.json");
    let mode = fs::metadata(&aside).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let log = web.program.output();
    assert!(log.contains("restart `overlan up`"), "{log}");

    // Started again it says the same, and is not lost.
    web.program.stop();
    let start = || {
        let (mut up, stdin) = lab.up_command("web", KeyBy::Nothing);
        run(&mut up, stdin)
    };
    start().refused(4, &["put aside", "overlan up"]);
    assert!(aside.exists());

    lab.controller.program.stop();
    copy(&right, &data);
    lab.restart_controller();
    let mut web = lab.up_by("web", KeyBy::Nothing, &[]);
    assert_eq!(
        web.status()["device"],
        known,
        "the same device, name and addresses"
    );
    assert!(!aside.exists());

    // While it runs it comes back by itself, too.
    for backup in [&wrong, &right] {
        lab.controller.program.stop();
        copy(backup, &data);
        lab.restart_controller();
        let expected = match backup == &wrong {
            true => "needs-login",
            false => "running",
        };
        web.until("what the controller knows", |status| {
            status["state"] == expected
                && status["control"]["last_error"].is_null() != (backup == &wrong)
        });
    }

    // Nobody brings the right one back: it is enrolled again, and its old keys go.
    lab.controller.program.stop();
    copy(&wrong, &data);
    lab.restart_controller();
    web.until("the controller does not know it", |status| {
        status["state"] == "needs-login"
    });
    web.program.stop();
    let web = lab.up("web");
    assert_ne!(web.status()["device"]["id"], known["id"]);
    assert!(!aside.exists());
}

#[test]
fn who_leaves_is_removed_by_owner_and_relays_and_tokens_by_name() {
    let lab = Lab::start();
    let key = lab.auth_key(&["--reusable", "--note", "anna"]);
    let listed: Value = serde_json::from_str(&lab.admin(&["auth-key", "list", "--json"])).unwrap();
    let keys = listed["auth_keys"].as_array().unwrap();
    let anna = keys.iter().find(|key| key["note"] == "anna").unwrap();
    let anna = anna["id"].as_str().unwrap();
    let mut devices: Vec<_> = ["laptop", "phone"]
        .map(|name| lab.up_by(name, KeyBy::File(&key), &[]))
        .into();
    let other = lab.up("other");
    let told = run(&mut lab.admin_command(&["auth-key", "revoke", anna]), "");
    let next = format!("overlan admin device remove --owner {anna}");
    assert!(told.stderr.contains(&next), "{told:?}");
    told.ok();
    let labels = |owner: &str| {
        let listed = lab.admin(&["device", "list", "--owner", owner, "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let devices = listed["devices"].as_array().unwrap().iter();
        let mut labels: Vec<String> = devices
            .map(|device| device["label"].as_str().unwrap().to_owned())
            .collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(anna), ["laptop", "phone"]);
    assert_eq!(labels("anna"), ["laptop", "phone"]);
    assert_eq!(labels("nobody"), [""; 0]);
    assert!(lab.admin(&["device", "list"]).contains("anna"));
    lab.admin(&["device", "remove", "--owner", anna]);
    for device in &mut devices {
        assert_eq!(device.program.ended().code(), Some(4), "it was removed");
    }
    assert_eq!(labels("anna"), [""; 0]);
    let nothing = run(
        &mut lab.admin_command(&["device", "remove", "--owner", anna]),
        "",
    );
    nothing.refused(1, &["overlan admin device list"]);
    let neither = run(&mut lab.admin_command(&["device", "remove"]), "");
    assert_eq!(neither.code, Some(2), "{neither:?}");
    assert!(lab.admin(&["device", "list"]).contains("other"));
    drop(other);

    lab.admin(&["relay-token", "create", "spare"]);
    let tokens = lab.admin(&["relay-token", "list", "--json"]);
    let tokens: Value = serde_json::from_str(&tokens).unwrap();
    let tokens = tokens["relay_tokens"].as_array().unwrap();
    let spare = tokens
        .iter()
        .find(|token| token["name"] == "spare")
        .unwrap();
    let spare = spare["id"].as_str().unwrap();
    assert!(lab.admin(&["relay-token", "list"]).contains("spare"));
    lab.admin(&["relay-token", "revoke", spare]);
    let again = run(
        &mut lab.admin_command(&["relay-token", "revoke", spare]),
        "",
    );
    again.refused(1, &["overlan admin relay-token list"]);
    assert!(!lab.admin(&["relay-token", "list"]).contains("spare"));
    lab.admin(&["relay", "remove", "relay-2"]);
    assert!(!lab.admin(&["relay", "list"]).contains("relay-2"));
    let again = run(&mut lab.admin_command(&["relay", "remove", "relay-2"]), "");
    again.refused(1, &["overlan admin relay list"]);

    // Who did it, by name.
    let log = lab.controller.program.output();
    for what in [
        format!("revoked auth key {anna} (anna)"),
        "removed device laptop.home".to_owned(),
        format!("revoked relay token {spare}, for spare"),
        "removed relay relay-2".to_owned(),
    ] {
        let said = |line: &&str| line.contains(&what) && line.contains(OWNER);
        assert!(log.lines().any(|line| said(&line)), "{what} in {log}");
    }
}
