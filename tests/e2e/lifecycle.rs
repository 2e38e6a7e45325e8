//! The life of a device as its owner sees it: how it joins, what it serves, how it is asked,
//! stopped and removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{DOMAIN, Device, KeyBy, Lab, NETWORK, OWNER, PASSWORD, state};
use crate::process::{LONGEST, Outcome, Program, installed, overlan, run, until};
use crate::service::Service;

mod copied;

mod drain;

mod notify;

mod outage;

#[test]
fn a_device_joins_by_a_key_from_anywhere_or_by_a_login() {
    let lab = Lab::start();
    let reusable = lab.auth_key(&["--reusable", "--note", "build farm"]);
    let ephemeral = lab.auth_key(&["--ephemeral"]);

    let mut by_file = lab.up_by("by-file", KeyBy::File(&reusable), &[]);
    let by_stdin = lab.up_by("by-stdin", KeyBy::Stdin(&reusable), &[]);
    let by_environment = lab.up_by("by-environment", KeyBy::Environment(&ephemeral), &[]);
    let person = lab.path("by-login");
    let login = run(
        overlan()
            .args(["login", "--password-stdin", "--email", OWNER, "--server"])
            .arg(&lab.controller.join)
            .args(state(&person)),
        &format!("{PASSWORD}\n"),
    );
    assert!(
        login.stderr.contains("Logged in as owner@acme.example"),
        "{login:#?}"
    );
    login.ok();
    let by_login = lab.up_by("by-login", KeyBy::Nothing, &[]);
    // The same host name, once more: it is written in capitals here only because the state
    // directory needs another name.
    let namesake = lab.up_by("BY-FILE", KeyBy::File(&lab.auth_key(&[])), &[]);
    for (device, label) in [
        (&by_file, "by-file"),
        (&by_stdin, "by-stdin"),
        (&by_environment, "by-environment"),
        (&by_login, "by-login"),
        (&namesake, "by-file-1"),
    ] {
        assert_eq!(device.name, format!("{label}.{NETWORK}.{DOMAIN}"));
    }

    lists_show_what_is_there(&lab, &reusable);

    // A key is over when its owner says so, and devices that it made stay.
    let id = key_id(&reusable);
    lab.admin(&["auth-key", "revoke", id]);
    let listed = lab.admin(&["auth-key", "list"]);
    let row = listed.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(
        row.contains("revoked") && row.contains("build farm"),
        "{row}"
    );
    let (mut late, stdin) = lab.up_command("late", KeyBy::Stdin(&reusable));
    run(&mut late, stdin).refused(4, &[id, "revoked"]);
    by_stdin.sees(&by_file, true);

    // Going down is not leaving: the others see it offline.
    let down = by_file.run(&["down"]);
    assert_eq!((down.code, &*down.stdout), (Some(0), ""), "{down:#?}");
    assert!(by_file.program.ended().success());
    by_stdin.sees(&by_file, false);
    for command in ["down", "status", "ip"] {
        by_file
            .run(&[command])
            .refused(3, &["no `overlan up` runs"]);
    }
}

