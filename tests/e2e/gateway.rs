//! Private hosts that run nothing of ours, reached through a device beside them. It needs addresses
//! that are not loopback, so the test has a network of its own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;

use crate::forward::forwards;
use crate::full::connection;
use crate::lab::{DOMAIN, Device, KeyBy, Lab};
use crate::namespace::{is_inside, replace};
use crate::process::{LONGEST, command, installed, run, until};
use crate::service::Service;

/// A private network on the loopback device of the namespace.
const ENTER: &str = "ip address add 10.9.0.1/24 dev lo; ip address add fd12::1/64 dev lo nodad";

#[test]
fn a_device_leads_peers_to_private_hosts_and_to_nothing_else() {
    if installed(&["curl"])
        && is_inside(
            "gateway::a_device_leads_peers_to_private_hosts_and_to_nothing_else",
            ENTER,
        )
    {
        inside();
    }
}

#[test]
fn a_gateway_that_drains_lets_nobody_in_and_who_is_in_finish() {
    if installed(&["curl"])
        && is_inside(
            "gateway::a_gateway_that_drains_lets_nobody_in_and_who_is_in_finish",
            ENTER,
        )
    {
        draining();
    }
}

fn draining() {
    let page = Service::http_at("10.9.0.1:8080", "a private page\n");
    let echo = TcpListener::bind("10.9.0.1:8081").unwrap();
    thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        let mut byte = [0];
        while let Ok(1..) = stream.read(&mut byte) {
            stream.write_all(&byte).unwrap();
        }
    });
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let mut web = lab.up_by("web", KeyBy::File(&key), &["--drain", "60"]);
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    for route in ["10.9.0.1:8080", "10.9.0.1:8081"] {
        web.run(&["serve", "route", route]).ok();
        until("the offer", LONGEST, || {
            lab.admin(&["route", "list"]).contains(route).then_some(())
        });
        lab.admin(&["route", "approve", "web", route]);
    }
    let url = "http://10.9.0.1:8080/";
    until("the gateway", LONGEST, || {
        (laptop.curl(&["--max-time", "4", url]).code == Some(0)).then_some(())
    });
    let mut held = until("a connection", LONGEST, || {
        connection(&laptop, "10.9.0.1", 8081)
    });
    let mut echoes = || {
        held.write_all(b"x").unwrap();
        held.read_exact(&mut [0]).unwrap();
    };
    echoes();
    web.program.signal(Signal::TERM);
    until("the drain", LONGEST, || {
        let outcome = laptop.curl(&["--max-time", "4", url]);
        (outcome.code != Some(0)).then_some(())
    });
    echoes();
    drop(held);
    assert!(web.program.ended().success());
    drop(page);
}

/// The hosts are the gateway's own addresses, so each has a route to it alone; the range leads to
/// none of them.
const ROUTES: [&str; 6] = [
    "10.9.0.1:8080",
    "10.9.0.1:9999",
    "10.9.0.0/24",
    "10.77.0.1",
    "fd12::1",
    "*.internal",
];

