//! The documents of `--json` and the exit codes, which scripts rely on: each command is run, in
//! order and where it fails.

mod fields;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::{DOMAIN, Device, KeyBy, Lab, OWNER, PASSWORD, state};
use crate::oidc::issuer::{Issuer, now};
use crate::process::{Outcome, Program, overlan, run};
use crate::service::Service;

use self::fields::Fields;

/// The lists of the page, which documents are held against.
struct Page {
    lists: BTreeMap<String, Fields>,
    wrong: Vec<String>,
}

impl Page {
    fn new() -> Self {
        Self {
            lists: fields::lists(),
            wrong: Vec::new(),
        }
    }

    /// Holds a document against the list `name`.
    #[track_caller]
    fn holds(&mut self, name: &str, text: &str) -> Value {
        let document: Value = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("{name} is no document: {error}\n{text}"));
        assert_eq!(document["schema_version"], 1, "{name}: {document}");
        let list = self.lists.get_mut(name);
        let list = list.unwrap_or_else(|| panic!("no list is called {name}"));
        for wrong in list.judge(&document) {
            self.wrong.push(format!("{name}: {wrong}"));
        }
        document
    }

    /// That all was as the page says, and everything on the page was seen but for `never`.
    #[track_caller]
    fn ends(mut self, never: &[&str]) {
        for (name, list) in &self.lists {
            for path in list.unseen() {
                let path = format!("{name}: {path}");
                if !never.contains(&path.as_str()) {
                    self.wrong.push(format!("{path} was never seen"));
                }
            }
        }
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// A failure told as a document, which has this exit code.
#[track_caller]
fn failed(page: &mut Page, outcome: &Outcome, code: i32) -> Value {
    assert_eq!(outcome.code, Some(code), "{outcome:#?}");
    let line = outcome.stderr.lines().next_back().unwrap_or_default();
    let document = page.holds("error", line);
    assert_eq!(document["error"]["code"], code, "{document}");
    document
}

#[test]
fn every_document_has_the_fields_that_its_page_lists() {
    let mut page = Page::new();
    let mut lab = Lab::start();
    let web = lab.up("web");
    let key = lab.auth_key(&["--reusable"]);
    // Nobody answers at the forward's end.
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = ["--memory", "64M", "--dns-forward", &nobody.to_string()];
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &settings);
    laptop.sees(&web, true);
    let service = Service::http("a page\n");
    let target = service.address().to_string();
    web.serve(80, service.address());
    laptop
        .run(&["serve", "tcp", "80", &target, "--proxy-protocol", "v2"])
        .ok();
    let in_home = [
        "serve",
        "http",
        "443",
        &target,
        "--tls",
        "--idle-timeout",
        "10m",
        "--network",
        "home",
    ];
    laptop.run(&in_home).ok();
    laptop.run(&["serve", "route", "10.1.0.0/16"]).ok();
    laptop
        .run(&["serve", "host", "10.3.0.1:5432", "as", "vault"])
        .ok();
    web.run(&["serve", "route", "10.2.0.0/16"]).ok();
    // A person enrols by a login, which the page tells apart.
    let mut login = overlan();
    login.args(["login", "--password-stdin", "--email", OWNER, "--server"]);
    login
        .arg(&lab.controller.join)
        .args(state(&lab.path("desk")));
    run(&mut login, &format!("{PASSWORD}\n")).ok();
    let desk = lab.up_by("desk", KeyBy::Nothing, &[]);
    laptop.sees(&desk, true);

    // One more waits for its approval.
    let waiting = lab.auth_key(&["--approval"]);
    let (mut guest, _) = lab.up_command("guest", KeyBy::File(&waiting));
    assert_eq!(run(guest.args(["--timeout", "1"]), "").code, Some(5));

    // What the owner of the network sees.
    let limits = ["--max-uses", "5", "--from", "127.0.0.0/8"];
    let more = ["--ephemeral-for", "1h", "--tag", "ci", "--json"];
    let made = lab.admin(&[&["auth-key", "create"][..], &limits, &more].concat());
    page.holds("admin auth-key create", &made);
    page.holds(
        "admin relay-token create",
        &lab.admin(&["relay-token", "create", "relay-9", "--json"]),
    );
    tokens(&mut page, &lab);
    for (gateway, route) in [
        (&laptop, "10.1.0.0/16"),
        (&laptop, "10.3.0.1/32:5432"),
        (&web, "10.2.0.0/16"),
    ] {
        lab.approve_route(gateway, route);
    }
    lab.admin(&["dns", "add", "db", "CNAME", &web.name]);
    lab.admin(&["dns", "zone", "add", "corp.internal"]);
    lab.admin(&["dns", "zone", "add", "split.internal", "--resolver", "web"]);
    lab.admin(&["network", "create", "acme"]);
    lab.admin(&["network", "add", "acme", "laptop"]);
    laptop.until("acme", |status| {
        status["networks"].as_array().unwrap().len() == 2
    });
    devices(&mut page, &lab);
    for name in [
        "auth-key list",
        "device list",
        "network list",
        "relay list",
        "route list",
        "dns list",
    ] {
        let words: Vec<&str> = name.split(' ').chain(["--json"]).collect();
        page.holds(&format!("admin {name}"), &lab.admin(&words));
    }

    people(&mut page, &lab);
    identity_provider(&mut page, &lab);
    keys(&mut page, &lab);

    // What a device tells.
    let json = |args: &[&str]| laptop.run(&[args, &["--json"]].concat()).ok();
    laptop.until("routes and records have come", |status| {
        let networks = status["networks"].as_array().unwrap().iter();
        let mut peers = networks.flat_map(|network| network["peers"].as_array().unwrap());
        let routes = peers.any(|peer| peer["routes"][0].is_string());
        let zones = status["dns_zones"].as_array().unwrap();
        let certified = status["certificates"]["expires"].is_number();
        routes && certified && zones.len() == 2 && status["routes"][0]["approved_in"][0] == "home"
    });
    page.holds("ping", &json(&["ping", "-c", "1", "web"]));
    page.holds("whois", &json(&["whois", "web"]));
    page.holds("whois", &json(&["whois", "desk"]));
    page.holds("status", &json(&["status"]));
    page.holds("ip", &json(&["ip"]));
    page.holds("netcheck", &json(&["netcheck"]));
    page.holds("serve list", &json(&["serve", "list"]));
    page.holds("network list", &json(&["network", "list"]));
    let [nothing, split, outside] =
        ["nothing.corp.internal", "a.split.internal", "example.com"].map(str::to_owned);
    let record = format!("db.home.{DOMAIN}");
    for name in [
        &web.name,
        &record,
        &"192.0.2.1.in-addr.arpa".to_owned(),
        &nothing,
        &split,
        &outside,
    ] {
        let outcome = laptop.run(&["dns", "query", name, "--json"]);
        page.holds("dns query", &outcome.stdout);
        match outcome.code {
            Some(0) => {}
            Some(code) => drop(failed(&mut page, &outcome, code)),
            None => panic!("{outcome:#?}"),
        }
    }
    page.holds("dns status", &json(&["dns", "status"]));
    page.holds("status", &json(&["status"]));
    let mut bugreport = laptop.command(&["bugreport", "--output", "-"]);
    bugreport.env("OVERLAN_LOG", "warn");
    page.holds("bugreport", &run(&mut bugreport, "").ok());
    let file = lab.path("overlan.toml");
    fs::write(&file, "[up]\nhostname = \"x\"\n").unwrap();
    let mut config = overlan();
    config
        .args(["config", "show", "--json", "--config"])
        .arg(&file);
    page.holds("config show", &run(&mut config, "").ok());
    perf(&mut page, &lab, &web, &laptop);
    forward(&mut page, &lab, &laptop);

    // Starts and fails as a document.
    let mut solo = overlan();
    solo.args([
        "up",
        "--json",
        "--state-dir",
        "mem:",
        "--server",
        &lab.controller.join,
    ]);
    solo.args(["--hostname", "solo", "--auth-key-file", "-"]);
    solo.args(["--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
    let mut solo = Program::start("solo", &lab.path("."), &mut solo, &key);
    let line = format!("{{{}", solo.line("{"));
    let ready = page.holds("up", &line);
    assert_eq!(ready["device"]["label"], "solo", "{ready}");
    assert!(solo.stop().success());
    failed(&mut page, &laptop.run(&["ping", "--json", "nobody"]), 1);
    failed(&mut page, &laptop.run(&["status", "--jsn", "--json"]), 2);
    let nowhere = laptop.run(&["ip", "nobody", "--json"]);
    let told = failed(&mut page, &nowhere, 1);
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("nobody")
    );

    // And where something is away.
    lab.relays[0].program.kill();
    lab.relays[1].program.kill();
    lab.controller.program.kill();
    laptop.until("errors", |status| {
        let relays = status["relays"].as_array().unwrap();
        let errors = relays.iter().any(|relay| relay["last_error"].is_string());
        errors && status["control"]["last_error"].is_string()
    });
    page.holds("status", &json(&["status"]));
    let netcheck = laptop.run(&["netcheck", "--json"]);
    page.holds("netcheck", &netcheck.stdout);
    failed(&mut page, &netcheck, 9);
    let ping = laptop.run(&["ping", "--json", "-c", "1", "--timeout", "1", "web"]);
    page.holds("ping", &ping.stdout);
    let nothing = lab.path("nothing");
    let mut bugreport = overlan();
    bugreport
        .args(["bugreport", "--output", "-"])
        .args(state(&nothing));
    page.holds("bugreport", &run(&mut bugreport, "").ok());
    // The first needs a proxy, see `upstream`, another a resolver, see `dns`, some a full door, see
    // `full`; one is not measured, no certificate was refused, and no job came, see `oidc`.
    page.ends(&[
        "admin trust-rule create: trust_rule.last_used?",
        "admin trust-rule list: trust_rules[].last_used?",
        "admin trust-rule show: trust_rule.last_used?",
        "status: upstream_proxy?",
        "netcheck: controller.round_trip_us?",
        "status: certificates?.error?",
        "dns query: query.rule.resolver?",
        "status: full?[].door",
        "status: full?[].connections",
        "status: full?[].lack",
        "status: full?[].seconds",
        // They come with a report, and with the end of a session.
        "admin device list: devices[].round_trip_ms?",
        "admin device list: devices[].last_seen?",
        "admin device show: device.round_trip_ms?",
        "admin device show: device.last_seen?",
        // The ways of devices when a person is removed are seen in `people`.
        "admin person remove: removed.devices_removed[]",
        "admin person remove: removed.devices_handed[]",
        "admin person remove: removed.devices_kept[]",
        "admin person remove: removed.devices_by_keys[]",
        "admin person remove: removed.still_connected[]",
        "admin person remove: removed.applied?.missing?[]",
    ]);
}

/// Changes web, desk and guest, so that lists of devices have all fields, and shows each.
fn devices(page: &mut Page, lab: &Lab) {
    lab.admin(&["device", "tag", "web", "add", "db"]);
    lab.admin(&["device", "expire", "desk", "--in", "30d"]);
    lab.admin(&["device", "disable", "guest"]);
    lab.admin(&["network", "create", "before"]);
    lab.admin(&["network", "rename", "before", "after"]);
    for device in ["web", "desk", "guest"] {
        let shown = lab.admin(&["device", "show", device, "--json"]);
        page.holds("admin device show", &shown);
    }
}

/// An admin comes and goes.
fn people(page: &mut Page, lab: &Lab) {
    let email = "anna@acme.example";
    let invite = ["invitation", "create", email, "--role", "admin", "--json"];
    let invited = page.holds("admin invitation create", &lab.admin(&invite));
    let link = invited["link"].as_str().unwrap();
    let at_hers = state(&lab.path("anna")).map(ToOwned::to_owned);
    let mut login = overlan();
    login.args(["login", "--invitation-file", "-", "--password-stdin"]);
    let stdin = format!("{link}\n{PASSWORD}\n");
    run(login.args(&at_hers), &stdin).ok();
    for words in [
        &["admin", "auth-key", "create", "--reusable"][..],
        &["admin", "relay-token", "create", "relay-8"],
        &["admin", "invitation", "create", "ben@acme.example"],
    ] {
        run(overlan().args(words).args(&at_hers), "").ok();
    }
    for name in ["person list", "invitation list", "organisation show"] {
        let words: Vec<&str> = name.split(' ').chain(["--json"]).collect();
        page.holds(&format!("admin {name}"), &lab.admin(&words));
    }
    let show = ["person", "show", email, "--json"];
    page.holds("admin person show", &lab.admin(&show));
    let mut sessions = overlan();
    sessions.args(["session", "list", "--json"]).args(&at_hers);
    page.holds("session list", &run(&mut sessions, "").ok());
    let remove = ["person", "remove", email, "--json"];
    page.holds("admin person remove", &lab.admin(&remove));
}

/// Tokens of programs, and rules for tokens of jobs.
fn tokens(page: &mut Page, lab: &Lab) {
    let create = [
        "api-token",
        "create",
        "inventory",
        "--scope",
        "devices:read",
        "--json",
    ];
    let made = page.holds("admin api-token create", &lab.admin(&create));
    let file = lab.path("token.txt");
    fs::write(&file, made["api_token"]["token"].as_str().unwrap()).unwrap();
    let mut by_token = lab.admin_command(&["device", "list", "--json"]);
    by_token.arg("--api-token-file").arg(&file);
    run(&mut by_token, "").ok();
    let list = ["api-token", "list", "--json"];
    page.holds("admin api-token list", &lab.admin(&list));

    let issuer = Issuer::start();
    let ca = lab.path("issuer.pem");
    fs::write(&ca, &issuer.ca).unwrap();
    let ca = ca.to_str().unwrap();
    let create = [
        "trust-rule",
        "create",
        "deploy",
        "--issuer",
        &issuer.url,
        "--issuer-ca",
        ca,
    ];
    let claim = [
        "--claim",
        "repository=octo-org/octo-repo",
        "--tag",
        "ci",
        "--json",
    ];
    let made = lab.admin(&[&create[..], &claim].concat());
    page.holds("admin trust-rule create", &made);
    let list = ["trust-rule", "list", "--json"];
    page.holds("admin trust-rule list", &lab.admin(&list));
    let show = ["trust-rule", "show", "deploy", "--json"];
    page.holds("admin trust-rule show", &lab.admin(&show));
    for (repository, code) in [("octo-org/octo-repo", 0), ("octo-org/fork", 6)] {
        let token = issuer.sign(&json!({
            "iss": issuer.url, "aud": format!("https://{}", lab.controller.address),
            "sub": "job", "jti": repository, "repository": repository,
            "nbf": now() - 5, "iat": now(), "exp": now() + 300,
        }));
        let mut test = lab.admin_command(&["trust-rule", "test", "-", "--json"]);
        let judged = run(&mut test, &token);
        page.holds("admin trust-rule test", &judged.stdout);
        assert_eq!(judged.code, Some(code), "{judged:#?}");
    }
}

/// An identity provider, which is not asked for its documents before somebody logs in.
fn identity_provider(page: &mut Page, lab: &Lab) {
    let secret = lab.path("client-secret");
    fs::write(&secret, "a secret of the client\n").unwrap();
    let mut set = lab.admin_command(&["identity-provider", "set"]);
    set.args(["--issuer", "https://id.acme.example", "--client-id", "acme"])
        .args(["--domain", "acme.example", "--client-secret-file"])
        .arg(secret);
    run(&mut set, "").ok();
    let show = lab.admin(&["identity-provider", "show", "--json"]);
    page.holds("admin identity-provider show", &show);
}

/// Both keys of the deployment, replaced.
fn keys(page: &mut Page, lab: &Lab) {
    for key in ["ticket", "ca"] {
        let rotated = lab.admin(&["key", "rotate", key, "--json"]);
        page.holds("admin key rotate", &rotated);
    }
    let list = lab.admin(&["key", "list", "--json"]);
    page.holds("admin key list", &list);
}

fn perf(page: &mut Page, lab: &Lab, web: &Device, laptop: &Device) {
    let mut serve = web.command(&["perf", "--serve"]);
    let mut serve = Program::start("perf", &lab.path("."), &mut serve, "");
    serve.line("peers may measure on overlay port ");
    let args = ["perf", "web", "--both", "--time", "1", "--json"];
    page.holds("perf", &laptop.run(&args).ok());
    serve.signal(Signal::INT);
    assert!(serve.ended().success());
}

fn forward(page: &mut Page, lab: &Lab, laptop: &Device) {
    let mut forward = laptop.command(&["forward", "--json", "0:web:80"]);
    let mut program = Program::start("forward", &lab.path("."), &mut forward, "");
    program.line("}");
    page.holds("forward", &program.output());
    assert!(program.stop().success());
}
