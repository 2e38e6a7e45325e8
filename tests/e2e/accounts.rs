//! The acts of a person about a login, and an enrolment whose answer cannot be kept.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{Device, KeyBy, Lab, OWNER, PASSWORD, state};
use crate::process::{Outcome, Program, overlan, run, until};

/// More than anything here takes.
const WAIT: Duration = Duration::from_secs(20);

const ANOTHER: &str = "another battery, another horse";

/// Runs `overlan …` with the state directory `name` of the lab.
fn at(lab: &Lab, name: &str, words: &[&str], stdin: &str) -> Outcome {
    run(overlan().args(words).args(state(&lab.path(name))), stdin)
}

fn login(lab: &Lab, name: &str, password: &str) -> Outcome {
    let words = ["login", "--server", &lab.controller.join];
    let words = [&words[..], &["--email", OWNER, "--password-stdin"]].concat();
    at(lab, name, &words, &format!("{password}\n"))
}

fn sessions(lab: &Lab) -> Vec<Value> {
    let listed = at(lab, "owner", &["session", "list", "--json"], "").ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["schema_version"], 1);
    listed["sessions"].as_array().unwrap().clone()
}

#[test]
fn a_person_changes_the_password_and_ends_logins_and_a_lost_one_is_set_anew() {
    let lab = Lab::start();
    for name in ["second", "third"] {
        login(&lab, name, PASSWORD).ok();
    }
    let known = sessions(&lab);
    // The lab sets up and logs in: two of the owner.
    assert_eq!(known.len(), 4);
    let table = at(&lab, "owner", &["session", "list"], "").ok();
    assert!(
        table.contains("LAST USED") && table.contains("this one"),
        "{table}"
    );
    let other = known.iter().find(|session| session["current"] == false);
    let other = other.unwrap()["id"].as_str().unwrap();
    at(&lab, "owner", &["session", "end", other], "").ok();
    assert_eq!(sessions(&lab).len(), 3);
    let again = at(&lab, "owner", &["session", "end", other], "");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("overlan session list"), "{again:?}");
    at(&lab, "owner", &["session", "end", "--others"], "").ok();
    assert_eq!(sessions(&lab).len(), 1);

    let change = |old: &str, new: &str| {
        let words = ["password", "--password-stdin"];
        at(&lab, "owner", &words, &format!("{old}\n{new}\n"))
    };
    let wrong = change("correct horse battery stable", ANOTHER);
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    assert!(wrong.stderr.contains("reset-password"), "{wrong:?}");
    assert_eq!(change(PASSWORD, "short").code, Some(2));
    change(PASSWORD, ANOTHER).ok();
    assert_eq!(login(&lab, "second", PASSWORD).code, Some(4));
    login(&lab, "second", ANOTHER).ok();

    let data_dir = lab.path("controller");
    let reset = |email: &str, directory: &std::path::Path| {
        let mut command = overlan();
        command
            .args([
                "controller",
                "reset-password",
                "--email",
                email,
                "--password-stdin",
            ])
            .arg("--data-dir")
            .arg(directory);
        run(&mut command, &format!("{PASSWORD}\n"))
    };
    let nobody = reset("anna@acme.example", &data_dir);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert!(nobody.stderr.contains(OWNER), "{nobody:?}");
    let nothing = lab.path("nothing");
    assert_eq!(reset(OWNER, &nothing).code, Some(2));
    assert!(!nothing.exists());
    reset(OWNER, &data_dir).ok();
    let ended = at(&lab, "owner", &["session", "list"], "");
    assert_eq!(ended.code, Some(4), "{ended:?}");
    login(&lab, "owner", PASSWORD).ok();
    assert_eq!(sessions(&lab).len(), 1);
}

#[test]
fn an_enrolment_that_cannot_be_kept_makes_no_device_that_nobody_has() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let named = |lab: &Lab, name: &str| {
        let devices = lab.admin(&["devices", "--json"]);
        let devices: Value = serde_json::from_str(&devices).unwrap();
        let devices = devices["devices"].as_array().unwrap().clone();
        let ids = devices
            .iter()
            .filter(|device| device["label"] == name)
            .map(|device| device["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<String>>()
    };
    // A file that may not grow, as a disk without room, refuses the keys, so nobody is asked.
    let (up, _) = lab.up_command("full", KeyBy::File(&key));
    let mut full = Command::new("bash");
    full.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]);
    full.arg(up.get_program()).args(up.get_args());
    let outcome = run(&mut full, "");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(named(&lab, "full"), [""; 0]);

    // The answer cannot be kept: the device is there, and the next attempt is the same one, by the
    // same key.
    let blocked = lab.path("late").join(".device.json.part");
    let (mut up, _) = lab.up_command("late", KeyBy::File(&key));
    fs::create_dir_all(blocked.join("in the way")).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(lab.path("late"), private).unwrap();
    let outcome = run(&mut up, "");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("device.json"), "{outcome:?}");
    let made = named(&lab, "late");
    assert_eq!(made.len(), 1);
    fs::remove_dir_all(&blocked).unwrap();
    let _device = lab.up_by("late", KeyBy::File(&key), &[]);
    assert_eq!(named(&lab, "late"), made);
    assert!(!lab.path("late").join("enrolling.json").exists());
}

#[test]
fn an_enrolment_goes_on_where_the_controller_starts_again_meanwhile() {
    let mut lab = Lab::start();
    let key = lab.auth_key(&[]);
    let port = lab.controller.address.rsplit_once(':').unwrap().1;
    let port = format!(":{:04X}", port.parse::<u16>().unwrap());
    // Established connections to the controller, its own ends not counted.
    let connections = || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let to_it = table.lines().filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[2].ends_with(&port) && fields[3] == "01"
        });
        to_it.count()
    };
    until("the owner has left", WAIT, || {
        (connections() <= 2).then_some(())
    });
    let before = connections();
    lab.controller.program.signal(Signal::STOP);
    let (mut up, stdin) = lab.up_command("late", KeyBy::File(&key));
    let program = Program::start("late", &lab.path(""), &mut up, stdin);
    until("it asks", WAIT, || (connections() > before).then_some(()));
    lab.controller.program.kill();
    lab.restart_controller();
    let late = Device::ready(program, &lab.path("late"));
    assert!(late.name.starts_with("late."), "{}", late.name);
}