fn inside() {
    let page = "a private page\n";
    // The third is not offered, the last is what only the gateway itself may see.
    let places = [
        "10.9.0.1:8080",
        "[fd12::1]:8080",
        "10.9.0.1:9090",
        "127.0.0.1:8080",
    ];
    let _hosts = places.map(|place| Service::http_at(place, page));
    let lab = Lab::start();
    let hosts = lab.path("hosts");
    std::fs::write(
        &hosts,
        "127.0.0.1 localhost own.internal\n10.9.0.1 app.internal\n192.168.77.1 rebound.internal\n",
    )
    .unwrap();
    replace("/etc/hosts", &hosts);
    let (laptop, gateway) = lab.pair();
    let page = |url: &str| laptop.curl(&[url]);
    let reply = |url: &str| laptop.socks_reply(url);
    assert_eq!(
        reply("http://10.9.0.1:8080/"),
        "2",
        "nothing leads there yet"
    );

    for route in ROUTES {
        gateway.run(&["serve", "route", route]).ok();
    }
    let listed = gateway.run(&["serve", "list"]).ok();
    assert!(
        listed.contains("route  10.9.0.1:8080  not approved yet"),
        "{listed}"
    );
    until("the offer", LONGEST, || {
        let offered = lab.admin(&["route", "list"]);
        (offered.matches("offered").count() == ROUTES.len()).then_some(())
    });
    assert_eq!(
        reply("http://10.9.0.1:8080/"),
        "2",
        "offered is not approved"
    );
    for route in ROUTES {
        lab.approve_route(&gateway, route);
    }
    laptop.until("all routes", |status| {
        let peer = &status["networks"][0]["peers"][0];
        peer["routes"]
            .as_array()
            .is_some_and(|routes| routes.len() == ROUTES.len())
    });
    gateway.until("its own routes", |status| {
        let routes = status["routes"].as_array().unwrap();
        routes.iter().all(|route| route["approved_in"][0] == "home")
    });

    for url in [
        "http://10.9.0.1:8080/",
        "http://[fd12::1]:8080/",
        "http://app.internal:8080/",
    ] {
        assert_eq!(page(url).ok(), "a private page", "{url}");
    }
    // Names of the network may stand for them.
    lab.admin(&["dns", "add", "app", "CNAME", "app.internal"]);
    lab.admin(&["dns", "add", "intranet", "A", "10.9.0.1"]);
    for label in ["app", "intranet"] {
        let url = format!("http://{label}.home.{DOMAIN}:8080/");
        let reached = until(&url, LONGEST, || {
            Some(page(&url)).filter(|it| it.code == Some(0))
        });
        assert_eq!(reached.ok(), "a private page");
    }
    // By HTTP proxy, by nc and by a forward as well: it is a dial like any other.
    let curl = [
        "--silent",
        "--fail",
        "--proxy",
        &http(&laptop),
        "http://app.internal:8080/",
    ];
    assert_eq!(run(command("curl").args(curl), "").ok(), "a private page");
    let request = "GET / HTTP/1.0\r\n\r\n";
    let answer = run(
        &mut laptop.command(&["nc", "app.internal", "8080"]),
        request,
    )
    .ok();
    assert!(answer.ends_with("a private page"), "{answer}");

    // Each cause is told as it is.
    assert_eq!(reply("http://app.internal:9999/"), "5", "refused there");
    assert_eq!(
        reply("http://nobody.internal:8080/"),
        "4",
        "no such name there"
    );
    assert_eq!(reply("http://10.77.0.1:8080/"), "4", "no way there");
    // A page is there, and the range is approved: but it is the gateway itself, by its LAN address,
    // however that is asked for.
    for url in [
        "http://10.9.0.1:9090/",
        "http://[::ffff:10.9.0.1]:9090/",
        "http://app.internal:9090/",
    ] {
        assert_eq!(reply(url), "2", "{url}");
    }
    assert_eq!(
        reply("http://rebound.internal:8080/"),
        "2",
        "a private address outside of what is approved"
    );
    assert_eq!(reply("http://example.org/"), "2", "another name");
    assert_eq!(
        reply("http://own.internal:8080/"),
        "2",
        "the gateway itself"
    );
    assert_eq!(reply(&format!("http://nobody.home.{DOMAIN}/")), "4");

    // Who asks on its own, past the client, hears the same.
    let table = laptop.run(&["status"]).ok();
    assert!(
        table.contains(&format!("route    10.9.0.1:8080 by {}", gateway.name)),
        "{table}"
    );
    lab.admin(&["route", "reject", "web", "*.internal"]);
    until("the end of the route", LONGEST, || {
        let outcome = page("http://app.internal:8080/");
        outcome.stderr.contains("(2)").then_some(())
    });
    gateway.run(&["serve", "remove", "10.9.0.1:8080"]).ok();
    until("the end of the other", LONGEST, || {
        let outcome = page("http://10.9.0.1:8080/");
        outcome.stderr.contains("(2)").then_some(())
    });
    gateway
        .run(&["serve", "remove", "10.9.0.1:8080"])
        .refused(1, &["does not serve the route"]);
    a_host_has_a_name(&lab, &laptop, &gateway);
    for (args, text) in [
        (&["serve", "host", "app.internal"][..], "as db"),
        (&["serve", "host", "*.internal", "as", "all"], "one host"),
        (&["serve", "host", "app.internal", "as", "a_b"], "hyphens"),
        (&["serve", "route", "0.0.0.0/0"], "at least 8 bits"),
        (&["serve", "route", "169.254.169.254"], "link-local"),
        (&["serve", "route", "a b"], "NAME"),
        (&["serve", "tcp", "1", "80"], "from 2 to 65535"),
    ] {
        gateway.run(args).refused(2, &[text]);
    }
}

fn http(device: &Device) -> String {
    format!("http://{}", device.socks)
}

