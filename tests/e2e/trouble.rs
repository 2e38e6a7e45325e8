//! Faults as a user meets them: exit codes and messages that say what happened, why and what to do
//! next.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::lab::{KeyBy, Lab, OWNER, PASSWORD, state};
use crate::lifecycle::key_id;
use crate::process::{LONGEST, Outcome, overlan, run, until};

mod doors;

mod garbage;

mod mistyped;

mod secrets;

mod stored;

mod unprinted;

#[test]
fn who_may_not_join_hears_why() {
    let lab = Lab::start();
    // First, so that its second is over when it is used.
    let expired = lab.auth_key(&["--expires", "1s"]);

    log_in(&lab, OWNER, "not this one, certainly")
        .refused(4, &["the email or the password is wrong"]);
    log_in(&lab, "nobody", PASSWORD).refused(
        1,
        &["Error: \"nobody\" is not an email address: it has no @"],
    );
    log_in(&lab, "nobody@acme.example", PASSWORD)
        .refused(4, &["the email or the password is wrong"]);

    let used = lab.auth_key(&[]);
    let _first = lab.up_by("first", KeyBy::Stdin(&used), &[]);
    up(&lab, "second", &used, &[]).refused(
        4,
        &[
            &format!("auth key {} was already used", key_id(&used)),
            " s ago",
            "make a new one or a reusable one",
        ],
    );

    let revoked = lab.auth_key(&["--reusable"]);
    lab.admin(&["auth-key", "revoke", key_id(&revoked)]);
    up(&lab, "second", &revoked, &[]).refused(
        4,
        &[
            &format!("auth key {} was revoked", key_id(&revoked)),
            " s ago",
            "make a new one",
        ],
    );

    until("the end of a key", LONGEST, || {
        let listed = lab.admin(&["auth-key", "list"]);
        let row = listed
            .lines()
            .find(|line| line.starts_with(key_id(&expired)))?;
        row.contains(" ago").then_some(())
    });
    up(&lab, "second", &expired, &[]).refused(
        4,
        &[
            &format!("auth key {} has expired", key_id(&expired)),
            " s ago",
            "make a new one",
        ],
    );

    // Half a key, and a whole one that no controller made.
    let (begin, _) = used.split_at(used.len() - 8);
    let forged = format!("{begin}AAAAAAAA");
    for key in [begin, &forged] {
        let outcome = up(&lab, "second", key, &[]);
        outcome.refused(4, &["is not known", "copy all of it"]);
        assert!(!outcome.stderr.contains(key), "{outcome:#?}");
    }
    // What cannot be a key is told here, with the place that holds it.
    let quoted = format!("\"{used}\"");
    for key in ["not-a-key", &quoted] {
        let (mut by_file, _) = lab.up_command("second", KeyBy::File(key));
        let by_file = run(&mut by_file, "");
        by_file.refused(4, &["second.key does not hold an auth key", "ovk_"]);
        let (mut by_variable, _) = lab.up_command("second", KeyBy::Environment(key));
        let by_variable = run(&mut by_variable, "");
        by_variable.refused(4, &["$OVERLAN_AUTH_KEY does not hold", "without quotes"]);
        assert!(!by_file.stderr.contains(key), "{by_file:#?}");
    }

    let reusable = lab.auth_key(&["--reusable", "--on-name-taken", "fail"]);
    up(&lab, "FIRST", &reusable, &[])
        .refused(1, &["the name first is in use", "choose another host name"]);
    up(&lab, "second", &reusable, &["--network", "nowhere"]).refused(
        6,
        &[
            "the auth key does not let devices join \"nowhere\"",
            "it lets them join home",
        ],
    );
    // A person may choose among networks, so that it is another mistake.
    let (mut by_login, _) = lab.up_command("owner", KeyBy::Nothing);
    run(by_login.args(["--network", "nowhere"]), "")
        .refused(1, &["no network \"nowhere\"", "its networks are home"]);

    // None of that left a device.
    let devices = lab.admin(&["devices"]);
    assert_eq!(devices.lines().count(), 2, "{devices}");
    assert!(!lab.path("second").join("device.json").exists());
}

