//! Doors that somebody fills: what others get there meanwhile, and what the device says of itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::doors::associate;
use crate::forward::forwards;
use crate::lab::{Device, KeyBy, Lab};
use crate::process::{
    LONGEST, Outcome, Owned, command, installed, repository, run, skipped, until,
};
use crate::service::Service;

/// Two who are neither we nor root.
const ONE: &str = "65534";
const OTHER: &str = "65533";

/// `program` as another user; `None` if that cannot be had here.
fn as_user(user: &str, program: &str) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can run a program as another user");
        return None;
    }
    if !installed(&["setpriv"]) {
        return None;
    }
    let mut other = command("setpriv");
    other.args(["--reuid", user, "--regid", user, "--clear-groups", program]);
    Some(other)
}

/// Takes connections, reads, and never answers or ends.
fn silent() -> Service {
    Service::start(|mut stream| {
        let mut rest = [0; 64];
        while let Ok(1..) = stream.read(&mut rest) {}
    })
}

/// A program that holds what it gets until this is dropped, and how many connections that is.
struct Flood {
    _program: Owned,
    _input: ChildStdin,
    held: usize,
}

impl Flood {
    fn start(user: &str, how: &str, at: SocketAddr, web: &Device, to: u16) -> Self {
        let script = repository("tests/e2e/full/flood.py");
        let mut flood = as_user(user, PYTHON).unwrap();
        flood.arg("-c").arg(fs::read_to_string(script).unwrap());
        flood.args([how, &at.ip().to_string(), &at.port().to_string(), "600"]);
        flood.args(["ci", "a long password", &web.name, &to.to_string()]);
        let mut child = flood
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let program = Owned::new(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        Self {
            _program: program,
            _input: input,
            held: line.trim().parse().unwrap(),
        }
    }
}

/// Tests for other users, and for their tools.
fn can_flood() -> bool {
    let is_there = Path::new(PYTHON).is_file();
    if !is_there {
        skipped("Python is not installed where every user has it");
    }
    is_there && installed(&["curl"]) && as_user(ONE, PYTHON).is_some()
}

/// One in somebody's home is not for other users.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn one_user_of_a_forward_for_all_leaves_places_for_others() {
    if !can_flood() {
        return;
    }
    let (page, echo) = (Service::http("a page of web\n"), echo());
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    web.serve(81, echo.address());
    let key = lab.auth_key(&[]);
    // For 384 connections.
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &["--memory", "32M"]);
    laptop.sees(&web, true);
    let (_forward, here) = forwards(&lab, &laptop, &["--all-users", "0:web:81"]);
    let flood = Flood::start(ONE, "echoed", here, &web, 81);
    assert!((20..384).contains(&flood.held), "{}", flood.held);
    for _ in 0..5 {
        let mut other = as_user(OTHER, PYTHON).unwrap();
        let ask = "import socket,sys; \
                   s=socket.create_connection((sys.argv[1],int(sys.argv[2])),4); \
                   s.sendall(b'x'); print(s.recv(1))";
        other.args(["-c", ask, &here.ip().to_string(), &here.port().to_string()]);
        assert_eq!(run(&mut other, "").ok(), "b'x'");
    }
}

#[test]
fn one_user_of_a_proxy_with_a_password_leaves_places_for_others() {
    if !can_flood() {
        return;
    }
    let (page, holds) = (Service::http("a page of web\n"), silent());
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    web.serve(81, holds.address());
    let password = lab.path("password");
    fs::write(&password, "a long password\n").unwrap();
    let key = lab.auth_key(&[]);
    // For 384 connections.
    let args = [
        "--memory",
        "32M",
        "--socks-user",
        "ci",
        "--socks-password-file",
        password.to_str().unwrap(),
    ];
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &args);
    laptop.sees(&web, true);
    let other = || -> Outcome {
        let mut curl = as_user(OTHER, "curl").unwrap();
        let proxy = format!("socks5h://ci:a%20long%20password@{}", laptop.socks);
        curl.args(["--disable", "-sS", "--max-time", "4", "--proxy", &proxy]);
        run(curl.arg(format!("http://{}/", web.name)), "")
    };
    assert_eq!(other().ok(), "a page of web", "while nobody is there");
    // Before the password: who says nothing is thrown out after 5 s, and comes again.
    let flood = Flood::start(ONE, "silent", laptop.socks, &web, 81);
    for _ in 0..5 {
        assert_eq!(other().ok(), "a page of web", "before the password");
    }
    drop(flood);
    let flood = Flood::start(ONE, "idle", laptop.socks, &web, 81);
    assert!((20..384).contains(&flood.held), "{}", flood.held);
    for _ in 0..5 {
        assert_eq!(other().ok(), "a page of web", "after the password");
    }
    // Together with others who do the same, and one who says nothing.
    let more = [("idle", "65532"), ("idle", "65531"), ("silent", "65530")];
    let _more = more.map(|(how, user)| Flood::start(user, how, laptop.socks, &web, 81));
    for _ in 0..5 {
        assert_eq!(other().ok(), "a page of web", "beside four");
    }
    let log = laptop.program.output();
    assert!(log.contains("has its share of the connections"), "{log}");
}

