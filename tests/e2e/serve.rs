//! `serve`: services on Unix sockets and on other hosts, and how they learn who asks.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::process::{LONGEST, Program, command, installed, run, until};
use crate::service::Service;

#[test]
fn services_on_unix_sockets_and_on_named_hosts_are_published_and_stay() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    let path = lab.path("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let app = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\napp";
            stream.write_all(answer).unwrap();
        }
    });
    let path_text = path.to_str().unwrap();
    web.run(&["serve", "unix", "80", path_text]).ok();
    let named = format!("localhost:{}", page.address().port());
    web.run(&["serve", "tcp", "81", &named]).ok();
    web.run(&["serve", "tcp", "82", "no-such-host.invalid:80"])
        .ok();

    let url = |port: u16| format!("http://web.home.{DOMAIN}:{port}/");
    assert_eq!(laptop.curl(&[&url(80)]).ok(), "app");
    assert_eq!(laptop.curl(&[&url(81)]).ok(), "a page of web");
    // A host that nobody knows is a true refusal: SOCKS reply 5.
    let refused = laptop.curl(&[&url(82)]);
    assert_eq!(refused.code, Some(97), "{}", refused.stderr);
    let listed = web.run(&["serve", "list"]).ok();
    for target in [format!("unix:{path_text}"), named] {
        assert!(listed.contains(&target), "{listed}");
    }

    assert!(web.program.stop().success());
    let web = lab.up_by("web", KeyBy::Nothing, &[]);
    laptop.sees(&web, true);
    assert_eq!(laptop.curl(&[&url(80)]).ok(), "app");
    app.join().unwrap();
    drop(fs::remove_file(&path));
    assert_eq!(laptop.curl(&[&url(80)]).code, Some(97), "nobody listens");

    web.run(&["serve", "unix", "90", "app.sock"])
        .refused(2, &["begins with /"]);
    web.run(&["serve", "tcp", "90", "unix:x"])
        .refused(2, &["begins with /"]);
}

