//! The logs of long-running programs, for the person who looks after them: what is missing and what
//! to do, who changed what, which relay is lost, and whose clock is wrong.

use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt;
use std::process::Command;

use crate::lab::{KeyBy, Lab, OWNER, state};
use crate::process::{LONGEST, Program, command, installed, overlan, run, until};

/// Waits until `program` has written a line that holds all of `texts`; that line.
#[track_caller]
fn says(program: &Program, texts: &[&str]) -> String {
    until(format!("{texts:?}"), LONGEST, || {
        let output = program.output();
        let mut lines = output.lines();
        let said = lines.find(|line| texts.iter().all(|text| line.contains(text)));
        said.map(str::to_owned)
    })
}

/// `program` by a shell that first does `before`.
fn after(before: &str, program: &Command) -> Command {
    let mut shell = command("bash");
    shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
    shell.arg(program.get_program()).args(program.get_args());
    let set = program.get_envs();
    shell.envs(set.filter_map(|(name, value)| Some((name, value?))));
    shell
}

#[test]
fn a_client_without_descriptors_says_what_to_do_and_works_again_after() {
    if !installed(&["bash"]) {
        return;
    }
    let lab = Lab::start_logging("warn");
    let key = lab.auth_key(&[]);
    let (up, stdin) = lab.up_command("few", KeyBy::File(&key));
    let mut few = after("ulimit -n 64", &up);
    let program = Program::start("few", &lab.path(""), &mut few, stdin);
    let few = crate::lab::Device::ready(program, &lab.path("few"));
    // Nothing of what others do is needed for it: its own resolver takes as many connections as it
    // has room for.
    let held: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(few.dns).unwrap())
        .collect();
    let said = says(&few.program, &["WARN", "may open no more files"]);
    assert!(
        said.contains("ulimit -n") && said.contains("LimitNOFILE="),
        "{said}"
    );
    drop(held);
    few.run(&["wait", "--for", "ready", "--timeout", "20"]).ok();
    let output = few.program.output();
    let times = output.matches("may open no more files").count();
    assert_eq!(times, 1, "once a minute: {output}");
}

#[test]
fn a_service_that_is_not_there_is_named_when_that_changes() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = place.local_addr().unwrap();
    drop(place);
    web.serve(80, target);
    let url = format!("http://{}/", web.name);
    for _ in 0..3 {
        assert_eq!(laptop.socks_reply(&url), "5");
    }
    let target = target.to_string();
    says(&web.program, &["WARN", "the service is not there", &target]);
    let output = web.program.output();
    assert_eq!(
        output.matches("the service is not there").count(),
        1,
        "{output}"
    );
}

#[test]
fn the_controller_writes_down_who_changed_what_and_names_a_relay_that_is_lost() {
    let mut lab = Lab::start();
    let _web = lab.up("web");
    lab.admin(&["network", "create", "prod"]);
    lab.admin(&["network", "add", "prod", "web"]);
    let log = &lab.controller.program;
    let by = format!("by=\"{OWNER}\"");
    says(log, &["INFO", "changed", &by, "made network prod"]);
    let put = "put device web into network prod";
    says(log, &["INFO", "changed", &by, put]);
    let changes = || log.output().matches(" changed ").count();
    let before = changes();
    assert_ne!(before, 0, "{}", log.output());
    // Who was refused, and who only looked, changed nothing.
    let refused = run(&mut lab.admin_command(&["network", "create", "prod"]), "");
    assert_ne!(refused.code, Some(0));
    lab.admin(&["network", "list"]);
    assert_eq!(changes(), before, "{}", log.output());

    let token = lab.admin(&["relay-token", "create", "later"]);
    let listed = lab.admin(&["relay-token", "list"]);
    let row = listed.lines().find(|line| line.contains("later")).unwrap();
    let id = row.split_whitespace().next().unwrap();
    lab.admin(&["relay-token", "revoke", id]);
    let mut late = overlan();
    late.args(["relay", "serve", "--listen", "127.0.0.1:0", "--server"]);
    late.arg(&lab.controller.join)
        .args(["--token-file", "-"])
        .args(state(&lab.path("later")));
    run(&mut late, &token).refused(4, &["refused to register this relay", "relay token"]);

    let mut lost = lab.relays.remove(0);
    lost.program.kill();
    let log = &lab.controller.program;
    let name = format!("relay=\"{}\"", lost.name);
    says(log, &["WARN", "no heartbeat from a relay", &name]);
    lab.admin(&["relay", "remove", &lost.name]);
    let removed = format!("removed relay {}", lost.name);
    says(log, &["INFO", "changed", &by, &removed]);
    assert!(!lab.admin(&["relay", "list"]).contains(&lost.name));
    let gone = run(&mut lab.admin_command(&["relay", "remove", &lost.name]), "");
    gone.refused(1, &["overlan admin relay list"]);
}