/// Asks the proxy of `device` for a connection, and gives it back if there is one within 3 s.
pub(crate) fn connection(device: &Device, name: &str, port: u16) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(device.socks).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).ok()?;
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    (reply[..4] == [5, 0, 5, 0]).then_some(stream)
}

/// Lets a running device open so many files.
fn limit_files(device: &Device, files: u64) {
    let id = i32::try_from(device.program.id())
        .ok()
        .and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(files),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(id, Resource::Nofile, limit);
    before.expect("a child's limits are ours to set");
}

#[test]
fn one_member_leaves_places_of_a_published_port_for_others() {
    if !installed(&["curl"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can raise the limits of a process again");
    }
    let echoes = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let other = lab.up("other");
    other.sees(&web, true);
    // As most systems have it: 448 connections of a port.
    limit_files(&web, 1_024);
    web.serve(80, echoes.address());
    let held: Vec<TcpStream> = std::iter::from_fn(|| connection(&laptop, &web.name, 80))
        .take(500)
        .collect();
    let url = format!("http://{}/", web.name);
    for _ in 0..5 {
        let page = other.curl(&["--max-time", "4", &url]);
        assert_eq!(page.ok(), "a page of web", "{} are held", held.len());
    }
    assert!((10..=112).contains(&held.len()), "{}", held.len());
    drop(held);
    until("the places to come back", LONGEST, || {
        let page = laptop.curl(&["--max-time", "4", &url]);
        (page.code == Some(0)).then_some(())
    });
}

/// Says every byte again.
fn echo() -> Service {
    Service::start(|mut stream| {
        let mut byte = [0];
        while let Ok(1..) = stream.read(&mut byte) {
            if stream.write_all(&byte).is_err() {
                return;
            }
        }
    })
}

#[test]
fn idle_connections_of_a_port_end_where_they_were_given_a_limit() {
    let echo = echo();
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, echo.address());
    let target = echo.address().to_string();
    web.run(&["serve", "tcp", "81", &target, "--idle-timeout", "2"])
        .ok();
    web.run(&["serve", "tcp", "82", &target, "--idle-timeout", "0"])
        .refused(2, &["the least is 1 s"]);
    let listed = web.run(&["serve", "list"]).ok();
    assert!(
        listed.contains("idle connections end after 2 s"),
        "{listed}"
    );
    assert_eq!(web.status()["serves"][1]["idle_timeout"], 2);
    let mut stays = connection(&laptop, &web.name, 80).unwrap();
    let mut ends = connection(&laptop, &web.name, 81).unwrap();
    let mut byte = [0];
    for stream in [&mut stays, &mut ends] {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut byte).unwrap();
    }
    let end = ends.read(&mut byte).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    stays.write_all(b"x").unwrap();
    stays.read_exact(&mut byte).unwrap();
}

#[test]
fn a_device_is_not_ready_while_its_proxy_is_full() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    // For 384 connections.
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &["--memory", "32M"]);
    let check = |what: &str| laptop.run(&["status", "--check", what]);
    check("ready").ok();
    // Refused requests, on connections that wait for the next one for up to a minute.
    let request = b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let mut held: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = TcpStream::connect(laptop.socks).unwrap();
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    let full = until("a full door", LONGEST, || {
        Some(check("ready")).filter(|outcome| outcome.code == Some(10))
    });
    for text in ["the proxy at 127.0.0.1:", "384 connections", "--memory"] {
        assert!(full.stderr.contains(text), "not {text:?}: {full:#?}");
    }
    check("live").ok();
    let status = laptop.status();
    let door = &status["full"][0];
    assert_eq!(door["lack"], "memory", "{status}");
    assert_eq!(door["connections"], 384, "{status}");
    assert!(door["door"].is_string() && door["seconds"].as_u64() >= Some(10));
    assert!(laptop.run(&["status"]).ok().contains("Full: the proxy at"));
    let wait = ["wait", "--for", "ready", "--timeout", "1"];
    laptop.run(&wait).refused(10, &["let nobody in"]);
    held.drain(..50);
    until("a place", LONGEST, || {
        (check("ready").code == Some(0)).then_some(())
    });
    assert!(laptop.status().get("full").is_none());
}

