//! Who waits for `up` to be ready: a service manager and a script with a file.

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::lab::{KeyBy, Lab};
use crate::process::{LONGEST, Program, run};

#[test]
fn a_service_manager_and_a_file_tell_when_it_is_ready_and_when_it_ends() {
    let lab = Lab::start();
    let socket = lab.path("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(LONGEST)).unwrap();
    let file = lab.path("ready");
    fs::write(&file, "of a process that crashed").unwrap();
    let key = lab.auth_key(&[]);
    let (mut up, stdin) = lab.up_command("web", KeyBy::File(&key));
    up.env("NOTIFY_SOCKET", &socket)
        .arg("--ready-file")
        .arg(&file);
    let mut up_process = Program::start("web", &lab.path(""), &mut up, stdin);
    let told = || {
        let mut buffer = [0; 4096];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    let ready = told();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=overlan is up: web.home."), "{ready}");
    let line = format!("overlan is up: {}", up_process.line("overlan is up: "));
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), line);
    assert!(up_process.stop().success());
    assert!(told().lines().any(|line| line == "STOPPING=1"));
    assert!(!file.exists());

    let (mut nowhere, stdin) = lab.up_command("web", KeyBy::Nothing);
    nowhere.args(["--ready-file", "/proc/none/ready"]);
    run(&mut nowhere, stdin).refused(1, &["--ready-file", "/proc/none/ready"]);
}
