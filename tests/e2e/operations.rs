//! What an operator types: backup while the controller serves, restore, rotation of the ticket key, readiness.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

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
    backup("one.backup").refused(1, &["exists already"]);
    let rotate = || {
        let mut command = overlan();
        command.args(["controller", "rotate", "ticket-key", "--data-dir"]);
        run(command.arg(here("one")), "")
    };
    rotate().refused(1, &["stop that"]);
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
    restore().refused(1, &["nothing is overwritten"]);
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
