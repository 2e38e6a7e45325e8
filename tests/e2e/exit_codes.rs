//! Each exit code of README's table, by every command that can end with it: scripts tell causes
//! apart by nothing else.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::lab::{Device, KeyBy, Lab, OWNER, PASSWORD, state};
use crate::process::{Program, overlan, run};
use crate::service::Service;

/// Runs each line (words with spaces between) by `command`, and expects `code` and a message for
/// people, never a panic.
#[track_caller]
fn all_end(code: i32, lines: &[&str], command: impl Fn(&[&str]) -> Command) {
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let outcome = run(&mut command(&words), "");
        assert_eq!(outcome.code, Some(code), "{line}: {outcome:#?}");
        assert!(!outcome.stderr.contains("panicked"), "{line}: {outcome:#?}");
        let told = outcome
            .stderr
            .lines()
            .any(|told| told.starts_with("Error: "));
        assert!(told || code == 0, "{line}: {outcome:#?}");
    }
}

#[test]
fn every_exit_code_has_its_cause() {
    let mut lab = Lab::start();
    let key = lab.auth_key(&["--reusable"]);
    let (mut web, laptop) = (lab.up("web"), lab.up_by("laptop", KeyBy::File(&key), &[]));
    laptop.sees(&web, true);
    let service = Service::http("a page\n");
    web.serve(80, service.address());
    lab.admin(&["network", "create", "acme"]);
    let of = |device: &Device| {
        let directory = device.state_dir().to_owned();
        move |words: &[&str]| in_directory(words, &directory)
    };
    let at_laptop = of(&laptop);

    all_end(
        0,
        &[
            "status",
            "ip",
            "ip web -4",
            "whois web",
            "ping -c 1 web",
            "wait --timeout 9",
            "netcheck",
            "status --check live",
            "status --check ready",
            "status --check control",
            "dns status",
            "network list",
            "serve list",
            "exec -- true",
        ],
        &at_laptop,
    );
    all_end(
        1,
        &[
            "ip nobody",
            "whois nobody",
            "ping -c 1 nobody",
            "nc nobody 80",
            "nc web 81",
            "dns query example.com",
            "serve remove 99",
            "perf web --time 1",
            "bugreport --output /nowhere/x",
        ],
        &at_laptop,
    );
    all_end(
        2,
        &[
            "stauts",
            "status --jsn",
            "status --watch --check live",
            "ping",
            "nc web 0",
            "forward 80",
            "serve tcp 1 80",
            "serve tcp 80 nowhere",
            "serve tcp 80 8080 --network no_label",
            "wait --for nothing",
            "up --socks nowhere",
            "network join not_a_label",
            "config show nothing",
            "--config /nowhere status",
            "exec",
        ],
        &at_laptop,
    );
    // 6: this device may not go there, and cannot leave its last network.
    all_end(6, &["network join acme", "network leave home"], &at_laptop);

    let (stranger, empty) = (lab.path("stranger"), lab.path("empty"));
    let at_nowhere = |words: &[&str]| in_directory(words, &empty);
    all_end(
        3,
        &[
            "status",
            "status --check live",
            "ip",
            "whois web",
            "ping web",
            "nc web 80",
            "perf web",
            "down",
            "forward 0:web:80",
            "dns status",
            "dns query web",
            "wait --timeout 1",
            "exec --timeout 1 -- true",
        ],
        at_nowhere,
    );
    all_end(
        4,
        &[
            "netcheck",
            "network list",
            "admin devices",
            "admin auth-key create",
        ],
        at_nowhere,
    );
    // 4 as well: nothing says by what right, a key that is not one, a password that is not one.
    let server = lab.controller.join.clone();
    let joins = |words: &[&str]| {
        let mut command = in_directory(words, &stranger);
        command.args(["--server", &server]);
        command
    };
    all_end(4, &["up --socks off --dns off"], joins);
    let wrong = lab.path("wrong.key");
    fs::write(&wrong, "ovk_unknown").unwrap();
    let wrong = wrong.to_str().unwrap().to_owned();
    let by_wrong_key = format!("up --socks off --dns off --auth-key-file {wrong}");
    all_end(
        4,
        &[&by_wrong_key, "exec --ephemeral -- true"],
        |words: &[&str]| {
            let mut command = joins(&words[..1]);
            command
                .env("OVERLAN_AUTH_KEY", "ovk_unknown")
                .args(&words[1..]);
            command
        },
    );
    let log_in = |password: &str| {
        let mut login = joins(&["login", "--email", OWNER, "--password-stdin"]);
        run(&mut login, password).code
    };
    assert_eq!(log_in("a password that is not it\n"), Some(4));

    // 7: it is there and says nothing.
    web.program.signal(Signal::STOP);
    all_end(
        7,
        &[
            "ping -c 1 --timeout 1 web",
            "wait --for peer:nobody --timeout 1",
            "nc -w 1 web 80",
        ],
        &at_laptop,
    );
    web.program.signal(Signal::CONT);

    // 4 again: the controller removed a device, and its `up` ends by itself.
    let id = web.status()["device"]["id"].as_str().unwrap().to_owned();
    lab.admin(&["device", "remove", &id]);
    assert_eq!(
        web.program.ended().code(),
        Some(4),
        "{}",
        web.program.output()
    );

    // 5: an admin has to let it in.
    let (mut guest, _) = lab.up_command("guest", KeyBy::File(&lab.auth_key(&["--approval"])));
    let outcome = run(guest.args(["--timeout", "1"]), "");
    outcome.refused(
        5,
        &["waits for the approval", "overlan admin device approve"],
    );
    let (mut guest, _) = lab.up_command("guest", KeyBy::Nothing);
    let mut guest = Program::start("guest", &lab.path("."), &mut guest, "");
    guest.line("This device (guest) waits");
    let at_guest = |words: &[&str]| in_directory(words, &lab.path("guest"));
    all_end(
        5,
        &[
            "status --check ready",
            "wait --timeout 1",
            "exec --timeout 1 -- true",
        ],
        at_guest,
    );
    all_end(0, &["status --check live"], at_guest);
    let shown = lab.admin(&["devices"]);
    let row = shown
        .lines()
        .find(|line| line.starts_with("guest "))
        .unwrap();
    assert!(
        row.contains("home") && row.contains("waits for approval"),
        "{row}"
    );
    lab.admin(&["device", "approve", "guest"]);
    guest.line("overlan is up: guest.home.");
    drop(guest);

    // 9: no relay.
    let desk = lab.up("desk");
    laptop.sees(&desk, true);
    for relay in &mut lab.relays {
        relay.program.kill();
    }
    laptop.until("no relay", |status| status["state"] == "connecting");
    all_end(
        9,
        &[
            "status --check ready",
            "netcheck",
            "ping -c 1 --timeout 1 desk",
            "nc desk 80",
            "wait --timeout 1",
        ],
        &at_laptop,
    );
    let (mut late, _) = lab.up_command("late", KeyBy::File(&key));
    assert_eq!(run(late.args(["--timeout", "1"]), "").code, Some(9));

    // 8: no controller either. A login is there, so that nothing else is missing.
    assert_eq!(log_in(&format!("{PASSWORD}\n")), Some(0));
    lab.controller.program.kill();
    laptop.until("no controller", |status| {
        status["control"]["state"] != "connected"
    });
    all_end(8, &["status --check control", "network list"], &at_laptop);
    all_end(8, &["wait --for control --timeout 1"], &at_laptop);
    all_end(
        8,
        &["admin devices", "admin networks"],
        |words: &[&str]| in_directory(words, &stranger),
    );
    assert_eq!(log_in(&format!("{PASSWORD}\n")), Some(8));
    let (mut new, _) = lab.up_command("new", KeyBy::File(&key));
    assert_eq!(run(new.args(["--timeout", "1"]), "").code, Some(8));
}

fn in_directory(words: &[&str], directory: &std::path::Path) -> Command {
    let mut command = overlan();
    // Words after -- are another program's.
    let at = words
        .iter()
        .position(|word| *word == "--")
        .unwrap_or(words.len());
    command.args(&words[..at]);
    let takes_state = !matches!(words, ["config", ..] | ["stauts"]);
    if takes_state {
        command.args(state(directory));
    }
    command.args(&words[at..]);
    command
}
