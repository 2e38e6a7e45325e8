//! The surroundings of a program that `exec` runs: the variables, its own door, ports of peers, its
//! signals, and nothing secret.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, Owned, command, installed, overlan, run, skipped, until};
use crate::service::Service;

mod programs;

/// `exec` beside the running `up` of `device`.
fn exec(device: &Device, args: &[&str]) -> Command {
    let mut exec = device.command(&["exec"]);
    exec.args(args);
    exec
}

/// curl that prints the page of `url` or why there is none; the proxy comes from its environment.
fn curl(url: &str) -> [&str; 7] {
    [
        "curl",
        "--disable",
        "-sS",
        "--fail",
        "--max-time",
        "30",
        url,
    ]
}

#[test]
fn exec_hands_no_secret_to_its_program() {
    if !installed(&["env"]) {
        return;
    }
    let lab = Lab::start();
    let key = lab.auth_key(&["--reusable"]);
    let laptop = lab.up("laptop");
    let secrets = [
        ("OVERLAN_AUTH_KEY", key.trim()),
        ("OVERLAN_PASSWORD", "a secret password"),
        ("OVERLAN_RELAY_TOKEN", "ovr_secret"),
        ("OVERLAN_SETUP_TOKEN", "ovx_secret"),
    ];
    let mut beside = exec(&laptop, &["--", "env"]);
    let mut own = overlan();
    own.args(["exec", "--ephemeral", "--server", &lab.controller.join]);
    own.args(["--hostname", "job", "--", "env"]);
    for exec in [&mut beside, &mut own] {
        let told = run(exec.envs(secrets), "").ok();
        assert!(told.contains("HTTP_PROXY="), "{told}");
        for (name, value) in secrets {
            assert!(!told.contains(name), "{name} in {told}");
            assert!(!told.contains(value), "the value of {name} in {told}");
        }
    }
}

#[test]
fn the_variables_of_exec_break_no_program_and_add_to_what_was_said() {
    if !installed(&["env"]) {
        return;
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let variables = |args: &[&str], given: &[(&str, &str)]| {
        let mut exec = exec(&laptop, args);
        exec.args(["--", "env"]).envs(given.iter().copied());
        let told = run(&mut exec, "").ok();
        move |name: &str| {
            let start = format!("{name}=");
            let mut lines = told.lines().filter_map(|line| line.strip_prefix(&start));
            lines.next().map(str::to_owned)
        }
    };
    // A SOCKS proxy in ALL_PROXY makes httpx, and what is built on it, refuse to start.
    let usual = variables(&[], &[("all_proxy", "socks5://127.0.0.1:9")]);
    for name in ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "https_proxy"] {
        assert!(usual(name).unwrap().starts_with("http://"), "{name}");
    }
    assert_eq!(usual("NODE_USE_ENV_PROXY").as_deref(), Some("1"));
    let no_proxy = usual("NO_PROXY").unwrap();
    assert_eq!(no_proxy, "localhost,127.0.0.0/8,127.0.0.1,::1");

    let socks = variables(&["--socks"], &[("NODE_USE_ENV_PROXY", "0")]);
    assert!(socks("ALL_PROXY").unwrap().starts_with("socks5h://"));
    assert!(socks("HTTP_PROXY").unwrap().starts_with("http://"));
    assert_eq!(socks("NODE_USE_ENV_PROXY").as_deref(), Some("0"));

    let both = [
        ("NO_PROXY", "postgres.svc, 127.0.0.1"),
        ("no_proxy", ".corp"),
    ];
    let added = variables(&[], &both);
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(
            added(name).as_deref(),
            Some("postgres.svc,127.0.0.1,.corp,localhost,127.0.0.0/8,::1"),
            "{name}"
        );
    }
}

