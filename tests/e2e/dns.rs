//! Names: records and private zones of a network, set by its owner, asked for with dig, dialled
//! through the proxy; below, names that others answer, and the resolvers of systems.

mod forwards;

mod libc;

mod system;

mod zones;

use serde_json::Value;

use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{LONGEST, Program, command, installed, run, until};
use crate::service::Service;

#[test]
fn records_and_zones_are_answered_and_dialled_as_soon_as_they_are_set() {
    if !installed(&["curl", "dig"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    let zone = format!("home.{DOMAIN}");
    let service = format!("_http._tcp.{zone}");
    lab.admin(&["dns", "add", "site", "CNAME", &web.name]);
    lab.admin(&["dns", "add", "note", "txt", "two words"]);
    lab.admin(&["dns", "add", &service, "SRV", "1", "2", "80", &web.name]);
    lab.admin(&["dns", "zone", "add", "corp.internal"]);
    lab.admin(&["dns", "add", "www.corp.internal", "A", &web.address]);

    // Devices hear of it by themselves.
    let at_once = |name: &str, kind: &str, wanted: &str| {
        until(format!("{name} {kind}"), LONGEST, || {
            (dig(&laptop, name, kind) == wanted).then_some(())
        });
    };
    at_once("www.corp.internal", "A", &web.address);
    at_once(&format!("note.{zone}"), "TXT", "\"two words\"");
    at_once(&service, "SRV", &format!("1 2 80 {}.", web.name));
    at_once(
        &format!("site.{zone}"),
        "A",
        &format!("{}.\n{}", web.name, web.address),
    );
    for host in [&format!("site.{zone}"), "www.corp.internal"] {
        let page = laptop.curl(&[&format!("http://{host}/")]).ok();
        assert_eq!(page, "a page of web", "{host}");
    }

    let listed: Value = serde_json::from_str(&lab.admin(&["dns", "list", "--json"])).unwrap();
    assert_eq!(listed["schema_version"], 1, "{listed:#}");
    assert_eq!(
        listed["dns"]["records"].as_array().unwrap().len(),
        4,
        "{listed:#}"
    );
    let table = lab.admin(&["dns", "list"]);
    assert!(
        table.contains("www.corp.internal") && table.contains("CNAME"),
        "{table}"
    );

    let asked = laptop.run(&["dns", "query", "www.corp.internal"]).ok();
    assert!(
        asked.contains("a record of network home") && asked.contains(&web.address),
        "{asked}"
    );
    let asked = laptop.run(&["dns", "query", "--json", "example.org"]);
    assert_eq!(asked.code, Some(1), "{}", asked.stderr);
    let document: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!(document["query"]["rule"]["kind"], "outside", "{document:#}");
    laptop
        .run(&["dns", "query", "web", "X9"])
        .refused(1, &["X9", "AAAA"]);
    let status = laptop.run(&["dns", "status"]).ok();
    assert!(
        status.contains(&laptop.dns.to_string()) && status.contains(&zone),
        "{status}"
    );

    lab.admin(&["dns", "remove", "site"]);
    lab.admin(&["dns", "remove", "www.corp.internal", "A", &web.address]);
    lab.admin(&["dns", "zone", "remove", "corp.internal"]);
    at_once(&format!("site.{zone}"), "A", "");
    until("the zone is gone", LONGEST, || {
        let outcome = laptop.curl(&["http://www.corp.internal/"]);
        // Outside the overlay now: SOCKS reply 2.
        outcome.stderr.contains("(2)").then_some(())
    });
}

/// A dnsmasq that asks nobody: what it knows is in `args`. It says what it is asked.
#[track_caller]
fn dnsmasq(lab: &Lab, name: &str, at: &str, args: &[&str]) -> Program {
    let mut dnsmasq = command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--pid-file=",
        // It has one user in its namespace, and stays that.
        "--user=",
        "--group=",
        "--local-ttl=60",
        "--log-facility=-",
        "--log-queries",
    ]);
    dnsmasq.arg(format!("--listen-address={at}")).args(args);
    let program = Program::start(name, &lab.path(""), &mut dnsmasq, "");
    until(format!("the start of {name}"), LONGEST, || {
        program
            .output()
            .contains(": started, version")
            .then_some(())
    });
    program
}

#[track_caller]
fn dig(device: &Device, name: &str, kind: &str) -> String {
    let port = device.dns.port().to_string();
    let args = [
        "@127.0.0.1",
        "-p",
        &port,
        "+short",
        "+tries=1",
        "+timeout=30",
        name,
        kind,
    ];
    run(command("dig").args(args), "").ok()
}

#[test]
fn records_that_cannot_be_are_refused_with_the_reason() {
    let lab = Lab::start();
    let web = lab.up("web");
    for (args, text) in [
        (&["add", "web", "A", "100.64.0.9"][..], "web"),
        (&["add", "x", "A", "no-address"], "address"),
        (&["add", "x", "MX", "1"], "A, AAAA, CNAME"),
        (&["add", "www.example.org", "A", &web.address], "zone"),
        (&["remove", "nothing"], "nothing"),
        (&["list", "--network", "other"], "other"),
    ] {
        let outcome = run(&mut lab.admin_command(&[&["dns"], args].concat()), "");
        assert_ne!(outcome.code, Some(0), "{args:?}");
        assert!(outcome.stderr.contains(text), "{args:?} {}", outcome.stderr);
    }
}
