//! `overlan demo` as a user runs it: what it checks, how it ends, and what it leaves behind.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::process::{LONGEST, Program, overlan, run, until};

#[test]
fn the_check_passes_with_a_line_for_each_thing() {
    let temporary = tempfile::tempdir().unwrap();
    let outcome = run(
        demo(temporary.path()).args(["--check", "--socks-port", "0", "--dns-port", "0"]),
        "",
    );
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(
        outcome.stdout.lines().all(|line| line.starts_with("ok ")),
        "{outcome:#?}"
    );
    // Users and scripts read these lines: one that goes missing is a check less.
    let checked = [
        "fetch the page through SOCKS5",
        "resolve the name over UDP",
        "resolve the name over TCP",
        "64 MiB down, SHA-256 compared",
        "64 MiB up, SHA-256 compared",
        "round trip of a small request",
        "a name outside the domain is refused",
    ];
    for what in checked {
        let lines = outcome
            .stdout
            .lines()
            .filter(|line| line.contains(&format!(" {what}: ")));
        assert_eq!(lines.count(), 1, "{what}: {outcome:#?}");
    }
    assert_empty(temporary.path());
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let temporary = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = |flag: &str, other: &str, taken: io::Result<SocketAddr>| {
        let port = taken.unwrap().port().to_string();
        let outcome = run(
            demo(temporary.path()).args(["--check", flag, &port, other, "0"]),
            "",
        );
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(1), ""),
            "{outcome:#?}"
        );
        assert!(
            outcome.stderr.contains(&format!("port {port} ")) && outcome.stderr.contains(flag),
            "{outcome:#?}"
        );
    };
    refused("--socks-port", "--dns-port", tcp.local_addr());
    refused("--dns-port", "--socks-port", tcp.local_addr());
    refused("--dns-port", "--socks-port", udp.local_addr());
    assert_empty(temporary.path());
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let (temporary, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut program = start(temporary.path(), logs.path(), &[]);
    program.line("Ctrl-C ends it.");
    assert_eq!(
        fs::read_dir(temporary.path()).unwrap().count(),
        1,
        "it keeps its state in one directory"
    );
    program.signal(Signal::INT);
    assert_eq!(program.ended().code(), Some(0), "{}", program.output());
    assert_empty(temporary.path());
}

#[test]
fn ctrl_c_while_it_starts_leaves_nothing() {
    let (temporary, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The directory comes with the controller's first file; the rest of the start takes ten times
    // as long.
    let started = || {
        let mut folders = fs::read_dir(temporary.path()).unwrap();
        let folder = folders.next()?.unwrap().path();
        folder.join("controller").exists().then_some(())
    };
    let mut program = start(temporary.path(), logs.path(), &[]);
    until("the demo's directory", LONGEST, started);
    program.signal(Signal::INT);
    assert_eq!(program.ended().code(), Some(0), "{}", program.output());
    assert_empty(temporary.path());
}

#[test]
fn an_interrupted_check_has_not_passed() {
    let (temporary, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut program = start(temporary.path(), logs.path(), &["--check"]);
    program.line("ok      fetch the page");
    program.signal(Signal::INT);
    assert_eq!(program.ended().code(), Some(1), "{}", program.output());
    program.line("Error: interrupted before everything was tried");
    assert_empty(temporary.path());
}

fn start(temporary: &Path, logs: &Path, args: &[&str]) -> Program {
    let mut command = demo(temporary);
    command
        .args(["--socks-port", "0", "--dns-port", "0"])
        .args(args);
    Program::start("demo", logs, &mut command, "")
}

fn demo(temporary: &Path) -> Command {
    let mut command = overlan();
    command.arg("demo").env("TMPDIR", temporary);
    command
}

#[track_caller]
fn assert_empty(temporary: &Path) {
    let left: Vec<_> = fs::read_dir(temporary)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
