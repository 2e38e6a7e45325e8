//! `serve`: services on Unix sockets and on other hosts, and how they learn who asks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::process::{LONGEST, Program, command, installed, until};
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
         http-request return status 200 content-type text/plain lf-string \"%[src] %[dst] %[dst_port]\"\n",
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