#[test]
fn a_device_without_descriptors_says_so_and_goes_on_when_it_has_some() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can raise the limits of a process again");
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let open = fs::read_dir(format!("/proc/{}/fd", laptop.program.id()));
    // More would be taken by the question for the status.
    limit_files(&laptop, open.unwrap().count() as u64 + 2);
    let request = b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let held: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(laptop.socks).unwrap();
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    until("a line of the log", LONGEST, || {
        let log = laptop.program.output();
        let line = log.lines().find(|line| line.contains("may open no more"))?;
        assert!(
            line.contains("WARN") && line.contains("LimitNOFILE"),
            "{line}"
        );
        Some(())
    });
    limit_files(&laptop, 1_024);
    for mut stream in held {
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 403");
    }
    let lines = laptop.program.output();
    let lines = lines
        .lines()
        .filter(|line| line.contains("may open no more"));
    assert_eq!(lines.count(), 1, "not more than once a minute");
    laptop.run(&["status", "--check", "ready"]).ok();
}

#[test]
fn a_device_that_drains_ends_kept_connections_in_order() {
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let mut web = lab.up_by("web", KeyBy::File(&key), &["--drain", "60"]);
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    let target = page.address().to_string();
    web.run(&["serve", "http", "80", &target]).ok();
    let mut kept = connection(&laptop, &web.name, 80).unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        .unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"a page of web\n") {
        let mut byte = [0];
        kept.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    web.program.signal(Signal::TERM);
    assert_eq!(kept.read(&mut [0; 16]).unwrap(), 0, "the end is in order");
    drop(kept);
    assert!(web.program.ended().success());
}

/// One datagram to `port` of `web` and back through an association; whether an answer comes within
/// `within`.
fn echoed(socket: &UdpSocket, web: &Device, port: u16, within: Duration) -> bool {
    let address: Ipv4Addr = web.address.parse().unwrap();
    let mut datagram = vec![0, 0, 0, 1];
    datagram.extend_from_slice(&address.octets());
    datagram.extend_from_slice(&port.to_be_bytes());
    datagram.extend_from_slice(b"hello");
    socket.send(&datagram).unwrap();
    socket.set_read_timeout(Some(within)).unwrap();
    socket.recv(&mut [0; 64]).is_ok()
}

#[test]
fn a_device_that_drains_takes_no_new_senders_and_answers_those_it_has() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let holds = silent();
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at: SocketAddr = datagrams.local_addr().unwrap();
    let echoing = datagrams.try_clone().unwrap();
    let echo = thread::spawn(move || {
        let mut data = [0; 64];
        while let Ok((len @ 1.., from)) = echoing.recv_from(&mut data) {
            echoing.send_to(&data[..len], from).unwrap();
        }
    });
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let mut web = lab.up_by("web", KeyBy::File(&key), &["--drain", "60"]);
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    web.serve(80, page.address());
    web.serve(81, holds.address());
    web.run(&["serve", "udp", "9", &at.to_string()]).ok();
    // This is what the drain waits for.
    let held = connection(&laptop, &web.name, 81).unwrap();
    let (_control, known) = associate(laptop.socks);
    let (_other_control, new) = associate(laptop.socks);
    until("an echo", LONGEST, || {
        echoed(&known, &web, 9, Duration::from_secs(2)).then_some(())
    });
    web.program.signal(Signal::TERM);
    let url = format!("http://{}/", web.name);
    until("the drain", LONGEST, || {
        (laptop.curl(&["--max-time", "4", &url]).code == Some(97)).then_some(())
    });
    assert!(echoed(&known, &web, 9, LONGEST), "who is known is answered");
    assert!(
        !echoed(&new, &web, 9, Duration::from_secs(1)),
        "a new sender"
    );
    assert!(echoed(&known, &web, 9, LONGEST), "and still");
    drop(held);
    assert!(web.program.ended().success());
    datagrams.send_to(&[], at).unwrap();
    echo.join().unwrap();
}
