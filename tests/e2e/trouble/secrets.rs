//! No secret reaches a log, even at the lowest level.

use std::fs;
use std::process::Command;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::Value;

use crate::lab::{DOMAIN, KeyBy, Lab, NETWORK, OWNER, PASSWORD, state};
use crate::process::{installed, overlan, run};
use crate::service::Service;

#[test]
fn logs_hold_no_secrets() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page\n");
    let lab = Lab::start_logging("trace");
    let one_off = lab.auth_key(&[]);
    let reusable = lab.auth_key(&["--reusable"]);
    let (file, socks_password) = (lab.path("socks-password"), "seven small ships");
    fs::write(&file, socks_password).unwrap();
    let credentials = [
        "--socks-user",
        "alice",
        "--socks-password-file",
        file.to_str().unwrap(),
    ];
    // By every way that a key can take, and by one that is refused.
    let web = lab.up_by("web", KeyBy::File(&one_off), &[]);
    let laptop = lab.up_by("laptop", KeyBy::Environment(&reusable), &credentials);
    let (mut refused, stdin) = lab.up_command("refused", KeyBy::Stdin(&one_off));
    let mut logs = vec![("a refused up", run(&mut refused, stdin).stderr)];
    web.serve(80, page.address());
    laptop.sees(&web, true);
    let user = format!("alice:{socks_password}");
    let url = format!("http://web.{NETWORK}.{DOMAIN}/");
    assert_eq!(laptop.curl(&["--proxy-user", &user, &url]).ok(), "a page");
    assert_eq!(
        laptop
            .curl(&["--proxy-user", "alice:wrong-guess-9", &url])
            .code,
        Some(97)
    );

    let setup_token = lab.controller.program.output();
    let setup_token = setup_token
        .lines()
        .find_map(|line| line.strip_prefix("setup token: "))
        .unwrap();
    let trace = |command: &mut Command, stdin: &str| run(command.args(["--log", "trace"]), stdin);
    // These write secrets to standard output, where they belong; the log is the other stream.
    let init = trace(
        overlan()
            .args([
                "controller",
                "init",
                "--organisation",
                "Again",
                "--email",
                OWNER,
            ])
            .args(["--setup-token-file", "-", "--password-stdin", "--server"])
            .arg(&lab.controller.join)
            .args(state(&lab.path("again"))),
        &format!("{setup_token}\n{PASSWORD}\n"),
    );
    init.refused(1, &["overlan login"]);
    let login = |password: &str| {
        trace(
            overlan()
                .args(["login", "--password-stdin", "--email", OWNER, "--server"])
                .arg(&lab.controller.join)
                .args(state(&lab.path("person"))),
            &format!("{password}\n"),
        )
    };
    let (wrong, right) = (login("wrong horse battery staple"), login(PASSWORD));
    assert_eq!((wrong.code, right.code), (Some(4), Some(0)));
    let admin = |args: &[&str]| {
        let person = lab.path("person");
        trace(overlan().arg("admin").args(args).args(state(&person)), "")
    };
    let key = admin(&["auth-key", "create"]);
    let token = admin(&["relay-token", "create", "relay-3"]);
    let session = fs::read_to_string(lab.path("person").join("session.json")).unwrap();
    let status = trace(overlan().arg("status").args(state(&lab.path("laptop"))), "");
    for (what, outcome) in [
        ("init", &init),
        ("a wrong login", &wrong),
        ("login", &right),
        ("auth-key create", &key),
        ("relay-token create", &token),
        ("status", &status),
    ] {
        logs.push((what, outcome.stderr.clone()));
    }
    let programs = [
        ("web", &web.program),
        ("laptop", &laptop.program),
        ("relay-1", &lab.relays[0].program),
        ("relay-2", &lab.relays[1].program),
        ("controller", &lab.controller.program),
    ];
    for (what, program) in programs {
        let output = program.output();
        // A relay has nothing to say below the default level.
        let below_default = [" INFO ", " DEBUG "];
        let detailed =
            what.starts_with("relay") || below_default.iter().any(|level| output.contains(level));
        assert!(detailed, "the filter had no effect on {what}:\n{output}");
        // Its operator must get it from somewhere, once.
        let told = format!("setup token: {setup_token}\n");
        logs.push((what, output.replacen(&told, "", 1)));
    }

    let mut secrets = vec![
        ("the setup token", setup_token.to_owned()),
        ("a password", PASSWORD.to_owned()),
        ("a wrong password", "wrong horse battery staple".to_owned()),
        ("the SOCKS password", socks_password.to_owned()),
        ("a wrong SOCKS password", "wrong-guess-9".to_owned()),
        ("a one-off key", one_off),
        ("a reusable key", reusable),
        ("another key", key.ok()),
        ("another relay token", token.ok()),
        ("a session", text(&session, "/value/login/session")),
    ];
    secrets.extend(stored(&lab));
    for (what, secret) in &secrets {
        assert!(secret.len() >= 13, "{what} is too short to look for");
        // What has parts is secret in its last one.
        let last = secret.rsplit('_').next().unwrap();
        let last = if last.len() >= 13 { last } else { secret };
        for (log, output) in &logs {
            if let Some(line) = output.lines().find(|line| line.contains(last)) {
                panic!("{what} is in the log of {log}: {line}");
            }
        }
    }
}

/// Secrets in the files of every program, each in the forms in which a log might show it.
fn stored(lab: &Lab) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read(lab.path(path)).unwrap();
    let words = |path: &str| String::from_utf8(read(path)).unwrap();
    let mut secrets = Vec::new();
    for device in ["web", "laptop"] {
        let device = words(&format!("{device}/device.json"));
        for name in ["identity_secret", "tunnel_secret"] {
            let secret = text(&device, &format!("/value/{name}"));
            let bytes = BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap();
            secrets.extend(forms("a device's private key", &bytes));
        }
    }
    for relay in ["relay-1", "relay-2"] {
        secrets.extend(forms(
            "a relay's identity",
            &read(&format!("{relay}/identity.key")),
        ));
        let pem = words(&format!("{relay}/tls.key"));
        let line = pem.lines().nth(1).unwrap();
        secrets.push(("a relay's TLS key", line.to_owned()));
        secrets.push(("a relay token", words(&format!("{relay}.token"))));
    }
    for file in ["ca", "server"] {
        let key = text(&words(&format!("controller/{file}.json")), "/private_key");
        let bytes = BASE64.decode(key.as_bytes()).unwrap();
        secrets.extend(forms("a TLS key of the controller", &bytes));
    }
    let seed = text(&words("controller/ticket-key.json"), "/seed");
    let bytes = BASE64URL_NOPAD.decode(seed.as_bytes()).unwrap();
    secrets.extend(forms("the ticket key", &bytes));
    let owner = words("owner/session.json");
    secrets.push(("the owner's session", text(&owner, "/value/login/session")));
    secrets
}

fn forms(what: &'static str, bytes: &[u8]) -> [(&'static str, String); 4] {
    let debug = format!("{bytes:?}");
    [
        (what, BASE64URL_NOPAD.encode(bytes)),
        (what, BASE64.encode(bytes).trim_end_matches('=').to_owned()),
        (what, HEXLOWER.encode(bytes)),
        (what, debug.trim_matches(['[', ']']).to_owned()),
    ]
}

/// The string at `pointer` in a JSON document.
#[track_caller]
fn text(document: &str, pointer: &str) -> String {
    let document: Value = serde_json::from_str(document).unwrap();
    document
        .pointer(pointer)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}