#[test]
fn a_wrong_command_line_is_told_before_anything_happens() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let join = &lab.controller.join;
    let up_with = |args: &[&str]| {
        let mut command = overlan();
        command.args(["up", "--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
        command.args(args).args(state(&lab.path("new")));
        run(&mut command, "")
    };

    // A secret in an argument would be readable by every user of the host: there is no flag to take
    // one, and the message does not repeat it for a log to keep.
    for args in [
        ["--auth-key", &key].as_slice(),
        &[&format!("--auth-key={key}")],
        &["--socks-password", &key],
    ] {
        let outcome = up_with(&[&["--server", join.as_str()], args].concat());
        outcome.refused(2, &["unexpected argument"]);
        assert!(!outcome.stderr.contains(&key), "{outcome:#?}");
    }
    let login = run(
        overlan().args(["login", "--server", join, "--password", PASSWORD]),
        "",
    );
    login.refused(2, &["unexpected argument"]);
    assert!(!login.stderr.contains(PASSWORD), "{login:#?}");

    let truncated = &join[..join.len() - 5];
    up_with(&["--server", truncated])
        .refused(2, &["the fingerprint after # is damaged; copy it as"]);
    let (address, _) = join.split_once('#').unwrap();
    up_with(&["--server", &format!("{address}#")]).refused(2, &["sha256:"]);
    up_with(&["--server", &join.replace("https://", "")])
        .refused(2, &["it must start with https://"]);
    up_with(&[]).refused(4, &["not enrolled", "--auth-key-file", "overlan login"]);

    // A join string that was not copied wrongly but is another's: the server is not the one.
    let (mut stranger, stdin) = lab.up_command("new", KeyBy::Stdin(&key));
    stranger.args(["--timeout", "20"]);
    let other = other_pin(join);
    let args: Vec<_> = stranger.get_args().map(|arg| arg.to_owned()).collect();
    let args = args.iter().map(|arg| match arg == join.as_str() {
        true => other.as_ref(),
        false => arg.as_os_str(),
    });
    run(overlan().args(args), stdin).refused(
        8,
        &[&lab.controller.address, "is not the server that was named"],
    );
    // Without a pin it is one of the public web's, which this one is not.
    run(
        overlan()
            .args([
                "up",
                "--socks",
                "off",
                "--dns",
                "off",
                "--auth-key-file",
                "-",
            ])
            .args(["--server", address])
            .args(state(&lab.path("new"))),
        &key,
    )
    .refused(
        2,
        &[
            "fingerprint is missing",
            "`overlan controller serve` prints it",
        ],
    );

    // The key was shown to nobody who could use it up.
    lab.up_by("new", KeyBy::Stdin(&key), &[]);
}

#[test]
fn nobody_answers_and_up_gives_up_in_time() {
    let mut lab = Lab::start();
    let key = lab.auth_key(&[]);
    let mut device = lab.up("device");
    device.run(&["down"]).ok();
    assert!(device.program.ended().success());

    // A controller that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let join = lab
        .controller
        .join
        .replace(&lab.controller.address, &address);
    let (outcome, took) = timed(|| {
        run(
            overlan()
                .args(["up", "--socks", "off", "--dns", "off", "--timeout", "2"])
                .args(["--auth-key-file", "-", "--server", &join])
                .args(state(&lab.path("new"))),
            &key,
        )
    });
    outcome.refused(8, &[&address, "did not answer within 2 s"]);
    in_time(took);

    // Relays that are gone, for a device that has all it needs to go to them.
    for relay in &mut lab.relays {
        relay.program.kill();
    }
    let (outcome, took) = timed(|| up_again(&lab, &["--timeout", "2"]));
    outcome.refused(
        9,
        &["no relay was reached within 2 s", &lab.relays[0].address],
    );
    in_time(took);

    // A controller that is gone: a new device hears it at once, a known one without its netmap when
    // the time is over.
    assert!(lab.controller.program.stop().success());
    let closed = format!("cannot connect to {}", lab.controller.address);
    let (outcome, took) = timed(|| up(&lab, "new", &key, &["--timeout", "2"]));
    outcome.refused(8, &[&closed, "refused"]);
    in_time(took);
    std::fs::remove_file(lab.path("device").join("netmap.json")).unwrap();
    let (outcome, took) = timed(|| up_again(&lab, &["--timeout", "2"]));
    outcome.refused(8, &["the controller was not reached within 2 s", &closed]);
    in_time(took);
    log_in(&lab, OWNER, PASSWORD).refused(8, &[&closed]);
    let ask = |args: &[&str], name: &str| {
        let directory = lab.path(name);
        run(overlan().args(args).args(state(&directory)), "")
    };
    ask(&["admin", "devices"], "owner").refused(8, &[&closed]);

    // A logout counts here, whether the controller can be reached or not.
    let texts = ["this device is removed here", &closed, "nobody can use it"];
    ask(&["logout"], "device").refused(8, &texts);
    assert!(!lab.path("device").join("device.json").exists());
    assert_eq!(ask(&["logout"], "device").code, Some(0), "nothing is left");
    let owner = ask(&["logout"], "owner");
    assert_eq!(owner.code, Some(0), "a login ends by itself: {owner:#?}");
    assert!(
        owner.stderr.contains("could not end the login"),
        "{owner:#?}"
    );
    ask(&["admin", "devices"], "owner")
        .refused(4, &["nobody is logged in with the state directory"]);
}

/// `up` that is expected to fail, with `key` on standard input.
#[track_caller]
fn up(lab: &Lab, name: &str, key: &str, args: &[&str]) -> Outcome {
    let (mut command, stdin) = lab.up_command(name, KeyBy::Stdin(key));
    run(command.args(args), stdin)
}

/// `up` of the enrolled `device`, which is expected to fail.
#[track_caller]
fn up_again(lab: &Lab, args: &[&str]) -> Outcome {
    let (mut command, stdin) = lab.up_command("device", KeyBy::Nothing);
    run(command.args(args), stdin)
}

#[track_caller]
fn log_in(lab: &Lab, email: &str, password: &str) -> Outcome {
    run(
        overlan()
            .args(["login", "--password-stdin", "--email", email, "--server"])
            .arg(&lab.controller.join)
            .args(state(&lab.path("person"))),
        &format!("{password}\n"),
    )
}

/// The join string with the fingerprint of another certificate.
fn other_pin(join: &str) -> String {
    let (address, pin) = join.split_once("#sha256:").unwrap();
    let first = if pin.starts_with('A') { 'B' } else { 'A' };
    format!("{address}#sha256:{first}{}", &pin[1..])
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began: Instant = tokio::time::Instant::now().into_std();
    let done = work();
    (done, began.elapsed())
}

/// Two seconds were given; the rest is a process's start and end on a busy machine.
#[track_caller]
fn in_time(took: Duration) {
    assert!(took < Duration::from_secs(10), "{took:?}");
}
