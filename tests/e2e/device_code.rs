//! A login for a machine on which nobody types a password: it shows a code, and a person who is
//! logged in elsewhere decides.

use rustix::process::Signal;

use crate::lab::{Lab, OWNER, state};
use crate::process::{Outcome, Program, overlan, run};

/// The machine that asks, and the code that it shows.
fn asking(lab: &Lab, name: &str) -> (Program, String) {
    let mut login = overlan();
    login
        .args(["login", "--device-code", "--server", &lab.controller.join])
        .args(state(&lab.path(name)));
    let mut program = Program::start(name, &lab.path("."), &mut login, "");
    let code = program.line("  overlan session approve ");
    (program, code)
}

fn owner(lab: &Lab, words: &[&str]) -> Outcome {
    run(overlan().args(words).args(state(&lab.path("owner"))), "")
}

#[test]
fn a_machine_is_logged_in_by_a_code_that_a_person_grants() {
    let lab = Lab::start();
    let (mut machine, code) = asking(&lab, "headless");
    // Nobody grants what they have not seen.
    owner(&lab, &["session", "approve", &code]).refused(2, &["overlan login", "--yes"]);
    let granted = owner(&lab, &["session", "approve", &code.to_lowercase(), "--yes"]);
    assert!(granted.stderr.contains(OWNER), "{granted:?}");
    granted.ok();
    assert!(machine.ended().success(), "{}", machine.output());
    let said = machine.output();
    assert!(said.contains(&format!("Logged in as {OWNER}")), "{said}");
    let mut list = overlan();
    list.args(["session", "list"])
        .args(state(&lab.path("headless")));
    assert!(run(&mut list, "").ok().contains("this one"));
    owner(&lab, &["session", "approve", &code, "--yes"]).refused(1, &["no login waits"]);
    owner(&lab, &["session", "approve", "WDJA-MJHT"]).refused(2, &["eight letters"]);
}

#[test]
fn a_login_that_is_refused_or_taken_back_is_over() {
    let lab = Lab::start();
    let (mut refused, code) = asking(&lab, "refused");
    owner(&lab, &["session", "deny", &code]).ok();
    assert_eq!(refused.ended().code(), Some(6));
    let said = refused.output();
    assert!(said.contains("refused it"), "{said}");

    let (mut stopped, code) = asking(&lab, "stopped");
    stopped.signal(Signal::INT);
    assert_eq!(stopped.ended().code(), Some(1));
    let said = stopped.output();
    assert!(said.contains("taken back"), "{said}");
    owner(&lab, &["session", "approve", &code, "--yes"]).refused(1, &["no login waits"]);
}
