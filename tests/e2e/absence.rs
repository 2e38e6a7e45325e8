//! The view of programs, people and commands of a device that is away, leaves, is killed, sleeps or
//! is started again.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests time real programs by the real clock"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, command, installed, until};
use crate::service::Service;

/// A service that sends a line, and then another one every 50 ms for ten seconds, as long as
/// anybody reads.
fn dripping(head: &'static [u8]) -> Service {
    Service::start(move |mut stream: TcpStream| {
        let mut request = [0; 1_024];
        // Whatever it is asked, if it is asked at all.
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let _ = stream.read(&mut request);
        if stream.write_all(head).is_err() {
            return;
        }
        for _ in 0..200 {
            if stream.write_all(&[b'x'; 1_000]).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    })
}

/// Says a word each second, for longer than anybody sleeps here.
fn ticking() -> Service {
    Service::start(|mut stream: TcpStream| {
        for _ in 0..TICKS {
            if stream.write_all(TICK).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_secs(1));
        }
    })
}

const TICK: &[u8] = b"tick\n";
const TICKS: usize = 58;

/// Accepts, reads and says nothing; tells when it has heard something.
fn silent() -> (Service, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let service = Service::start(move |mut stream: TcpStream| {
        let mut buffer = [0; 64];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            // The test may be over.
            let _ = tell.send(());
        }
    });
    (service, told)
}

fn start(command: &mut std::process::Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until something arrived on its standard output, then reads on in a thread; the rest, and
/// whether it ended well, follow.
fn begun(mut child: Child) -> mpsc::Receiver<(usize, Option<i32>)> {
    let mut output = child.stdout.take().unwrap();
    let mut first = [0; 1];
    output.read_exact(&mut first).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut rest = Vec::new();
        let read = output.read_to_end(&mut rest);
        let code = child.wait().unwrap().code();
        let _ = tell.send((read.map_or(0, |_| rest.len() + 1), code));
    });
    told
}

fn presence(device: &Device, label: &str) -> String {
    let status = device.status();
    let networks = status["networks"].as_array().into_iter().flatten();
    let mut peers = networks.flat_map(|network| network["peers"].as_array().into_iter().flatten());
    let peer = peers.find(|peer| peer["label"] == label).unwrap();
    assert_eq!(peer["online"], peer["presence"] == "online");
    peer["presence"].as_str().unwrap().to_owned()
}

#[test]
fn after_a_restart_only_who_is_there_is_online() {
    let mut lab = Lab::start();
    let mut web = lab.up("web");
    let db = lab.up("db");
    let mut laptop = lab.up("laptop");
    web.program.stop();
    laptop.sees(&web, false);

    laptop.program.stop();
    laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
    laptop.until("db", |_| presence(&laptop, "db") == "online");
    assert_eq!(presence(&laptop, "web"), "offline");
    let waited = laptop.run(&["wait", "--for", "peer:web", "--timeout", "1"]);
    waited.refused(7, &["no peer called \"web\" is online"]);
    laptop
        .run(&["wait", "--for", "peer:db", "--timeout", "20"])
        .ok();
    let began = Instant::now();
    let refused = laptop.run(&["nc", "web", "22"]);
    assert_ne!(refused.code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{refused:#?}");

    // Without the controller nobody knows, and nobody says otherwise.
    laptop.program.stop();
    lab.controller.program.kill();
    laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
    assert_eq!(presence(&laptop, "web"), "unknown");
    laptop
        .run(&["wait", "--for", "peer:web", "--timeout", "1"])
        .refused(8, &["the controller is not connected"]);
    // Who answered is there.
    laptop.run(&["ping", "--count", "1", "db"]).ok();
    assert_eq!(presence(&laptop, "db"), "online");
    laptop
        .run(&["wait", "--for", "peer:db", "--timeout", "20"])
        .ok();

    lab.restart_controller();
    laptop.until("web", |_| presence(&laptop, "web") == "offline");
    drop(db);
}

#[test]
fn a_stop_on_either_side_is_an_error_to_programs_that_were_not_done() {
    if !installed(&["curl", "nc"]) {
        return;
    }
    for (who, how) in [
        ("web", "down"),
        ("laptop", "down"),
        ("web", "term"),
        ("laptop", "term"),
    ] {
        let lab = Lab::start();
        let (mut laptop, mut web) = lab.pair();
        let http = dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let plain = dripping(b"hello\n");
        web.serve(80, http.address());
        web.serve(81, plain.address());
        let url = format!("http://{}/", web.name);

        let socks = begun(start(
            command("curl").args(laptop.curl_args(&["--no-buffer", &url])),
        ));
        let own_nc = begun(start(&mut laptop.command(&["nc", "web", "81"])));
        let began = Instant::now();
        let device = match who {
            "web" => &mut web,
            _ => &mut laptop,
        };
        match how {
            "down" => drop(device.run(&["down"]).ok()),
            _ => drop(device.program.stop()),
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{who} {how}");
        for (what, told) in [("curl", socks), ("overlan nc", own_nc)] {
            let (bytes, code) = told
                .recv_timeout(Duration::from_secs(5))
                .unwrap_or_else(|_| panic!("{what} still waits: {who} {how}"));
            assert!(bytes < 200_000, "{what} {who} {how}: {bytes}");
            assert_ne!(
                code,
                Some(0),
                "{what} took {bytes} bytes for all: {who} {how}"
            );
        }
    }
}

#[test]
fn a_stop_lets_answers_under_way_finish_and_is_told_to_peers() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    let slow = Service::start(|mut stream: TcpStream| {
        let mut request = [0; 1_024];
        let _ = stream.read(&mut request);
        thread::park_timeout(Duration::from_secs(1));
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole");
    });
    web.serve(80, slow.address());
    let url = format!("http://{}/", web.name);
    let answer = begun(start(command("curl").args(laptop.curl_args(&[&url]))));
    // It waits for its answer now: `begun` returned with the first byte, so the stop comes from a
    // second one that does not.
    let (bytes, code) = answer.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((bytes, code), (5, Some(0)));

    let mut waiting = command("curl");
    let waiting = start(waiting.args(laptop.curl_args(&[&url])));
    web.until("the request", |status| {
        status["counters"]["flows"].as_u64() > Some(0)
    });
    web.program.stop();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "whole");
    // Told, not found out: it took some seconds until the controller noticed, and 30 until a dial
    // gave up.
    let began = Instant::now();
    assert_eq!(laptop.socks_reply(&url), "4");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(presence(&laptop, "web"), "offline");
}

/// A web server that answers each request of a connection and never closes it.
fn keeping() -> Service {
    Service::start(|mut stream: TcpStream| {
        let mut request = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|count| count > 0) {
            request.push(byte[0]);
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        }
    })
}