#[track_caller]
fn lists_show_what_is_there(lab: &Lab, reusable: &str) {
    let list = |args: &[&str], name: &str| -> Vec<Value> {
        let document: Value =
            serde_json::from_str(&lab.admin(&[args, &["--json"]].concat())).unwrap();
        assert_eq!(document["schema_version"], 1, "{document:#}");
        document[name].as_array().unwrap().clone()
    };
    let devices = list(&["devices"], "devices");
    assert_eq!(devices.len(), 5, "{devices:#?}");
    for device in &devices {
        let is_ephemeral = device["label"] == "by-environment";
        assert_eq!(device["ephemeral"], is_ephemeral, "{device:#}");
        assert_eq!(device["networks"][0]["network"], NETWORK, "{device:#}");
        assert_eq!(device["online"], true, "{device:#}");
    }
    let table = lab.admin(&["devices"]);
    let row = table
        .lines()
        .find(|line| line.starts_with("by-environment"));
    assert!(row.unwrap().contains("online, ephemeral"), "{table}");

    let networks = list(&["networks"], "networks");
    assert_eq!(networks.len(), 1, "{networks:#?}");
    assert_eq!(networks[0]["name"], NETWORK);
    assert_eq!(networks[0]["devices"], 5);
    assert_eq!(networks[0]["default"], true);

    let relays = list(&["relays"], "relays");
    let names: Vec<_> = relays.iter().map(|relay| &relay["name"]).collect();
    assert_eq!(names, ["relay-1", "relay-2"]);
    for (relay, started) in relays.iter().zip(&lab.relays) {
        assert_eq!(relay["online"], true, "{relay:#}");
        assert_eq!(relay["addresses"], serde_json::json!([started.address]));
    }

    let keys = list(&["auth-key", "list"], "auth_keys");
    let farm = keys.iter().find(|key| key["note"] == "build farm").unwrap();
    assert_eq!(farm["id"], key_id(reusable));
    assert_eq!(farm["uses"], 2, "by file and by standard input: {farm:#}");
    assert_eq!(farm["reusable"], true);
    assert!(
        !serde_json::to_string(&keys).unwrap().contains(reusable),
        "a list must not hold the key itself"
    );
}

#[test]
fn a_device_publishes_answers_and_is_removed() {
    if !installed(&["curl"]) {
        return;
    }
    let (page, other) = (Service::http("from web\n"), Service::http("from laptop\n"));
    let lab = Lab::start();

    // Served before the first start, so that nothing is missed.
    let before = run(
        overlan()
            .args(["serve", "tcp", "80", &page.address().to_string()])
            .args(state(&lab.path("web"))),
        "",
    );
    assert!(
        before.stderr.contains("this counts from its next start"),
        "{before:#?}"
    );
    before.ok();
    let (laptop, web) = lab.pair();
    laptop.serve(8080, other.address());
    web.sees(&laptop, true);
    assert_eq!(get(&laptop, "web", 80).ok(), "from web");
    assert_eq!(get(&web, "laptop", 8080).ok(), "from laptop");

    serves_come_and_go(&web, &laptop, &page);
    addresses_are_told(&web, &laptop);
    the_status_is_complete(&web, &laptop, &page);

    // The keys are copied and used to log out elsewhere: the program that runs must notice, and
    // stop.
    let id = web.status()["device"]["id"].clone();
    let mut web = web;
    log_out_elsewhere(&lab, "web", "thief-1");
    assert_eq!(web.program.ended().code(), Some(4));
    let output = web.program.output();
    assert!(
        output.contains("Error: the controller removed this device"),
        "{output}"
    );
    gone(&lab, "web");
    laptop.until("web gone", |status| !knows(status, &web.name));
    let (mut again, stdin) = lab.up_command("web", KeyBy::Nothing);
    run(&mut again, stdin).refused(4, &["not enrolled", "--auth-key-file"]);

    // With a key in hand it comes back as a new device; its services are its own affair, and
    // stayed.
    drop(web);
    let reusable = lab.auth_key(&["--reusable"]);
    let mut web = lab.up_by("web", KeyBy::File(&reusable), &[]);
    assert_ne!(web.status()["device"]["id"], id);
    laptop.sees(&web, true);
    assert_eq!(get(&laptop, "web", 80).ok(), "from web");

    // And it does so by itself if it runs from what is stored, as an ephemeral device does after a
    // long sleep.
    assert!(web.program.stop().success());
    drop(web);
    let mut web = lab.up_by("web", KeyBy::File(&reusable), &[]);
    let id = web.status()["device"]["id"].clone();
    log_out_elsewhere(&lab, "web", "thief-2");
    until("web enrolled again", LONGEST, || {
        let status = web.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        (status["state"] == "running" && status["device"]["id"] != id).then_some(())
    });
    laptop.until("the new web", |status| knows(status, &web.name));

    let logout = web.run(&["logout"]);
    assert!(logout.stderr.contains("Logged out"), "{logout:#?}");
    logout.ok();
    assert!(web.program.ended().success());
    gone(&lab, "web");
    laptop.until("web gone", |status| !knows(status, &web.name));
    assert!(!lab.admin(&["devices"]).contains("web"));
    let (mut again, stdin) = lab.up_command("web", KeyBy::Nothing);
    run(&mut again, stdin).refused(4, &["not enrolled"]);
}

