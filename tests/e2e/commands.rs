//! Commands that people and scripts put into pipes: what they say and return.

mod nc;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{Device, KeyBy, Lab};
use crate::library::devices;
use crate::process::{Owned, installed, overlan, run};
use crate::service::Service;

#[test]
fn ping_names_the_relay_and_whois_the_device() {
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    let line = laptop.run(&["ping", "-c", "1", "web"]).ok();
    let start = format!("pong from web ({}) via relay(relay-", web.address);
    assert!(line.starts_with(&start) && line.ends_with(" ms"), "{line}");
    let until = ["ping", "-c", "1000", "--until-answer", "--json", &web.name];
    let report: Value = serde_json::from_str(&laptop.run(&until).ok()).unwrap();
    assert_eq!(report["schema_version"], 1, "{report}");
    assert_eq!(report["received"], 1, "{report}");
    assert_eq!(report["pongs"][0]["name"], web.name.as_str(), "{report}");
    assert!(report["pongs"][0]["round_trip_us"].as_u64() > Some(0));

    let asked = format!("{}:50312", web.address);
    let card: Value = serde_json::from_str(&laptop.run(&["whois", "--json", &asked]).ok()).unwrap();
    assert_eq!(card["name"], web.name.as_str(), "{card}");
    assert_eq!(card["device"], web.status()["device"]["id"], "{card}");
    assert_eq!(card["this_device"], false, "{card}");
    let own = laptop.run(&["whois", "laptop"]).ok();
    assert!(
        own.contains(&laptop.address) && own.contains("this device"),
        "{own}"
    );

    laptop
        .run(&["ping", "-c", "1", "laptop"])
        .refused(1, &["this device's own"]);
    laptop
        .run(&["ping", "-c", "1", "nobody"])
        .refused(1, &["nobody", "overlan status"]);
    laptop
        .run(&["whois", "100.64.200.200"])
        .refused(1, &["no device has"]);
    // It is there for the controller, and says nothing: the one that asks decides how long it
    // waits.
    web.program.signal(Signal::STOP);
    laptop
        .run(&["ping", "-c", "1", "--timeout", "1", "web"])
        .refused(7, &["web answered none of 1 requests"]);
    web.program.signal(Signal::CONT);
    assert!(web.program.stop().success());
    laptop.sees(&web, false);
    laptop
        .run(&["ping", "-c", "1", "web"])
        .refused(1, &["offline"]);
}

#[test]
fn scripts_wait_for_what_they_need_and_check_it() {
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    laptop.run(&["wait", "--timeout", "30"]).ok();
    for what in ["live", "ready", "control"] {
        laptop.run(&["status", "--check", what]).ok();
    }
    laptop
        .run(&["wait", "--for", "peer:web", "--timeout", "1"])
        .refused(7, &["\"web\"", "--timeout"]);
    // Each begins before what it waits for is there.
    let mut peer = piped(&laptop, &["wait", "--for", "peer:web"]);
    let mut watch = piped(&laptop, &["status", "--watch", "--json"]);
    let mut lines = BufReader::new(&mut watch.output).lines();
    let mut told = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(told()["networks"][0]["peers"], Value::Array(Vec::new()));
    let state = lab.path("web");
    let args = ["wait", "--timeout", "60", "--state-dir"];
    let early = overlan().args(args).arg(&state).spawn().unwrap();
    let mut web = lab.up("web");
    assert!(Owned::new(early).ended("wait for up").success());
    assert!(peer.child.ended("wait for web").success());
    while told()["networks"][0]["peers"][0]["online"] != true {}
    drop(lines);
    laptop.run(&["wait", "--for", "peer:web"]).ok();

    web.program.stop();
    web.run(&["status", "--check", "live"])
        .refused(3, &["overlan up"]);
    web.run(&["wait", "--timeout", "1"])
        .refused(3, &["--timeout"]);
    let mut lab = lab;
    lab.controller.program.kill();
    laptop.until("no controller", |status| {
        status["control"]["state"] != "connected"
    });
    laptop.run(&["status", "--check", "ready"]).ok();
    laptop
        .run(&["status", "--check", "control"])
        .refused(8, &["controller"]);
    for relay in &mut lab.relays {
        relay.program.kill();
    }
    laptop.until("no relay", |status| status["state"] == "connecting");
    laptop
        .run(&["status", "--check", "ready"])
        .refused(9, &["relay"]);
    laptop.run(&["status", "--check", "live"]).ok();
}