/// Asks for `url` and reads what comes, up to the end of a body of five bytes, the end or a
/// refusal.
fn ask(stream: &mut TcpStream, url: &str, host: &str) -> std::io::Result<String> {
    write!(stream, "GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let (mut heard, mut buffer) = (String::new(), [0; 4_096]);
    while !heard.ends_with("whole") && !heard.starts_with("HTTP/1.1 5") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(heard)
}

#[test]
fn a_stop_without_time_to_finish_is_heard_by_who_keeps_its_connection() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let mut web = lab.up_by("web", KeyBy::File(&key), &["--drain", "0"]);
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    let page = keeping();
    web.serve(80, page.address());
    let connect = || {
        let stream = TcpStream::connect(laptop.socks).unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        stream
    };
    // By the HTTP proxy, and by a tunnel of it.
    let url = format!("http://{}/", web.name);
    let mut proxied = connect();
    let answer = ask(&mut proxied, &url, &web.name).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut tunnel = connect();
    write!(
        tunnel,
        "CONNECT {0}:80 HTTP/1.1\r\nHost: {0}:80\r\n\r\n",
        web.name
    )
    .unwrap();
    let mut reply = [0; 4_096];
    let count = tunnel.read(&mut reply).unwrap();
    assert!(reply[..count].starts_with(b"HTTP/1.1 200"));
    let answer = ask(&mut tunnel, "/", &web.name).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let began = Instant::now();
    assert!(web.program.stop().success());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    // Nobody ended the tunnel in order, and nothing is on its way.
    let error = tunnel.read(&mut reply).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    match ask(&mut proxied, &url, &web.name) {
        Ok(answer) => assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 5"),
            "{answer}"
        ),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn whoever_only_waits_hears_of_a_restart_and_a_sleeper_keeps_its_connections() {
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    let ((quiet, heard), busy) = (silent(), ticking());
    web.serve(80, quiet.address());
    web.serve(81, busy.address());

    // Asleep for longer than links and the controller wait, while the other side goes on talking:
    // that is what goes unanswered.
    let mut nc = start(&mut laptop.command(&["nc", "web", "81"]));
    let mut first = [0; 5];
    nc.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    laptop.program.signal(Signal::STOP);
    thread::park_timeout(Duration::from_secs(55));
    laptop.program.signal(Signal::CONT);
    let output = nc.wait_with_output().unwrap();
    assert_eq!(output.stdout.len(), (TICKS - 1) * TICK.len());
    assert!(output.status.success());

    let mut nc = start(&mut laptop.command(&["nc", "web", "80"]));
    nc.stdin.as_mut().unwrap().write_all(b"anything").unwrap();
    heard.recv_timeout(LONGEST).expect("it is heard");
    // What is acknowledged is not repeated, so nothing asks by itself whether the other end is
    // there.
    laptop.run(&["ping", "--count", "1", "web"]).ok();
    web.program.kill();
    web = lab.up_by("web", KeyBy::Nothing, &[]);
    let ended = until("the end of nc", Duration::from_secs(70), || {
        nc.try_wait().unwrap()
    });
    assert!(!ended.success());
    drop(web);
}
