//! Programs whose first line cannot be printed: those that stay go on, those whose answer is all
//! that they do fail.

use std::fs;
use std::process::Stdio;

use crate::lab::{KeyBy, Lab, state};
use crate::process::{Owned, overlan, run, skipped};

#[test]
fn what_stays_goes_on_where_its_first_line_cannot_be_printed() {
    if !std::path::Path::new("/dev/full").exists() {
        return skipped("there is no /dev/full");
    }
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let (mut up, _) = lab.up_command("laptop", KeyBy::Environment(&key));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut up = Owned::new(up.stdout(full).spawn().unwrap());
    let mut check = overlan();
    check.args(["wait", "--timeout", "30"]);
    check.args(state(&lab.path("laptop")));
    run(&mut check, "").ok();
    let mut down = overlan();
    down.arg("down").args(state(&lab.path("laptop")));
    assert_eq!(run(&mut down, "").code, Some(0));
    assert_eq!(up.ended("up").code(), Some(0));
    // A command whose answer is all that it does has failed.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut version = overlan();
    let status = version
        .args(["man"])
        .stdout(full)
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}