#[track_caller]
fn serves_come_and_go(web: &Device, laptop: &Device, page: &Service) {
    let target = page.address().to_string();
    let listed = web.run(&["serve", "list"]).ok();
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["tcp", "80", &target]
    );
    web.run(&["serve", "tcp", "80", "9"])
        .refused(1, &["served from", &target, "overlan serve remove tcp:80"]);
    web.run(&["serve", "tcp", "81", "localhost"])
        .refused(2, &["HOST:PORT"]);
    web.serve(81, page.address());
    let document: Value =
        serde_json::from_str(&web.run(&["serve", "list", "--json"]).ok()).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "schema_version": 1, "routes": [],
            "serves": [
                {"kind": "tcp", "port": 80, "target": target},
                {"kind": "tcp", "port": 81, "target": target},
            ],
        })
    );
    assert_eq!(get(laptop, "web", 81).ok(), "from web");
    web.run(&["serve", "remove", "81"]).ok();
    let refused = get(laptop, "web", 81);
    assert_eq!(refused.code, Some(97), "{refused:#?}");
    assert!(refused.stderr.contains("(5)"), "refused: {refused:#?}");
    web.run(&["serve", "remove", "81"])
        .refused(1, &["nothing is served on overlay port 81"]);
}

#[track_caller]
fn addresses_are_told(web: &Device, laptop: &Device) {
    let own = laptop.run(&["ip"]).ok();
    let [v4, v6] = own.lines().collect::<Vec<_>>()[..] else {
        panic!("not two addresses: {own}");
    };
    assert_eq!(v4, laptop.address);
    assert_eq!(laptop.run(&["ip", "-4"]).ok(), v4);
    assert_eq!(laptop.run(&["ip", "-6"]).ok(), v6);
    for name in ["web", "WEB", &web.name, &format!("{}.", web.name)] {
        assert_eq!(laptop.run(&["ip", "-4", name]).ok(), web.address, "{name}");
    }
    laptop.run(&["ip", "nobody"]).refused(
        1,
        &[
            "no device or record of network home is called \"nobody\"",
            "overlan status",
        ],
    );
}

#[track_caller]
fn the_status_is_complete(web: &Device, laptop: &Device, page: &Service) {
    let status = web.status();
    assert_eq!(status["schema_version"], 1);
    assert_eq!(status["state"], "running");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["domain"], DOMAIN);
    assert_eq!(status["device"]["label"], "web");
    assert_eq!(status["device"]["name"], web.name.as_str());
    assert_eq!(status["device"]["addresses"][0], web.address.as_str());
    assert_eq!(status["socks"], web.socks.to_string());
    assert_eq!(status["dns"], web.dns.to_string());
    assert_eq!(status["control"]["state"], "connected");
    assert!(status["control"]["since"].is_u64(), "{status:#}");
    assert_eq!(
        status["serves"],
        serde_json::json!([{"kind": "tcp", "port": 80, "target": page.address()}])
    );
    let networks = status["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 1, "{status:#}");
    assert_eq!(networks[0]["name"], NETWORK);
    let peer = &networks[0]["peers"][0];
    assert_eq!(peer["name"], laptop.name.as_str());
    assert_eq!(peer["addresses"][0], laptop.address.as_str());
    assert_eq!(peer["online"], true);
    assert_eq!(peer["sessions"], 1, "they spoke with each other: {peer:#}");
    let relays = status["relays"].as_array().unwrap();
    assert_eq!(relays.len(), 2, "{status:#}");
    let home: Vec<_> = relays
        .iter()
        .filter(|relay| relay["home"] == true)
        .collect();
    assert_eq!(home.len(), 1, "{status:#}");
    assert_eq!(home[0]["state"], "connected");
    assert!(home[0]["round_trip_ms"].is_u64(), "{status:#}");
    assert!(
        status["counters"]
            .as_object()
            .is_some_and(|counters| !counters.is_empty()),
        "{status:#}"
    );

    let table = web.run(&["status"]).ok();
    let has = |words: &[&str]| {
        let found = table
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} not in one line of\n{table}");
    };
    has(&[&web.address, &web.name, "this device", "running"]);
    has(&[&laptop.address, &laptop.name, "active", "relay relay-"]);
    has(&["relay", "connected, home"]);
    has(&["control", "connected for"]);
    has(&["socks", &web.socks.to_string()]);
    has(&["dns", &web.dns.to_string()]);
    has(&["serve", "tcp 80 ->", &page.address().to_string()]);
    assert!(!table.contains('#'), "nothing to complain about: {table}");
}

