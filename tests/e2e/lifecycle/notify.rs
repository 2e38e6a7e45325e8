//! The ways to wait until `up` is ready: a service manager, a script with a file, and a reader of a
//! descriptor.

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, Program, command, run, until};

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

#[test]
fn a_descriptor_gets_the_ready_line_and_is_closed() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let (up, stdin) = lab.up_command("web", KeyBy::File(&key));
    let file = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    let (got, done) = (file("got"), file("done"));
    // The second program ends with the descriptor, not with the first.
    let script = "got=$1 done=$2; shift 2; \
                  \"$@\" --ready-fd 5 5>&1 >&2 | { cat > \"$got\"; : > \"$done\"; }";
    let mut shell = command("sh");
    shell.args(["-euc", script, "sh", &got, &done]);
    shell.arg(up.get_program()).args(up.get_args());
    let settings = up.get_envs();
    shell.envs(settings.filter_map(|(name, value)| Some((name, value?))));
    let web = Program::start("web", &lab.path(""), &mut shell, stdin);
    let mut web = Device::ready(web, &lab.path("web"));
    until("the end of what the descriptor gives", LONGEST, || {
        fs::exists(&done).unwrap().then_some(())
    });
    let line = fs::read_to_string(&got).unwrap();
    let start = format!("overlan is up: {} ", web.name);
    assert!(line.starts_with(&start) && line.ends_with('\n'), "{line:?}");
    assert_eq!(line.lines().count(), 1);
    web.run(&["down"]).ok();
    assert!(web.program.ended().success());

    for (number, text) in [("3", "descriptor 3"), ("1", "3..")] {
        let (mut none, stdin) = lab.up_command("web", KeyBy::Nothing);
        none.args(["--ready-fd", number]);
        let refused = run(&mut none, stdin);
        refused.refused(2, &["--ready-fd", text]);
    }
}