/// The remaining routes cover none of these hosts. The host is at an address of the gateway's own,
/// which is offered alone.
fn a_host_has_a_name(lab: &Lab, laptop: &Device, gateway: &Device) {
    lab.lead(gateway, "10.9.0.1");
    let route = "app.internal:8080";
    let url = |label: &str| format!("http://{label}.home.{DOMAIN}:8080/");
    gateway.run(&["serve", "host", route, "as", "wiki"]).ok();
    gateway
        .run(&["serve", "host", "10.9.0.1:8080", "--as", "laptop"])
        .ok();
    let listed = gateway.run(&["serve", "list"]).ok();
    assert!(
        listed.contains("app.internal:8080 as wiki  not approved yet"),
        "{listed}"
    );
    until("the offers", LONGEST, || {
        let offered = lab.admin(&["route", "list"]);
        (offered.contains("wiki") && offered.contains("laptop")).then_some(())
    });
    assert_eq!(laptop.curl(&[&url("wiki")]).code, Some(97), "not approved");
    let taken = ["route", "approve", "web", "10.9.0.1:8080"];
    let refused = run(&mut lab.admin_command(&taken), "");
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    assert!(
        refused.stderr.contains("the name of a device"),
        "{refused:#?}"
    );

    lab.admin(&["route", "approve", "web", route]);
    let reached = until("the host by its name", LONGEST, || {
        Some(laptop.curl(&[&url("wiki")])).filter(|it| it.code == Some(0))
    });
    assert_eq!(reached.ok(), "a private page");
    let request = "GET / HTTP/1.0\r\n\r\n";
    let answer = run(&mut laptop.command(&["nc", "wiki", "8080"]), request).ok();
    assert!(answer.ends_with("a private page"), "{answer}");
    let (_forward, here) = forwards(lab, laptop, &["0:wiki:8080"]);
    let curl = [
        "--silent",
        "--fail",
        "--noproxy",
        "*",
        &format!("http://{here}/"),
    ];
    assert_eq!(run(command("curl").args(curl), "").ok(), "a private page");
    let told = laptop
        .run(&["dns", "query", &format!("wiki.home.{DOMAIN}"), "CNAME"])
        .ok();
    assert!(told.contains("app.internal"), "{told}");
    // Only the port that was offered.
    let other = laptop.curl(&[&format!("http://wiki.home.{DOMAIN}:9999/")]);
    assert_eq!(other.code, Some(97), "{other:#?}");
    assert!(other.stderr.contains("(2)"), "{other:#?}");
    let args = ["--silent", "--proxy", &http(laptop), "http://wiki:9999/"];
    let told = run(command("curl").args(args), "").ok();
    let causes = [
        "has no route to port 9999 of app.internal",
        &gateway.name,
        "ports with a route: 8080",
    ];
    for text in causes
        .iter()
        .chain(&["overlan admin route approve web app.internal:9999"])
    {
        assert!(told.contains(text), "{text:?} is missing in {told}");
    }
    for host in ["wiki", "wiki.home", "app.internal"] {
        laptop.run(&["nc", host, "9999"]).refused(1, &causes);
    }
    laptop
        .run(&["ping", "-c", "1", "wiki"])
        .refused(1, &["is reached by gateway", &gateway.name]);

    gateway.run(&["serve", "remove", route]).ok();
    gateway.run(&["serve", "remove", "10.9.0.1:8080"]).ok();
    until("no such name", LONGEST, || {
        let outcome = laptop.curl(&[&url("wiki")]);
        outcome.stderr.contains("(4)").then_some(())
    });
}

#[test]
fn of_two_gateways_the_one_that_is_there_is_used_at_once_after_a_restart() {
    if installed(&["curl"])
        && is_inside(
            "gateway::of_two_gateways_the_one_that_is_there_is_used_at_once_after_a_restart",
            ENTER,
        )
    {
        two_gateways();
    }
}

fn two_gateways() {
    let _host = Service::http_at("10.9.0.1:8080", "a private page\n");
    let mut lab = Lab::start();
    let (mut laptop, mut web) = lab.pair();
    let mut db = lab.up("db");
    let route = "10.9.0.1:8080";
    for (label, gateway) in [("web", &web), ("db", &db)] {
        gateway.run(&["serve", "route", route]).ok();
        until("the offer", LONGEST, || {
            let approve = ["route", "approve", label, route];
            let approved = run(&mut lab.admin_command(&approve), "");
            (approved.code == Some(0)).then_some(())
        });
    }
    let url = format!("http://{route}/");
    let leads = |laptop: &Device, what: &str| {
        let began = tokio::time::Instant::now();
        assert_eq!(laptop.curl(&[&url]).ok(), "a private page", "{what}");
        let took = began.elapsed();
        eprintln!("{what}: {took:?}");
        assert!(took < std::time::Duration::from_secs(5), "{what}: {took:?}");
    };
    laptop.until("both routes", |status| {
        let peers = status["networks"][0]["peers"].as_array().unwrap();
        let has_route =
            |peer: &&serde_json::Value| peer["routes"].as_array().is_some_and(|it| !it.is_empty());
        peers.iter().filter(has_route).count() == 2
    });
    leads(&laptop, "both");
    // Whichever would be first in its order is away once; and with it the controller, so that only
    // relays know.
    for label in ["web", "db"] {
        laptop.program.stop();
        let gone = match label {
            "web" => &mut web,
            _ => &mut db,
        };
        gone.program.kill();
        laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
        leads(&laptop, &format!("{label} was killed"));
        laptop.program.stop();
        lab.controller.program.kill();
        laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
        leads(&laptop, &format!("{label} was killed, and nobody says so"));
        lab.restart_controller();
        let back = lab.up_by(label, KeyBy::Nothing, &[]);
        laptop.sees(&back, true);
        match label {
            "web" => web = back,
            _ => db = back,
        }
    }
}