/// Fetches the page that `host` serves on `port`.
#[track_caller]
fn get(from: &Device, host: &str, port: u16) -> Outcome {
    from.curl(&[&format!("http://{host}.{NETWORK}.{DOMAIN}:{port}/")])
}

/// Returns true if a device with this full name is a peer.
fn knows(status: &Value, name: &str) -> bool {
    let networks = status["networks"].as_array().into_iter().flatten();
    networks
        .flat_map(|network| network["peers"].as_array().into_iter().flatten())
        .any(|peer| peer["name"] == name)
}

/// Copies the keys of `device` into the state directory `elsewhere`, and logs out there.
#[track_caller]
fn log_out_elsewhere(lab: &Lab, device: &str, elsewhere: &str) {
    let copy = lab.path(elsewhere);
    fs::create_dir(&copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o700)).unwrap();
    fs::copy(
        lab.path(device).join("device.json"),
        copy.join("device.json"),
    )
    .unwrap();
    run(overlan().arg("logout").args(state(&copy)), "").ok();
}

/// Nothing by which `device` could speak for itself is left.
#[track_caller]
fn gone(lab: &Lab, device: &str) {
    for file in ["device.json", "ticket.json", "netmap.json", "session.json"] {
        let file = lab.path(device).join(file);
        assert!(!file.exists(), "{}", file.display());
    }
}

/// The public part of an auth key, `ovk_<id>_<secret>`.
pub(crate) fn key_id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[test]
fn a_device_is_up_when_every_peer_that_is_there_has_heard_of_it() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("here\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let state_dir = lab.path("new");
    let target = page.address().to_string();
    let mut serve = overlan();
    serve
        .args(["serve", "tcp", "80", &target])
        .args(state(&state_dir));
    run(&mut serve, "").ok();
    // One that the controller takes to be there, and the relays do not: nobody waits for it.
    let mut gone = lab.up("gone");
    laptop.sees(&gone, true);
    gone.program.kill();

    laptop.program.signal(Signal::STOP);
    let key = lab.auth_key(&[]);
    let (mut up, key) = lab.up_command("new", KeyBy::Stdin(&key));
    let program = Program::start("new", &lab.path(""), &mut up, key);
    until("the new device attached", LONGEST, || {
        program
            .output()
            .contains("attached to a relay")
            .then_some(())
    });
    // Some hundred milliseconds, in which web has answered long ago.
    lab.admin(&["devices"]);
    assert!(
        !program.output().contains("overlan is up"),
        "laptop has not heard of it"
    );
    laptop.program.signal(Signal::CONT);
    let device = Device::ready(program, &state_dir);
    let url = format!("http://{}/", device.name);
    for peer in [&laptop, &web] {
        assert_eq!(
            peer.curl(&[&url]).ok(),
            "here",
            "{} at the first attempt",
            peer.name
        );
    }
}
