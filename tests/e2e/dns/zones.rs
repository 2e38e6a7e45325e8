//! Zones that other resolvers answer for: real ones, at a device and reached by a gateway.

use std::fs;

use overlan::{DialError, Node, Secret};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{dig, dnsmasq};
use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::namespace::{is_inside, replace};
use crate::process::{LONGEST, Program, command, installed, run, until};
use crate::service::Service;

#[test]
fn names_of_a_zone_are_asked_of_its_resolvers_by_every_door() {
    let enter = "ip address add 10.9.0.1/24 dev lo; ip address add 10.9.0.53/24 dev lo";
    if !is_inside(
        "dns::zones::names_of_a_zone_are_asked_of_its_resolvers_by_every_door",
        enter,
    ) || !installed(&["curl", "dig", "dnsmasq"])
    {
        return;
    }
    let page = Service::http("a page of web\n");
    let _private = Service::http_at("10.9.0.1:8080", "a private page\n");
    let lab = Lab::start();
    // This host knows one name of the zone, and what listens at that address must never be reached
    // by it.
    let hosts = lab.path("hosts");
    fs::write(&hosts, "127.0.0.1 localhost nobody.corp.example\n").unwrap();
    replace("/etc/hosts", &hosts);
    let _decoy = Service::http_at("127.0.0.1:80", "a page of this host\n");

    let web = lab.up("web");
    let dc = lab.up("dc");
    let key = lab.auth_key(&[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &["--proxy-direct"]);
    laptop.sees(&web, true);
    laptop.sees(&dc, true);
    web.serve(80, page.address());
    let v6 = web.run(&["ip", "-6"]).ok();
    let app = format!("--host-record=app.corp.example,{},{v6}", web.address);
    // A gateway host with a name of ours, of which the zone's resolver knows another
    // address.
    let forged = format!("--host-record=private.home.{DOMAIN},192.0.2.9");
    let private = format!("--cname=private.corp.example,private.home.{DOMAIN}");
    let mut inside = dnsmasq(
        &lab,
        "inside",
        "127.0.0.1",
        &[
            &app,
            "--cname=www.corp.example,app.corp.example",
            "--host-record=far.corp.example,192.0.2.9",
            &forged,
            &private,
            "--host-record=self.corp.example,127.0.0.1",
            "--local=/corp.example/",
        ],
    );
    let behind = [
        "--host-record=db.branch.example,10.9.0.1",
        "--local=/branch.example/",
    ];
    let _behind = dnsmasq(&lab, "behind", "10.9.0.53", &behind);
    dc.serve(53, "127.0.0.1:53".parse().unwrap());
    // The hosts are the gateway's own addresses, so each has a route to it alone.
    for route in ["10.9.0.1", "10.9.0.53"] {
        lab.lead(&web, route);
        laptop.sees_route(route);
    }
    // The first resolver is there and does not answer: the second does.
    let add = [
        "dns",
        "zone",
        "add",
        "corp.example",
        "--resolver",
        "web",
        "--resolver",
    ];
    lab.admin(&[&add[..], &[&dc.name]].concat());
    lab.admin(&[
        "dns",
        "zone",
        "add",
        "branch.example",
        "--resolver",
        "10.9.0.53",
    ]);
    let listed = lab.admin(&["dns", "list"]);
    assert!(listed.contains("by web:53, dc:53"), "{listed}");
    lab.admin(&["dns", "add", "alias", "CNAME", "app.corp.example"]);
    lab.admin(&["dns", "add", "private", "A", "10.9.0.1"]);

    until("the zones", LONGEST, || {
        let zones = laptop.status()["dns_zones"].as_array().map(Vec::len);
        (zones == Some(2)).then_some(())
    });
    // By DNS.
    assert_eq!(dig(&laptop, "app.corp.example", "A"), web.address);
    assert_eq!(dig(&laptop, "app.corp.example", "AAAA"), v6);
    let www = format!("app.corp.example.\n{}", web.address);
    assert_eq!(dig(&laptop, "www.corp.example", "A"), www);
    let alias = format!("alias.home.{DOMAIN}");
    assert_eq!(dig(&laptop, &alias, "A"), www);
    assert_eq!(dig(&laptop, "db.branch.example", "A"), "10.9.0.1");
    // The device with the resolver asks itself, by the same way.
    assert_eq!(dig(&dc, "app.corp.example", "A"), web.address);
    assert_eq!(
        dig(&laptop, "self.corp.example", "A"),
        "",
        "this host is no host there"
    );

    // By every door.
    for host in ["app.corp.example", "www.corp.example", &alias] {
        let page = laptop.curl(&[&format!("http://{host}/")]).ok();
        assert_eq!(page, "a page of web", "{host}");
    }
    let url = "http://db.branch.example:8080/";
    assert_eq!(laptop.curl(&[url]).ok(), "a private page");
    let private = format!("private.home.{DOMAIN}.\n10.9.0.1");
    assert_eq!(dig(&laptop, "private.corp.example", "A"), private);
    let url = "http://private.corp.example:8080/";
    assert_eq!(laptop.curl(&[url]).ok(), "a private page");
    let http = format!("http://{}", laptop.socks);
    let curl = [
        "--silent",
        "--fail",
        "--proxy",
        &http,
        "http://app.corp.example/",
    ];
    assert_eq!(run(command("curl").args(curl), "").ok(), "a page of web");
    let request = "GET / HTTP/1.0\r\n\r\n";
    let answer = run(
        &mut laptop.command(&["nc", "app.corp.example", "80"]),
        request,
    )
    .ok();
    assert!(answer.ends_with("a page of web"), "{answer}");
    let mut forward = laptop.command(&["forward", "0:db.branch.example:8080"]);
    let mut forward = Program::start("forward", &lab.path(""), &mut forward, "");
    let line = forward.line("127.0.0.1:");
    let port = line.split(' ').next().unwrap();
    let curl = [
        "--silent",
        "--noproxy",
        "*",
        &format!("http://127.0.0.1:{port}/"),
    ];
    assert_eq!(run(command("curl").args(curl), "").ok(), "a private page");
    let mut exec = laptop.command(&["exec"]);
    exec.args(["--", "curl", "--silent", "http://app.corp.example/"]);
    assert_eq!(run(&mut exec, "").ok(), "a page of web");

    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(a_program_reaches_both(&lab));

    laptop
        .run(&["nc", "--udp", "app.corp.example", "80"])
        .refused(1, &["which other resolvers answer"]);

    // Each cause as it is, and nothing of it from this host.
    assert_eq!(laptop.socks_reply("http://nobody.corp.example/"), "4");
    assert_eq!(laptop.socks_reply("http://far.corp.example/"), "2");
    assert_eq!(laptop.socks_reply("http://self.corp.example/"), "2");
    assert_eq!(laptop.socks_reply("http://app.corp.example:81/"), "5");

    // A person sees who answered.
    let asked = |name: &str| laptop.run(&["dns", "query", name]);
    let known = asked("app.corp.example").ok();
    let rule = "zone corp.example by dc:53 (through the overlay), from the cache";
    assert!(known.contains(rule), "{known}");
    let document = laptop.run(&["dns", "query", "--json", "x.corp.example"]);
    let document: Value = serde_json::from_str(&document.stdout).unwrap();
    assert_eq!(document["query"]["code"], "NXDOMAIN", "{document:#}");
    assert_eq!(document["query"]["cached"], false, "{document:#}");
    assert_eq!(
        document["query"]["rule"]["resolver"], "dc:53",
        "{document:#}"
    );
    let document = laptop.run(&["dns", "status", "--json"]).ok();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        document["zones"][0]["resolvers"][0]["resolver"],
        "10.9.0.53:53"
    );
    assert_eq!(document["zones"][0]["resolvers"][0]["answered"], true);
    assert_eq!(document["forwards"].as_array().map(Vec::len), Some(0));
    let status = laptop.run(&["dns", "status"]).ok();
    for line in [
        "zone     corp.example of network home",
        "by     web:53, did not answer: connection refused",
        "by     dc:53, answered",
        "by     10.9.0.53:53, answered",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }

    // When no resolver is there, what is known is answered, and the rest fails.
    inside.stop();
    assert_eq!(dig(&laptop, "app.corp.example", "A"), web.address);
    assert_eq!(laptop.socks_reply("http://new.corp.example/"), "4");
    let failed = asked("new.corp.example");
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(failed.stderr.contains("SERVFAIL"), "{failed:#?}");
    assert!(
        failed.stdout.contains("failed   dc:53: connection refused"),
        "{failed:#?}"
    );

    // A device that is alone in its network has no zone of it.
    lab.admin(&["dns", "zone", "remove", "branch.example"]);
    until("the end of the zone", LONGEST, || {
        let outcome = run(
            &mut laptop.command(&["dns", "query", "db.branch.example"]),
            "",
        );
        outcome.stdout.contains("REFUSED").then_some(())
    });
    for (resolver, text) in [
        ("nobody", "no device"),
        ("127.0.0.1", "that a gateway may lead to"),
    ] {
        let zone = ["dns", "zone", "add", "x.example", "--resolver", resolver];
        let outcome = run(&mut lab.admin_command(&zone), "");
        assert!(outcome.stderr.contains(text), "{outcome:#?}");
    }
}

/// By the library, in a process of its own.
async fn a_program_reaches_both(lab: &Lab) {
    let key = lab.auth_key(&["--ephemeral"]);
    let node = Node::builder()
        .server(lab.controller.join.parse().unwrap())
        .auth_key(Secret::new(&key))
        .hostname("program")
        .up()
        .await
        .unwrap();
    for (to, page) in [
        ("app.corp.example:80", "a page of web\n"),
        ("db.branch.example:8080", "a private page\n"),
    ] {
        let mut stream = node.dial(to).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(page), "{to}: {answer}");
    }
    let missing = node.dial("nobody.corp.example:80").await.unwrap_err();
    assert_eq!(missing, DialError::UnknownName);
    node.close().await.unwrap();
}
