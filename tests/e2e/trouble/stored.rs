//! State directories that cannot be used: damaged, open to others, in use.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::up_again;
use crate::lab::{KeyBy, Lab, state};
use crate::process::{overlan, run};

#[test]
fn a_state_that_cannot_be_used_is_named() {
    let lab = Lab::start();
    let mut device = lab.up("device");

    // A second one on the same directory, while the first one runs and goes on.
    up_again(&lab, &[]).refused(
        1,
        &["another `overlan up` runs", "overlan down", "--state-dir"],
    );
    assert_eq!(device.status()["state"], "running");

    // The files that a crash leaves are in nobody's way.
    device.program.kill();
    device
        .run(&["status"])
        .refused(3, &["no `overlan up` runs"]);
    let mut device = lab.up_by("device", KeyBy::Nothing, &[]);
    assert!(device.program.stop().success());

    let directory = lab.path("device");
    let damaged = |file: &str, damage: &dyn Fn(&str) -> String, texts: &[&str]| {
        let path = directory.join(file);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, damage(&whole)).unwrap();
        let outcome = up_again(&lab, &[]);
        fs::write(&path, &whole).unwrap();
        outcome.refused(1, &[&[path.to_str().unwrap()], texts].concat());
        outcome
    };
    let half = |whole: &str| whole[..whole.len() / 2].to_owned();
    let enrol = ["overlan logout", "enrol again with `overlan up`"];
    damaged(
        "device.json",
        &half,
        &[enrol.as_slice(), &["too early"]].concat(),
    );
    damaged("device.json", &|_| String::new(), &enrol);
    damaged("device.json", &|_| "\u{0}\u{1}garbage".to_owned(), &enrol);
    damaged(
        "device.json",
        &|whole| whole.replace("\"schema_version\":1", "\"schema_version\":9"),
        &["schema version 9", "another version of overlan wrote it"],
    );
    let short = |whole: &str| {
        let mut document: Value = serde_json::from_str(whole).unwrap();
        let secret = &mut document["value"]["identity_secret"];
        *secret = secret.as_str().unwrap()[..20].into();
        document.to_string()
    };
    let outcome = damaged("device.json", &short, &enrol);
    let whole = fs::read_to_string(directory.join("device.json")).unwrap();
    let document: Value = serde_json::from_str(&whole).unwrap();
    let secret = document["value"]["identity_secret"].as_str().unwrap();
    assert!(
        !outcome.stderr.contains(&secret[..20]),
        "the message must not hold what is left of the key: {outcome:#?}"
    );
    // Copies of what the controller has heal themselves, whatever became of them.
    for change in ["half", "gone", "turned"] {
        for file in ["netmap.json", "ticket.json"] {
            let path = directory.join(file);
            let whole = fs::read(&path).unwrap();
            match change {
                "half" => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                "gone" => fs::remove_file(&path).unwrap(),
                _ => {
                    let mut turned = whole.clone();
                    turned[whole.len() / 2] ^= 1;
                    fs::write(&path, &turned).unwrap();
                }
            }
        }
        let mut device = lab.up_by("device", KeyBy::Nothing, &[]);
        assert!(device.program.stop().success());
    }

    // Its keys are readable by others: they are as good as lost.
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    for command in ["up", "status", "login"] {
        let chmod = format!("chmod 700 {}", directory.display());
        run(overlan().arg(command).args(state(&directory)), "")
            .refused(1, &["is not safe", "0755", &chmod]);
    }
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();

    // What the messages advise helps: a netmap that was moved away is fetched again, and damaged
    // keys are left by `logout`.
    fs::remove_file(directory.join("netmap.json")).unwrap();
    let mut device = lab.up_by("device", KeyBy::Nothing, &[]);
    assert!(device.program.stop().success());
    fs::write(directory.join("device.json"), "garbage").unwrap();
    run(overlan().arg("logout").args(state(&directory)), "")
        .refused(1, &["removed here", "but not at the controller"]);
    let again = lab.up("device");
    assert_eq!(again.status()["state"], "running");
}