#[test]
fn exec_gives_a_program_the_overlay_and_passes_on_how_it_ends() {
    if !installed(&["curl", "sh"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (mut laptop, web) = lab.pair();
    web.serve(80, page.address());
    let exec = |args: &[&str]| {
        let mut command = overlan();
        command
            .arg("exec")
            .arg("--state-dir")
            .arg(laptop.state_dir());
        command.arg("--").args(args);
        command
    };
    let url = format!("http://{}/", web.name);
    let curl = [
        "curl",
        "--disable",
        "--silent",
        "--show-error",
        "--fail",
        &url,
    ];
    assert_eq!(run(&mut exec(&curl), "").ok(), "a page of web");
    // Commands of ours inside find the same client, and the resolver is named.
    let asks = format!(
        "{} ip -4 && echo $OVERLAN_DNS_HOST:$OVERLAN_DNS_PORT",
        env!("CARGO_BIN_EXE_overlan")
    );
    let told = run(&mut exec(&["sh", "-c", &asks]), "").ok();
    assert_eq!(told, format!("{}\n{}", laptop.address, laptop.dns));

    let code = |args: &[&str]| run(&mut exec(args), "").code;
    assert_eq!(code(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(128 + 9));
    assert_eq!(code(&["/nowhere/program"]), Some(127));
    assert_eq!(code(&["/etc/passwd"]), Some(126));

    // Each signal arrives in the program, which decides by itself what it means.
    for (name, signal, ends) in [
        ("INT", Signal::INT, 11),
        ("TERM", Signal::TERM, 12),
        ("HUP", Signal::HUP, 13),
    ] {
        let script = format!("trap 'exit {ends}' {name}; echo ready; while :; do sleep 0.1; done");
        let mut child = exec(&["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        let id = Pid::from_child(&child);
        kill_process(id, signal).unwrap();
        assert_eq!(Owned::new(child).ended("exec").code(), Some(ends), "{name}");
    }
    assert!(laptop.program.stop().success());
    let mut late = overlan();
    late.args(["exec", "--timeout", "1", "--state-dir"]);
    late.arg(laptop.state_dir()).args(["--", "true"]);
    run(&mut late, "").refused(3, &["overlan up"]);
}

#[test]
fn exec_makes_a_device_for_one_program_and_removes_it() {
    if !installed(&["curl", "sh"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.path("job.key");
    fs::write(&key, lab.auth_key(&["--reusable"])).unwrap();
    let key = key.to_str().unwrap();
    let exec = |args: &[&str]| {
        let mut command = overlan();
        command.args(["exec", "--ephemeral", "--server", &lab.controller.join]);
        command.args(args);
        command
    };
    let job = ["--auth-key-file", key, "--hostname", "job", "--"];
    let url = format!("http://{}/", web.name);
    let curl = [
        "curl",
        "--disable",
        "-sS",
        "--fail",
        "--max-time",
        "30",
        &url,
    ];
    assert_eq!(run(exec(&job).args(curl), "").ok(), "a page of web");
    assert_eq!(
        run(exec(&job).args(["sh", "-c", "exit 42"]), "").code,
        Some(42)
    );
    assert_eq!(run(exec(&job).arg("/nowhere/program"), "").code, Some(127));
    assert_eq!(devices(&lab), ["web"], "none stays");

    // A job that is cancelled ends its program first, and then its device.
    let script = "trap 'exit 11' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = exec(&job)
        .args(["sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(devices(&lab), ["job", "web"]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(Owned::new(child).ended("exec").code(), Some(11));
    assert_eq!(devices(&lab), ["web"]);

    run(&mut exec(&["--", "true"]), "").refused(4, &["--auth-key-file", "OVERLAN_AUTH_KEY"]);
    let mut nowhere = overlan();
    nowhere.args(["exec", "--ephemeral", "--auth-key-file", key, "--", "true"]);
    run(&mut nowhere, "").refused(2, &["--server"]);
    let wrong = lab.path("wrong.key");
    fs::write(&wrong, "ovk_unknown").unwrap();
    let wrong = ["--auth-key-file", wrong.to_str().unwrap(), "--", "true"];
    run(&mut exec(&wrong), "").refused(4, &["key"]);
}

#[test]
fn bugreport_holds_no_secret() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &[]);
    let file = lab.path("report.json");
    let mut bugreport = laptop.command(&["bugreport", "--output", file.to_str().unwrap()]);
    bugreport.env("OVERLAN_AUTH_KEY", &key);
    run(&mut bugreport, "").ok();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["status"]["device"]["name"], laptop.name.as_str());
    assert_eq!(report["variables"][0], "OVERLAN_AUTH_KEY", "{report}");
    assert!(!text.contains(key.trim()), "the auth key");
    // Whatever the state holds under a name that says so, in any file.
    let mut secrets = Vec::new();
    for entry in fs::read_dir(laptop.state_dir()).unwrap() {
        let read = fs::read_to_string(entry.unwrap().path());
        if let Some(content) = read.ok().and_then(|text| serde_json::from_str(&text).ok()) {
            find_secrets(&content, false, &mut secrets);
        }
    }
    assert!(secrets.len() >= 2, "the keys of a device are not found");
    for secret in secrets {
        assert!(!text.contains(&secret), "a secret of the state directory");
    }

    let path = file.to_str().unwrap();
    laptop
        .run(&["bugreport", "--output", path])
        .refused(1, &["report.json", "--output"]);
    // It helps most where nothing runs.
    let nothing = lab.path("nothing");
    let mut bugreport = overlan();
    bugreport.args(["bugreport", "--output", "-", "--state-dir"]);
    let told = run(bugreport.arg(nothing), "").ok();
    let report: Value = serde_json::from_str(&told).unwrap();
    let why = report["status_error"].as_str().unwrap();
    assert!(why.contains("no `overlan up` runs"), "{why}");
}

/// Texts below names such as `tunnel_secret` or `ticket`.
fn find_secrets(value: &Value, is_secret: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let words = ["secret", "ticket", "token", "session"];
                let named = words.iter().any(|word| name.contains(word));
                find_secrets(field, is_secret || named, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                find_secrets(item, is_secret, found);
            }
        }
        Value::String(text) if is_secret && text.len() > 16 => found.push(text.clone()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn netcheck_tells_which_servers_are_reached() {
    let mut lab = Lab::start();
    let mut laptop = lab.up("laptop");
    // It needs no running client.
    assert!(laptop.program.stop().success());
    let report = |code: i32| -> Value {
        let outcome = laptop.run(&["netcheck", "--json"]);
        assert_eq!(outcome.code, Some(code), "{outcome:#?}");
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let all = report(0);
    assert_eq!(all["schema_version"], 1, "{all}");
    assert_eq!(all["controller"]["reached"], true, "{all}");
    for relay in &lab.relays {
        let relays = all["relays"].as_array().unwrap();
        let told = relays
            .iter()
            .find(|told| told["name"] == relay.name.as_str());
        let told = told.unwrap();
        assert_eq!(told["address"], relay.address.as_str(), "{all}");
        assert!(told["round_trip_us"].as_u64() > Some(0), "{all}");
        assert!(told["ready_us"].as_u64() >= told["round_trip_us"].as_u64());
    }
    let table = laptop.run(&["netcheck"]).ok();
    assert!(
        table.contains("relay-1") && table.contains(" ms, TLS after "),
        "{table}"
    );

    lab.relays[0].program.kill();
    let one = report(0);
    assert_eq!(
        one["relays"][0]["name"], "relay-2",
        "the reached one first: {one}"
    );
    assert_eq!(one["relays"][1]["reached"], false, "{one}");
    assert!(one["relays"][1]["error"].is_string(), "{one}");
    lab.controller.program.kill();
    assert_eq!(report(8)["controller"]["reached"], false);
    lab.relays[1].program.kill();
    report(9);

    let nothing = lab.path("nothing");
    let mut netcheck = overlan();
    netcheck.args(["netcheck", "--state-dir"]).arg(nothing);
    run(&mut netcheck, "").refused(4, &["not enrolled"]);
}

/// A command with all three ends in the test's hands.
struct Piped {
    child: Owned,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
}

fn piped(device: &Device, args: &[&str]) -> Piped {
    let mut command = device.command(args);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    Piped {
        input: child.stdin.take().unwrap(),
        output: child.stdout.take().unwrap(),
        errors: child.stderr.take().unwrap(),
        child: Owned::new(child),
    }
}