#[test]
fn a_relay_whose_clock_is_wrong_says_by_how_much_and_whom_it_refuses() {
    if !installed(&["faketime"]) {
        return;
    }
    let lab = Lab::start();
    let token = lab.path("fast.token");
    std::fs::write(&token, lab.admin(&["relay-token", "create", "fast"])).unwrap();
    // Only its variables: a program that it starts would outlive it.
    let variables = run(command("faketime").args(["-f", "+2d", "env"]), "").ok();
    let mut lines = variables.lines();
    let library = lines.find_map(|line| line.strip_prefix("LD_PRELOAD="));
    let mut fast = overlan();
    fast.env("LD_PRELOAD", library.unwrap())
        .env("FAKETIME", "+2d");
    fast.args(["relay", "serve", "--listen", "127.0.0.1:0", "--server"]);
    fast.arg(&lab.controller.join);
    fast.arg("--token-file").arg(&token);
    fast.args(state(&lab.path("fast")))
        .env("OVERLAN_LOG", "info");
    let mut fast = Program::start("fast", &lab.path(""), &mut fast, "");
    fast.line("relay fast listens on ");
    let said = says(
        &fast,
        &[
            "WARN",
            "the clocks of this relay and of the controller differ",
        ],
    );
    let ahead = said.split("ahead_secs=").nth(1).unwrap();
    let ahead: i64 = ahead.split_whitespace().next().unwrap().parse().unwrap();
    assert!((172_700..172_900).contains(&ahead), "{said}");
    // With the others gone, a device has only this one to try.
    for relay in ["relay-1", "relay-2"] {
        lab.admin(&["relay", "remove", relay]);
    }
    let key = lab.auth_key(&[]);
    let (mut up, stdin) = lab.up_command("new", KeyBy::File(&key));
    let refused = run(up.args(["--timeout", "5"]), stdin);
    assert_eq!(refused.code, Some(9), "{refused:#?}");
    says(&fast, &["INFO", "refused a device's ticket", "expired"]);
}

#[test]
fn a_copied_state_directory_is_named_with_the_way_out() {
    let lab = Lab::start_logging("warn");
    let first = lab.up("first");
    let copy = lab.path("copy");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&copy)
        .unwrap();
    for entry in std::fs::read_dir(first.state_dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let second = lab.up_by("copy", KeyBy::Nothing, &[]);
    let said = until("a line about the copy", LONGEST, || {
        let outputs = [first.program.output(), second.program.output()];
        let mut lines = outputs.iter().flat_map(|output| output.lines());
        let said = lines.find(|line| line.contains("a copy of its state directory is in use"));
        said.map(str::to_owned)
    });
    assert!(
        said.contains("WARN") && said.contains("--state-dir mem:"),
        "{said}"
    );
}

#[test]
fn metrics_for_everybody_are_refused_with_a_way_out() {
    for (what, own) in [("controller", "--data-dir"), ("relay", "--state-dir")] {
        let directory = tempfile::tempdir().unwrap();
        let mut serve = overlan();
        serve.args([what, "serve", "--listen", "127.0.0.1:0"]);
        serve
            .args(["--metrics", "0.0.0.0:0", own])
            .arg(directory.path().join("new"));
        if what == "relay" {
            serve.args([
                "--server",
                "https://127.0.0.1:1#sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ]);
        }
        let refused = run(&mut serve, "");
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        for text in [
            "0.0.0.0:0",
            "is not a loopback address",
            "Give --metrics 127.0.0.1:",
        ] {
            assert!(refused.stderr.contains(text), "no {text:?}: {refused:#?}");
        }
    }
}

#[test]
fn every_line_about_a_relay_names_the_relay_and_the_device() {
    let mut lab = Lab::start_logging("info,overlan::device::node::links=debug");
    let laptop = lab.up("laptop");
    says(&laptop.program, &["attached to a relay"]);
    let names: Vec<String> = lab.relays.iter().map(|it| it.name.clone()).collect();
    for relay in &mut lab.relays {
        relay.program.kill();
    }
    says(&laptop.program, &["detached from a relay"]);
    says(&laptop.program, &["cannot attach to a relay"]);
    let output = laptop.program.output();
    let mut lines = output
        .lines()
        .filter(|line| line.contains("overlan::device::node::links"));
    let unnamed = lines.find(|line| {
        let mut names = names.iter().map(|name| format!("relay{{name=\"{name}\""));
        !line.contains("device{name=\"laptop\"}") || !names.any(|name| line.contains(&name))
    });
    assert_eq!(unnamed, None, "{output}");
}
