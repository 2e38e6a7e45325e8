//! HTTP through both doors with real servers and clients: who asks, answers that come early,
//! clients that leave, and a browser's script.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;

use crate::lab::{DOMAIN, Device, KeyBy, Lab};
use crate::process::{LONGEST, Owned, Program, command, installed, repository, run, until};
use crate::service::Service;

/// A server of this folder, once it listens, and where.
fn server(lab: &Lab, program: &str, script: &str) -> (Program, SocketAddr) {
    let mut command = command(program);
    command.arg(file(script));
    let mut server = Program::start(script, &lab.path(""), &mut command, "");
    let port = server.line("listens on ").parse().unwrap();
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn file(script: &str) -> PathBuf {
    let folder = repository("tests/e2e/http");
    folder.join(script)
}

/// All that is said to `request`, which the client ends with its side of the connection.
fn say(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

/// The number of connections that a device carries, or has not forgotten.
fn flows(device: &Device) -> u64 {
    device.status()["counters"]["flows"].as_u64().unwrap()
}

#[test]
fn wsgi_and_node_learn_who_asks_from_us_alone() {
    if !installed(&["curl", "node", "python3"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let (_wsgi, wsgi) = server(&lab, "python3", "wsgi.py");
    let (_node, node) = server(&lab, "node", "trailers.js");
    web.run(&["serve", "http", "80", &wsgi.to_string()]).ok();
    web.run(&["serve", "http", "81", &node.to_string()]).ok();
    let url = format!("http://web.home.{DOMAIN}/");
    for lie in [
        "X_Overlan_User: boss",
        "X-Overlan_User: boss",
        "x_overlan-user: boss",
        "X.Overlan.User: boss",
        "X_Overlan_Name: boss",
        "X_Forwarded_For: boss",
        "X-Forwarded-User: boss",
        "Forwarded: for=boss",
        "Proxy: boss",
    ] {
        let told = laptop.curl(&["--header", lie, &url]).ok();
        assert!(!told.contains("boss"), "{lie}: {told}");
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines.contains(&"HTTP_X_OVERLAN_USER="), "{lie}: {told}");
        let name = format!("HTTP_X_OVERLAN_NAME={}", laptop.name);
        assert!(lines.contains(&name.as_str()), "{lie}: {told}");
    }

    // Trailers after a body, in both directions.
    let request = "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close, TE\r\nTE: trailers\r\n\
                   Trailer: X-Overlan-User, X-Sum\r\n\r\n1\r\na\r\n0\r\n\
                   X-Overlan-User: root\r\nX_Overlan_User: root\r\nX-Sum: 1\r\n\r\n";
    let heard = run(&mut laptop.command(&["nc", "web", "81"]), request).ok();
    assert!(heard.contains("{\"x-sum\":\"1\"}"), "{heard}");
    assert!(heard.ends_with("0\r\nX-Sum: 42"), "{heard}");
}

#[test]
fn early_answers_of_pythons_server_arrive_through_both_doors() {
    if !installed(&["curl", "python3"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let (_python, python) = server(&lab, "python3", "early.py");
    web.run(&["serve", "http", "80", &python.to_string()]).ok();
    let body = lab.path("body");
    fs::write(&body, vec![0; 2_000_000]).unwrap();
    let data = format!("@{}", body.display());
    let url = format!("http://web.home.{DOMAIN}/");
    for scheme in ["socks5h", "http"] {
        let proxy = format!("{scheme}://{}", laptop.socks);
        let mut heard = Vec::new();
        for _ in 0..20 {
            let mut curl = command("curl");
            curl.args(["--disable", "-s", "-o", "/dev/null", "-w", "%{http_code}"]);
            curl.args(["--max-time", "30", "-H", "Expect:", "--data-binary", &data]);
            heard.push(run(curl.args(["--proxy", &proxy, &url]), "").stdout);
        }
        assert_eq!(heard, ["501"; 20], "{scheme}");
    }
    // Words of ours on their way to a peer.
    for (header, status) in [
        ("Content-Length: +3".to_owned(), "400"),
        (format!("X: {}", "a".repeat(110_000)), "431"),
    ] {
        for _ in 0..3 {
            let args = [
                "--no-fail",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--header",
                &header,
                "--data",
                "abc",
                &url,
            ];
            assert_eq!(laptop.curl(&args).ok(), status);
        }
    }
}

#[test]
fn clients_that_leave_before_their_answer_hold_no_place() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    // Reads, and says nothing.
    let (asked, asks) = mpsc::channel();
    let silent = Service::start(move |mut stream| {
        let mut some = [0; 1_024];
        while let Ok(1..) = stream.read(&mut some) {
            // The test ends before its last service.
            let _ = asked.send(());
        }
    });
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    web.serve(81, silent.address());
    web.run(&["serve", "http", "82", &silent.address().to_string()])
        .ok();
    let key = lab.auth_key(&[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &["--memory", "64M"]);
    laptop.sees(&web, true);
    let url = format!("http://web.home.{DOMAIN}/");
    assert_eq!(laptop.curl(&[&url]).ok(), "a page of web");
    let (at_laptop, at_web) = (flows(&laptop), flows(&web));
    for port in [81, 82] {
        for _ in 0..1407 {
            let request =
                format!("GET http://web.home.{DOMAIN}:{port}/ HTTP/1.1\r\nHost: web\r\n\r\n");
            let mut stream = TcpStream::connect(laptop.socks).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            // Who leaves earlier is noticed before there is anything to hold.
            asks.recv_timeout(LONGEST).expect("the service is asked");
            drop(stream);
        }
        let next = laptop.curl(&["--max-time", "15", &url]);
        assert_eq!(next.ok(), "a page of web", "port {port}");
        for (device, quiet) in [(&laptop, at_laptop), (&web, at_web)] {
            until(format_args!("{} lets go", device.name), LONGEST, || {
                (flows(device) <= quiet).then_some(())
            });
        }
    }
    // Who only closes its side is served, for as long as it may take.
    let request = format!("GET {url} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(laptop.socks).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("a page of web"), "{heard}");
}

#[test]
fn a_browser_sends_the_overlay_through_the_proxy_and_keeps_its_internet() {
    if !installed(&["curl", "node"]) {
        return;
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let at = laptop.socks;
    let script = run(
        command("curl").args([
            "--disable",
            "-sS",
            "--fail",
            &format!("http://{at}/proxy.pac"),
        ]),
        "",
    )
    .ok();
    let overlay = format!("web.home.{DOMAIN}");
    let hosts = [
        overlay.as_str(),
        DOMAIN,
        "WEB.HOME.OVERLAN.LAN.",
        "100.64.0.1",
        "100.127.255.255",
        "fd3b:7e5c:1a42::7",
        "example.org",
        "notoverlan.lan",
        "100.128.0.1",
        "100.63.255.255",
        "192.168.0.1",
        "127.0.0.1",
        "localhost",
        "printer",
        "fd3b:7e5c:1a43::7",
        "::1",
    ];
    let mut node = command("node");
    node.arg(file("pac.js")).args(hosts);
    let said = run(&mut node, &script).ok();
    let proxied = format!("PROXY {at}");
    for (line, host) in said.lines().zip(hosts) {
        let expected = match hosts.iter().position(|known| *known == host) {
            Some(0..=5) => proxied.as_str(),
            _ => "DIRECT",
        };
        assert_eq!(line, format!("{host} {expected}"));
    }
    assert_eq!(said.lines().count(), hosts.len());
    let rebound = say(
        at,
        &format!(
            "GET /proxy.pac HTTP/1.1\r\nHost: evil.example:{}\r\nConnection: close\r\n\r\n",
            at.port()
        ),
    );
    assert!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
}

#[test]
fn an_orderly_stop_cuts_off_what_it_ends() {
    if !installed(&["curl"]) {
        return;
    }
    // Sends a part, never says how much there is, and waits.
    let drip = Service::start(|mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let _ = stream.write_all(&[b'x'; 5000]);
        let _ = stream.read(&mut head);
    });
    let lab = Lab::start();
    let (mut laptop, mut web) = lab.pair();
    web.run(&["serve", "http", "80", &drip.address().to_string()])
        .ok();
    let url = format!("http://web.home.{DOMAIN}/");
    for stops in ["web", "laptop"] {
        let proxy = format!("http://{}", laptop.socks);
        let parts = ["--http1.0", "--http1.1"].map(|version| {
            let out = lab.path(version);
            drop(fs::remove_file(&out));
            let mut curl = command("curl");
            curl.args(["--disable", "-s", version]);
            curl.args(["--proxy", &proxy, &url, "-o"]);
            let part = Owned::new(curl.arg(&out).spawn().unwrap());
            until("a part", LONGEST, || {
                fs::metadata(&out)
                    .is_ok_and(|part| part.len() > 4000)
                    .then_some(())
            });
            (version, part)
        });
        match stops {
            "web" => web.program.stop(),
            _ => laptop.program.stop(),
        };
        for (version, mut part) in parts {
            // That a device leaves is told: curl has no time limit of its own here.
            let ended = part.ended("curl");
            assert_ne!(ended.code(), Some(0), "{stops} {version}: it looks whole");
        }
        if stops == "web" {
            web = lab.up_by("web", KeyBy::Nothing, &[]);
            laptop.sees(&web, true);
        }
    }
}
