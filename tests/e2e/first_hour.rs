//! The commands of a newcomer's first hour, and the screen after each.

use std::net::TcpListener;

use crate::lab::{KeyBy, Lab, OWNER, PASSWORD, state};
use crate::process::{overlan, run};
use crate::service::Service;
use crate::terminal::{self, Step, session, session_of};

#[test]
fn serve_tells_what_to_pass_on_and_what_does_not_work() {
    let lab = Lab::start();
    let web = lab.up("web");
    let page = Service::http("a page\n");
    let target = page.address().to_string();
    let url = format!("http://{}:3000", web.name);

    let served = web.run(&["serve", "tcp", "3000", &format!("http://{target}")]);
    assert!(served.stderr.contains("Serving"), "{served:#?}");
    assert!(!served.stderr.contains("Warning"), "{served:#?}");
    assert_eq!(served.ok(), url);
    // As it was made.
    web.run(&["serve", "remove", "tcp", "3000"]).ok();
    let list = web.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is served"), "{list:#?}");

    // A port alone, where nobody listens yet.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let served = web.run(&["serve", &port]);
    for told in [
        "Warning",
        &format!("127.0.0.1:{port}"),
        "no program listens",
    ] {
        assert!(served.stderr.contains(told), "{told}: {served:#?}");
    }
    assert_eq!(served.ok(), format!("http://{}:{port}", web.name));
    web.run(&["serve", "remove", &port]).ok();

    // A misspelt network is told with those that exist, and nothing is served.
    web.run(&["serve", "3000", "--network", "nosuch"])
        .refused(2, &["not in network nosuch", "it is in home"]);
    let list = web.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is served"), "{list:#?}");
    let ssh = web.run(&["serve", "22"]).ok();
    assert_eq!(ssh, format!("{}:22", web.name));
}

#[test]
fn down_and_logout_say_what_they_did_and_nothing_comes_back() {
    let lab = Lab::start();
    let mut web = lab.up("web");
    web.run(&["serve", "3000"]).ok();
    web.run(&["serve", "route", "10.1.0.0/16"]).ok();
    let down = web.run(&["down"]);
    assert!(down.stderr.contains("Stopped"), "{down:#?}");
    assert!(web.program.ended().success());
    let directory = lab.path("web");
    let logout = |told: &[&str]| {
        let outcome = run(overlan().arg("logout").args(state(&directory)), "");
        for told in told {
            assert!(outcome.stderr.contains(told), "{told}: {outcome:#?}");
        }
        outcome.ok();
    };
    logout(&["Logged out", "device web", "2 services"]);
    logout(&["Nobody was logged in", "no device and no login"]);

    // A device that is enrolled here next begins with nothing.
    let again = lab.up("web");
    let list = again.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is served"), "{list:#?}");
    again.run(&["serve", "3000"]).ok();
    // By the running client as well.
    let by_client = again.run(&["logout"]);
    assert!(
        by_client.stderr.contains("1 service is no longer served"),
        "{by_client:#?}"
    );
    logout(&["Nobody was logged in"]);
}

#[test]
fn a_prompt_leaves_the_terminal_as_it_was_and_asks_again() {
    if !terminal::exists() {
        return;
    }
    let lab = Lab::start();
    let login = || {
        let mut login = overlan();
        login.args(["login", "--server", &lab.controller.join]);
        login.args(state(&lab.path("person")));
        login
    };
    let interrupted = session(
        &login(),
        &[
            Step::Sees("Email: "),
            Step::Types("a@b.example\n"),
            Step::Sees("Password: "),
            Step::Types("half of it\u{3}"),
        ],
    );
    assert_eq!(interrupted.code, -2, "SIGINT: {interrupted:#?}");
    assert!(interrupted.echoes, "{interrupted:#?}");
    let screen = &interrupted.screen;
    assert!(!screen.contains("half of it"), "{interrupted:#?}");
    // Question and answer stand on one line.
    assert!(screen.contains("Email: a@b.example"), "{interrupted:#?}");

    let nothing = session(&login(), &[Step::Sees("Email: "), Step::Types("\u{4}")]);
    assert_eq!(nothing.code, 2, "{nothing:#?}");
    let told = "the input ended before there was an answer: the email is missing";
    assert!(nothing.screen.contains(told), "{nothing:#?}");

    // A password that is mistyped, one that is corrected while it is typed, and the right one.
    let mut typed = String::from("nonsense\u{15}");
    typed.push_str(PASSWORD);
    typed.push_str("x\u{7f}\n");
    let again = session(
        login().args(["--email", OWNER]),
        &[
            Step::Sees("Password: "),
            Step::Types("not this one, certainly\n"),
            Step::Sees("Try again"),
            Step::Sees("Password: "),
            Step::Types(&typed),
            Step::Sees("Logged in as"),
        ],
    );
    assert_eq!(again.code, 0, "{again:#?}");
    assert!(
        again.echoes && !again.screen.contains(PASSWORD),
        "{again:#?}"
    );

    let mut steps = vec![];
    for _ in 0..3 {
        steps.push(Step::Sees("Password: "));
        steps.push(Step::Types("not this one, certainly\n"));
    }
    let given_up = session(login().args(["--email", OWNER]), &steps);
    assert_eq!(given_up.code, 4, "{given_up:#?}");
}

#[test]
fn status_fits_the_terminal_and_is_coloured_only_where_that_is_wanted() {
    if !terminal::exists() {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let status = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = laptop.command(&[&["status"], args].concat());
        command.env("TERM", "xterm-256color");
        command.envs(variables.iter().copied());
        command
    };
    let screen = |columns: u16, variables: &[(&str, &str)]| {
        let seen = session_of(
            columns,
            &status(&[], variables),
            &[Step::Sees("peers online")],
        );
        assert_eq!(seen.code, 0, "{seen:#?}");
        seen.screen
    };
    let green = "\u{1b}[32mconnected\u{1b}[0m, home relay relay-";
    for columns in [60, 80] {
        let seen = screen(columns, &[]);
        assert!(seen.starts_with(green), "{seen}");
        assert!(seen.contains(" ms), 1 of 1 peers online"), "{seen}");
        assert!(seen.contains(&web.address), "{seen}");
        let mut bare = seen.replace("\u{1b}[0m", "");
        for colour in [31, 32, 33] {
            bare = bare.replace(&format!("\u{1b}[{colour}m"), "");
        }
        for line in bare.lines() {
            let wide = line.trim_end().chars().count();
            assert!(wide <= usize::from(columns), "{wide} of {columns}: {line}");
        }
    }
    for variables in [
        &[("NO_COLOR", "1")][..],
        &[("TERM", "dumb")],
        &[("CLICOLOR", "0")],
    ] {
        let seen = screen(80, variables);
        assert!(!seen.contains('\u{1b}'), "{variables:?} {seen}");
    }
    // Not a terminal: never.
    let piped = run(&mut status(&[], &[]), "").ok();
    assert!(!piped.contains('\u{1b}'), "{piped}");
    assert!(!piped.contains("retransmits"), "{piped}");
    let verbose = run(&mut status(&["--verbose"], &[]), "").ok();
    assert!(verbose.contains("retransmits"), "{verbose}");

    // What was on the screen before comes back.
    let watched = session(
        &status(&["--watch"], &[]),
        &[
            Step::Sees("\u{1b}[?1049h"),
            Step::Sees("peers online"),
            Step::Types("\u{3}"),
            Step::Sees("\u{1b}[?1049l"),
        ],
    );
    assert_eq!(watched.code, 0, "{watched:#?}");

    // Errors of ours and of the parser begin the same way.
    for args in [&["ip", "nobody"][..], &["status", "--nothing"]] {
        let mut wrong = laptop.command(args);
        wrong.env("TERM", "xterm");
        let seen = session(&wrong, &[Step::Sees("\u{1b}[1;31mError:\u{1b}[0m ")]);
        assert_ne!(seen.code, 0, "{seen:#?}");
        assert!(laptop.run(args).stderr.starts_with("Error: "));
    }
}

#[test]
fn an_empty_list_says_what_is_next_and_a_full_one_fits() {
    let lab = Lab::start();
    for (noun, next) in [
        ("device", "overlan admin auth-key create"),
        ("auth-key", "overlan admin auth-key create"),
        ("route", "overlan serve route"),
    ] {
        let list = run(&mut lab.admin_command(&[noun, "list"]), "");
        assert!(list.stderr.contains(next), "{noun}: {list:#?}");
        assert_eq!(list.ok(), "", "{noun}");
    }
    let web = lab.up("web");
    let list = lab.admin(&["device", "list"]);
    for line in list.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let id = web.status()["device"]["id"].as_str().unwrap().to_owned();
    let short = list.lines().nth(1).unwrap().rsplit(' ').next().unwrap();
    assert_eq!(short, &id[..8]);
    assert!(lab.admin(&["device", "list", "--verbose"]).contains(&id));
    // The first digits are enough.
    lab.admin(&["device", "remove", short]);
}

#[test]
fn who_waits_at_a_terminal_is_told_for_what_and_scripts_are_not() {
    if !terminal::exists() {
        return;
    }
    let lab = Lab::start();
    let mut wait = overlan();
    wait.args(["wait", "--timeout", "2"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    wait.args(state(&lab.path("nothing")));
    let seen = session(
        &wait,
        &[
            Step::Sees("Waiting for `overlan up`"),
            // The line is gone before anything else is told.
            Step::Sees("\r\u{1b}[KError: no `overlan up` runs"),
        ],
    );
    assert_eq!(seen.code, 3, "{seen:#?}");
    let piped = run(&mut wait, "");
    assert!(!piped.stderr.contains("Waiting for"), "{piped:#?}");

    // The steps of `up`, for a person only.
    let key = lab.auth_key(&["--reusable"]);
    let _web = lab.up("web");
    let (up, _) = lab.up_command("person", KeyBy::File(&key));
    let seen = session(
        &up,
        &[
            Step::Sees("enrolled as person.home"),
            Step::Sees("connected to relay relay-"),
            Step::Sees("1 peer online"),
            Step::Sees("overlan is up: person.home."),
            Step::Types("\u{3}"),
        ],
    );
    assert_eq!(seen.code, 0, "{seen:#?}");
    let script = lab.up_by("script", KeyBy::File(&key), &[]);
    let told = script.program.output();
    assert!(!told.contains("enrolled as"), "{told}");
}

#[test]
fn errors_name_the_place_and_the_next_command() {
    let lab = Lab::start();
    let web = lab.up("web");
    let offered = web.run(&["serve", "route", "10.1.0.0/16"]);
    let approve = "overlan admin route approve web 10.1.0.0/16";
    assert!(offered.stderr.contains(approve), "{offered:#?}");
    run(&mut lab.admin_command(&["auth-key", "revoke", "zzzz"]), "")
        .refused(1, &["no such auth key", "overlan admin auth-key list"]);
    run(
        &mut lab.admin_command(&["auth-key", "create", "--network", "staging"]),
        "",
    )
    .refused(1, &["no network \"staging\"", "its networks are home"]);
    run(overlan().args(["man", "--dir", "/nowhere"]), "").refused(1, &["/nowhere", "mkdir -p"]);

    let other = state(&lab.path("other")).map(std::ffi::OsStr::to_owned);
    let refused = |args: &[&str], code: i32, texts: &[&str]| {
        let mut up = overlan();
        up.arg("up").args(args).args(&other);
        run(&mut up, "").refused(code, texts);
    };
    refused(
        &["--socks", "41080", "--dns", "127.0.0.1:41080"],
        2,
        &["--socks and --dns are both 127.0.0.1:41080", "another port"],
    );
    // A port alone is one of this host.
    refused(
        &["--socks", "0", "--dns", "off"],
        4,
        &["no auth key and no login"],
    );

    // A relay's token works once, and there are no others.
    let used = lab.path("relay-1.token");
    let mut relay = overlan();
    relay.args(["relay", "serve", "--server", &lab.controller.join]);
    relay
        .args(["--listen", "127.0.0.1:0", "--token-file"])
        .arg(used);
    let again = run(relay.args(state(&lab.path("again"))), "");
    assert!(again.stderr.contains("make a new one"), "{again:#?}");
    assert!(!again.stderr.contains("reusable"), "{again:#?}");
}