#[test]
fn haproxy_learns_by_the_proxy_protocol_who_asks() {
    if !installed(&["curl", "haproxy"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let path = lab.path("haproxy.sock");
    let config = lab.path("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n timeout client 30s\n timeout server 30s\n timeout connect 5s\n\
         frontend overlay\n bind unix@{} accept-proxy\n \
         http-request return status 200 content-type text/plain \
         lf-string \"%[src] %[dst] %[dst_port]\"\n",
        path.display()
    );
    fs::write(&config, text).unwrap();
    let mut haproxy = command("haproxy");
    haproxy.arg("-db").arg("-f").arg(&config);
    let _haproxy = Program::start("haproxy", &lab.path(""), &mut haproxy, "");
    until("haproxy's socket", LONGEST, || path.exists().then_some(()));
    let path_text = path.to_str().unwrap();
    web.run(&["serve", "unix", "80", path_text, "--proxy-protocol", "v2"])
        .ok();
    assert!(web.run(&["serve", "list"]).ok().contains("PROXY protocol"));

    let v6 = |device: &crate::lab::Device| device.run(&["ip", "-6"]).ok();
    let by_name = laptop.curl(&[&format!("http://web.home.{DOMAIN}/")]).ok();
    let by_v6 = laptop.curl(&[&format!("http://[{}]/", v6(&web))]).ok();
    assert_eq!(by_v6, format!("{} {} 80", v6(&laptop), v6(&web)));
    let v4 = format!("{} {} 80", laptop.address, web.address);
    assert!([&v4, &by_v6].contains(&&by_name), "{by_name}");
}

#[test]
fn an_http_service_hears_in_each_request_who_asks_and_nobody_can_pretend() {
    if !installed(&["curl", "node"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    // Echoes the head of a request, and keeps the connection.
    let echo = Service::start(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            if head.to_ascii_lowercase().contains("upgrade: websocket") {
                let switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                                  Upgrade: websocket\r\n\r\nwelcome ";
                let _ = stream.write_all(switching);
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                let _ = stream.write_all(line.to_uppercase().as_bytes());
                return;
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    web.run(&["serve", "http", "80", &echo.address().to_string()])
        .ok();
    assert!(web.run(&["serve", "list"]).ok().contains("http"));
    let url = format!("http://web.home.{DOMAIN}/a");
    let lies = [
        "--header",
        "X-Overlan-Name: boss",
        "--header",
        "x-overlan-extra: 1",
        "--header",
        "X-Real-IP: 1.2.3.4",
    ];
    // Two requests over one connection.
    let told = laptop
        .curl(&[&lies[..], &[&url, &url]].concat())
        .ok()
        .to_ascii_lowercase();
    let device = laptop.status()["device"]["id"].as_str().unwrap().to_owned();
    for (field, times) in [
        (format!("x-overlan-name: {}", laptop.name), 2),
        ("x-overlan-label: laptop".to_owned(), 2),
        ("x-overlan-network: home".to_owned(), 2),
        (format!("x-overlan-device: {device}"), 2),
        (format!("x-overlan-address: {}", laptop.address), 2),
        (format!("x-forwarded-for: {}", laptop.address), 2),
        (format!("host: web.home.{DOMAIN}"), 2),
        // The laptop was enrolled by a key, not by a person: the field is there, so that nobody
        // else fills it.
        ("x-overlan-user: \r".to_owned(), 2),
        ("boss".to_owned(), 0),
        ("extra".to_owned(), 0),
        ("1.2.3.4".to_owned(), 0),
    ] {
        assert_eq!(told.matches(&field).count(), times, "{field}\n{told}");
    }
    let upgrade = "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\nhello\n";
    let shouted = run(&mut laptop.command(&["nc", "web", "80"]), upgrade).ok();
    assert!(
        shouted.starts_with("HTTP/1.1 101") && shouted.ends_with("welcome HELLO"),
        "{shouted}"
    );

    // What may not be sent twice has a connection of its own.
    for _ in 0..2 {
        let posted = laptop.curl(&["--data", "x", &url]).ok();
        assert!(posted.starts_with("POST /a HTTP/1.1"), "{posted}");
        assert!(
            posted.contains(&format!("x-overlan-name: {}", laptop.name)),
            "{posted}"
        );
    }

    // Somebody who logged in is named.
    let (mut person, _) = lab.up_command("owner", KeyBy::Nothing);
    let program = Program::start("owner", &lab.path(""), &mut person, "");
    let person = crate::lab::Device::ready(program, &lab.path("owner"));
    person.sees(&web, true);
    let told = person.curl(&[&url]).ok();
    let user = format!("x-overlan-user: {}", crate::lab::OWNER);
    assert!(told.contains(&user), "{told}");
    let whois = web.run(&["whois", "owner"]).ok();
    assert!(whois.contains(crate::lab::OWNER), "{whois}");
    assert!(web.run(&["whois", "laptop"]).ok().contains("auth key"));

    // Where nobody listens it is a refusal, as for every service.
    drop(echo);
    for _ in 0..3 {
        let outcome = laptop.curl(&[&url]);
        assert!(outcome.stderr.contains("(5)"), "{outcome:#?}");
    }
    let log = web.program.output();
    let told = log
        .lines()
        .filter(|line| line.contains("the service is not there: peers are refused"));
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn a_service_is_published_in_the_networks_that_were_named_only() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    lab.admin(&["network", "create", "acme"]);
    let both = || lab.auth_key(&["--network", "home,acme"]);
    let mut web = lab.up_by("web", KeyBy::File(&both()), &[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&both()), &[]);
    laptop.sees(&web, true);
    let target = page.address().to_string();
    web.run(&["serve", "tcp", "80", &target, "--network", "acme"])
        .ok();
    let everywhere = ["serve", "tcp", "81", &target];
    let twice = [&everywhere[..], &["--network", "home", "--network", "acme"]].concat();
    web.run(&twice).ok();
    let listed = web.run(&["serve", "list"]).ok();
    for place in ["(only in acme)", "(only in acme, home)"] {
        assert!(listed.contains(place), "{listed}");
    }
    let answers = |network: &str, port: u16| {
        let outcome = laptop.curl(&[&format!("http://web.{network}.{DOMAIN}:{port}/")]);
        // A port that is not served there looks like any other closed one.
        assert!(matches!(outcome.code, Some(0 | 97)), "{outcome:#?}");
        outcome.code == Some(0)
    };
    let as_wished = || {
        answers("acme", 80) && !answers("home", 80) && answers("acme", 81) && answers("home", 81)
    };
    assert!(as_wished());
    // It is the same after a restart, and a network that is left and joined again has it again.
    assert!(web.program.stop().success());
    let web = lab.up_by("web", KeyBy::Nothing, &[]);
    laptop.sees(&web, true);
    assert!(as_wished());
    assert_eq!(web.status()["serves"][0]["networks"][0], "acme");
    web.run(&["network", "leave", "acme"]).ok();
    assert!(!answers("home", 80) && answers("home", 81));
    web.run(&["network", "join", "acme"]).ok();
    until("web in acme", LONGEST, || answers("acme", 80).then_some(()));

    // Removed and served elsewhere in one breath: the port is never lost.
    for _ in 0..5 {
        web.run(&["serve", "remove", "80"]).ok();
        web.run(&["serve", "tcp", "80", &target]).ok();
        until("port 80 in home", LONGEST, || {
            answers("home", 80).then_some(())
        });
    }
}