#[test]
fn exec_takes_its_program_without_dashes() {
    if !installed(&["sh", "printf"]) {
        return;
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let said = run(
        &mut exec(&laptop, &["printf", "%s|", "-v", "--timeout", "--"]),
        "",
    )
    .ok();
    assert_eq!(said, "-v|--timeout|--|");
    let said = run(
        &mut exec(
            &laptop,
            &["--timeout", "9", "sh", "-c", "echo $0 $1", "a", "b"],
        ),
        "",
    );
    assert_eq!(said.ok(), "a b");
    run(&mut exec(&laptop, &[]), "").refused(2, &["PROGRAM"]);
    let mistyped = ["--proxy-dirct", "true"];
    run(&mut exec(&laptop, &mistyped), "").refused(2, &["no option --proxy-dirct", "exec --help"]);
    let port = run(overlan().args(["serve", "99999"]), "");
    port.refused(2, &["99999", "65535"]);
}

#[test]
fn exec_works_beside_doors_that_the_program_could_not_use() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let url = format!("http://{}/", web.name);
    let password = lab.path("door.password");
    fs::write(&password, "for people").unwrap();
    let closed = [
        "--socks-user",
        "people",
        "--socks-password-file",
        password.to_str().unwrap(),
    ];
    let key = lab.auth_key(&[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &closed);
    laptop.sees(&web, true);
    assert_eq!(
        run(exec(&laptop, &["--"]).args(curl(&url)), "").ok(),
        "a page of web"
    );
}

#[test]
fn programs_that_change_their_user_stay_in_the_overlay() {
    if !installed(&["curl", "setpriv"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    let url = format!("http://{}/", web.name);
    let nobody = [
        "--",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let mut dropped = exec(&laptop, &nobody);
    assert_eq!(run(dropped.args(curl(&url)), "").ok(), "a page of web");
    // Without what exec gave it, the other user stays outside.
    let door = format!("socks5h://{}", laptop.socks);
    let mut outside = command("setpriv");
    outside
        .args(&nobody[2..])
        .args(curl(&url))
        .args(["--proxy", &door]);
    assert_ne!(run(&mut outside, "").code, Some(0));
}

#[test]
fn what_is_foreign_goes_out_only_if_told_and_is_named_where_not() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of this host\n");
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let url = format!("http://{}/", page.address());
    // NO_PROXY covers loopback: the program would not ask.
    let proxied = |args: &[&str]| {
        let mut exec = exec(&laptop, args);
        exec.args([
            "--",
            "sh",
            "-c",
            "unset NO_PROXY no_proxy; exec \"$@\"",
            "sh",
        ]);
        exec.args(curl(&url));
        run(&mut exec, "")
    };
    assert_eq!(proxied(&["--proxy-direct"]).ok(), "a page of this host");
    let refused = proxied(&[]);
    assert_eq!(refused.code, Some(22), "{refused:?}");
    for text in ["outside the overlay", "127.0.0.1", "--proxy-direct"] {
        assert!(
            refused.stderr.contains(text),
            "{text} in {}",
            refused.stderr
        );
    }
    let mut own = overlan();
    own.args(["exec", "--ephemeral", "--server", &lab.controller.join]);
    own.args(["--hostname", "job", "--"]);
    own.args(["sh", "-c", "unset NO_PROXY no_proxy; exec \"$@\"", "sh"]);
    own.args(curl(&url))
        .env("OVERLAN_AUTH_KEY", lab.auth_key(&[]));
    own.env("OVERLAN_PROXY_DIRECT", "true");
    assert_eq!(run(&mut own, "").ok(), "a page of this host");
}

#[test]
fn exec_gives_its_program_ports_of_peers() {
    if !installed(&["curl", "sh"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    let ask = "curl --disable -sS --fail --noproxy '*' http://$OVERLAN_FORWARD_1/";
    let beside = run(
        &mut exec(&laptop, &["-L", "0:web:80", "--", "sh", "-c", ask]),
        "",
    );
    assert_eq!(beside.ok(), "a page of web");
    let mut own = overlan();
    own.args(["exec", "--ephemeral", "--server", &lab.controller.join]);
    own.args(["--hostname", "job", "-L", "0:web:80", "--", "sh", "-c", ask]);
    own.env("OVERLAN_AUTH_KEY", lab.auth_key(&[]));
    assert_eq!(run(&mut own, "").ok(), "a page of web");
    // Nothing is started where the peer is not known.
    run(
        &mut exec(&laptop, &["-L", "0:nobody:80", "--", "echo", "started"]),
        "",
    )
    .refused(1, &["nobody"]);
    run(
        &mut exec(&laptop, &["-L", "0:web", "--", "echo", "started"]),
        "",
    )
    .refused(2, &["PORT"]);
}

#[test]
fn signals_reach_the_program_and_none_outlives_exec() {
    if !installed(&["sh", "sleep"]) {
        return;
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let begin = |script: &str| {
        let mut child = exec(&laptop, &["--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = Vec::new();
        let mut out = child.stdout.take().unwrap();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let id = String::from_utf8(line)
            .unwrap()
            .trim()
            .parse::<i32>()
            .unwrap();
        (child, Pid::from_raw(id).unwrap())
    };
    for (name, signal, ends) in [
        ("QUIT", Signal::QUIT, 21),
        ("USR1", Signal::USR1, 22),
        ("USR2", Signal::USR2, 23),
    ] {
        let script = format!("trap 'exit {ends}' {name}; echo $$; while :; do sleep 0.1; done");
        let (child, _) = begin(&script);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(Owned::new(child).ended("exec").code(), Some(ends), "{name}");
    }
    let (child, program) = begin("echo $$; while :; do sleep 0.1; done");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    assert_eq!(Owned::new(child).ended("exec").code(), None);
    until("the end of the program", LONGEST, || {
        rustix::process::test_kill_process(program)
            .is_err()
            .then_some(())
    });
}

#[test]
fn process_1_leaves_no_zombies() {
    if !installed(&["unshare", "sh", "ps", "sleep"]) {
        return;
    }
    let first = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    if run(command("unshare").args(first).arg("true"), "").code != Some(0) {
        return skipped("unshare --user --pid not allowed");
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    // The shell's child is an orphan when it ends: process 1 inherits it.
    let orphans = "(sleep 0.1 &); (sleep 0.2 &); sleep 1; ps -o stat= ax";
    let mut inside = command("unshare");
    inside
        .args(first)
        .args(exec(&laptop, &[]).get_program().to_str());
    inside.args(exec(&laptop, &["--", "sh", "-c", orphans]).get_args());
    let states = run(&mut inside, "").ok();
    assert!(states.lines().count() >= 3, "{states}");
    assert!(!states.contains('Z'), "{states}");
}

#[test]
fn a_variable_that_is_set_and_empty_counts_as_not_set() {
    if !installed(&["env"]) {
        return;
    }
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let settings = run(overlan().args(["config", "show", "exec", "--json"]), "").ok();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    let mut own = overlan();
    own.args(["exec", "--ephemeral", "--server", &lab.controller.join]);
    own.args(["--", "env"]).env("OVERLAN_AUTH_KEY", &key);
    let mut tried = 0;
    for setting in settings["settings"].as_array().unwrap() {
        let key = setting["key"].as_str().unwrap();
        let name = format!("OVERLAN_{}", key.to_uppercase().replace('-', "_"));
        if name != "OVERLAN_SERVER" {
            own.env(name, "");
            tried += 1;
        }
    }
    // Those whose names are not their flags'.
    for name in [
        "OVERLAN_EXEC_TIMEOUT",
        "OVERLAN_EXEC_LOCAL",
        "OVERLAN_EXEC_SOCKS",
        "OVERLAN_CONFIG",
    ] {
        own.env(name, "");
    }
    assert!(tried > 8, "{settings}");
    run(&mut own, "").ok();
}
