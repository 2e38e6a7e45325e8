//! People come into an organisation, have roles in it and leave it, by the commands they type.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{KeyBy, Lab, OWNER, PASSWORD, state};
use crate::process::{Outcome, overlan, run, until};

/// More than anything here takes.
const WAIT: Duration = Duration::from_secs(20);

const ANNA: &str = "anna@acme.example";
const BEN: &str = "ben@acme.example";
const ANOTHER: &str = "another battery, another horse";

/// Runs `overlan …` with the state directory `name` of the lab.
fn at(lab: &Lab, name: &str, words: &[&str], stdin: &str) -> Outcome {
    run(overlan().args(words).args(state(&lab.path(name))), stdin)
}

fn document(text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap();
    assert_eq!(document["schema_version"], 1, "{document}");
    document
}

/// Invites somebody, who accepts with this password.
fn join(lab: &Lab, name: &str, email: &str, flags: &[&str]) {
    let link = lab.admin(&[&["invitation", "create", email], flags].concat());
    assert!(link.contains("/invitation#sha256:"), "{link}");
    let words = ["login", "--invitation-file", "-", "--password-stdin"];
    let joined = at(lab, name, &words, &format!("{link}\n{PASSWORD}\n"));
    assert!(joined.stderr.contains("is in Acme now"), "{joined:?}");
    joined.ok();
    let again = at(lab, "thief", &words, &format!("{link}\n{PASSWORD}\n"));
    assert_eq!(again.code, Some(4), "{again:?}");
    assert!(again.stderr.contains("not open"), "{again:?}");
}

fn role(lab: &Lab, email: &str) -> String {
    let shown = document(&lab.admin(&["person", "show", email, "--json"]));
    shown["person"]["role"].as_str().unwrap().to_owned()
}

#[test]
fn a_colleague_is_invited_promoted_and_offboarded() {
    let lab = Lab::start();
    join(&lab, "anna", ANNA, &[]);
    assert_eq!(role(&lab, ANNA), "member");
    let refused = at(&lab, "anna", &["admin", "person", "list"], "");
    assert_eq!(refused.code, Some(6), "{refused:?}");
    lab.admin(&["person", "set-role", ANNA, "admin"]);
    let people = at(&lab, "anna", &["admin", "people"], "").ok();
    assert!(people.contains("anna@acme.example (you)"), "{people}");
    let deposed = at(&lab, "anna", &["admin", "person", "remove", OWNER], "");
    assert_eq!(deposed.code, Some(6), "{deposed:?}");

    let key = at(
        &lab,
        "anna",
        &["admin", "auth-key", "create", "--reusable"],
        "",
    )
    .ok();
    let _builder = lab.up_by("builder", KeyBy::File(&key), &[]);
    until("the device is online", WAIT, || {
        let devices = document(&lab.admin(&["device", "list", "--json"]));
        (devices["devices"][0]["online"] == true).then_some(())
    });
    let gone = lab.admin(&["person", "remove", ANNA, "--json"]);
    let gone = &document(&gone)["removed"];
    assert_eq!(gone["logins"], 1, "{gone}");
    assert_eq!(gone["auth_keys"].as_array().unwrap().len(), 1, "{gone}");
    assert_eq!(gone["still_connected"][0], "builder.home", "{gone}");
    let after = at(&lab, "anna", &["admin", "people"], "");
    assert_eq!(after.code, Some(4), "{after:?}");

    let last = run(&mut lab.admin_command(&["person", "remove", OWNER]), "");
    assert_eq!(last.code, Some(6), "{last:?}");
    assert!(last.stderr.contains("set-role EMAIL owner"), "{last:?}");
    let nobody = run(&mut lab.admin_command(&["person", "show", ANNA]), "");
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    let shown = lab.admin(&["organisation", "show"]);
    assert!(shown.contains(OWNER) && shown.contains("Acme"), "{shown}");
}

#[test]
fn a_lost_password_and_a_lost_owner_come_back() {
    let lab = Lab::start();
    join(&lab, "ben", BEN, &["--role", "auditor"]);
    let link = lab.admin(&["person", "reset-password", BEN]);
    let words = ["password", "--reset-file", "-", "--password-stdin"];
    let set = at(&lab, "bens-other", &words, &format!("{link}\n{ANOTHER}\n"));
    assert!(set.stderr.contains("one login has ended"), "{set:?}");
    set.ok();
    let used = at(&lab, "bens-other", &words, &format!("{link}\n{PASSWORD}\n"));
    assert_eq!(used.code, Some(4), "{used:?}");
    let swapped = ["login", "--invitation-file", "-", "--password-stdin"];
    let swapped = at(&lab, "ben", &swapped, &format!("{link}\n{ANOTHER}\n"));
    assert_eq!(swapped.code, Some(2), "{swapped:?}");

    let mut recover = overlan();
    recover
        .args(["controller", "recover", "--email", BEN, "--password-stdin"])
        .arg("--data-dir")
        .arg(lab.path("controller"));
    let recovered = run(&mut recover, &format!("{PASSWORD}\n"));
    assert!(
        recovered.stderr.contains("is an owner of Acme now"),
        "{recovered:?}"
    );
    recovered.ok();
    let login = ["login", "--server", &lab.controller.join, "--email", BEN];
    let login = [&login[..], &["--organisation", "acme", "--password-stdin"]].concat();
    at(&lab, "ben", &login, &format!("{PASSWORD}\n")).ok();
    assert_eq!(role(&lab, BEN), "owner");
    let closed = [
        "signup",
        "--server",
        &lab.controller.join,
        "--email",
        ANNA,
        "--organisation",
        "Other",
        "--password-stdin",
    ];
    let closed = at(&lab, "anna", &closed, &format!("{PASSWORD}\n"));
    assert_eq!(closed.code, Some(6), "{closed:?}");
}
