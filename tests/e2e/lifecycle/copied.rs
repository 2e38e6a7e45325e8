//! Two processes have the keys of one device, as containers of one image do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use super::get;
use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, Program, installed, until};
use crate::service::Service;

/// Lines of a log with these words.
fn count(program: &Program, words: &str) -> usize {
    let output = program.output();
    output.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn of_two_processes_with_the_keys_of_one_device_one_is_told_and_the_other_goes_on() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("from web\n");
    let lab = Lab::start();
    let (mut laptop, web) = lab.pair();
    web.serve(80, page.address());
    assert!(laptop.program.stop().success());
    let copy = lab.path("copy");
    fs::create_dir(&copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(lab.path("laptop")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|it| it == "json") {
            fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
        }
    }
    let first = lab.up_by("laptop", KeyBy::Nothing, &[]);
    assert_eq!(get(&first, "web", 80).ok(), "from web");
    let (mut up, _) = lab.up_command("copy", KeyBy::Nothing);
    let second = Program::start("copy", &lab.path(""), &mut up, "");

    // Of two that attach within the same second the first one stays, else the newer one.
    let told = |program: &Program| count(program, TOLD);
    until("the warning", LONGEST, || {
        (told(&first.program) + told(&second) > 0).then_some(())
    });
    let warning = [&first.program, &second].map(Program::output).concat();
    let warning = warning.lines().find(|line| line.contains(TOLD)).unwrap();
    assert!(
        warning.contains("WARN") && warning.contains("--state-dir mem:"),
        "{warning}"
    );
    let first_stays = told(&second) > 0;
    let attached = || count(&first.program, ATTACHED) + count(&second, ATTACHED);
    let before = attached();
    // Longer than many turns of two that take the place from each other took: a dozen in half a
    // minute. The warning may come before the newer one says that it is attached, at either relay.
    thread::park_timeout(Duration::from_secs(15));
    assert!(
        attached() <= before + lab.relays.len() + 1,
        "the place goes back and forth: {} times",
        attached() - before
    );
    assert_eq!(told(&first.program) + told(&second), 1);
    let device = match first_stays {
        true => first,
        false => {
            let second = Device::ready(second, &copy);
            assert_eq!(second.address, first.address, "they are one device");
            second
        }
    };
    assert_eq!(get(&device, "web", 80).ok(), "from web");
}

const TOLD: &str = "another process took this device's place";

const ATTACHED: &str = "attached to a relay";
