//! The ends of connections: what was cut short never looks whole, what was written arrives before a
//! reset, and who is gone holds no place.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;

use crate::forward::forwards;
use crate::lab::{KeyBy, Lab};
use crate::process::{LONGEST, Owned, command, installed, run};
use crate::service::Service;

/// A service that says the first part of an answer without a length, and waits for the end of the
/// connection.
fn half_an_answer() -> Service {
    Service::start(|mut stream| {
        let _answered = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nthe first half");
        let mut rest = [0; 4096];
        while let Ok(1..) = stream.read(&mut rest) {}
        // Half-closed clients are answered by nobody.
        thread::park_timeout(LONGEST);
    })
}

#[test]
fn a_device_that_stops_resets_what_its_doors_cut_short() {
    if !installed(&["curl"]) {
        return;
    }
    let service = half_an_answer();
    let lab = Lab::start();
    let (mut laptop, web) = lab.pair();
    web.serve(80, service.address());
    let (_forward, here) = forwards(&lab, &laptop, &["0:web:80"]);
    let url = format!("http://{}/", web.name);
    let (socks, http) = (
        format!("socks5h://{}", laptop.socks),
        format!("http://{}", laptop.socks),
    );
    let by_forward = format!("http://{here}/");
    let ways: [&[&str]; 4] = [
        &["--proxy", &socks, &url],
        &["--proxy", &http, &url],
        &["--proxy", &http, "--proxytunnel", &url],
        &[&by_forward],
    ];
    let mut clients: Vec<_> = ways
        .iter()
        .map(|way| {
            let mut curl = command("curl");
            curl.args(["--disable", "-sN", "--noproxy", "", "--max-time", "60"]);
            begun(curl.args(*way))
        })
        .collect();
    let mut nc = laptop.command(&["nc", "web", "80"]);
    clients.push(begun(nc.stdin(Stdio::piped())));
    for (_, output) in &mut clients {
        let mut heard = Vec::new();
        while !heard.ends_with(b"the first half") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
    }
    laptop.program.stop();
    for (index, (mut client, _)) in clients.into_iter().enumerate() {
        let status = client.ended("a client");
        assert!(!status.success(), "way {index} took a half for the whole");
    }
}

/// A program, and what it says.
fn begun(program: &mut Command) -> (Owned, ChildStdout) {
    let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    (Owned::new(child), output)
}

#[test]
fn an_answer_that_was_given_before_the_question_was_read_arrives() {
    if !installed(&["curl"]) {
        return;
    }
    // As servers do that refuse an upload: they answer and close, and the kernel resets what is
    // unread. Only who has the one descriptor of a connection closes it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let early = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut answer =
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 48000\r\nConnection: close\r\n\r\n"
                .to_vec();
        // More than goes out in one packet of the overlay, and not more than the kernel takes at
        // once.
        answer.resize(answer.len() + 48_000, b'x');
        for stream in listener.incoming().take(2 * EARLY) {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 64]).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, early);
    let (_forward, here) = forwards(&lab, &laptop, &["0:web:80"]);
    // Under way when the answer comes, or all in the system of the server: then nothing but reading
    // meets its reset.
    let uploads = [("long", 2_000_000), ("short", 1_000)].map(|(name, length)| {
        let file = lab.path(name);
        std::fs::write(&file, vec![0; length]).unwrap();
        format!("@{}", file.display())
    });
    let socks = format!("socks5h://{}", laptop.socks);
    let url = format!("http://{}/", web.name);
    let by_forward = format!("http://{here}/");
    let mut lost = Vec::new();
    for way in [&["--proxy", &socks, &url][..], &[&by_forward]] {
        for number in 0..EARLY {
            let data = &uploads[number % uploads.len()];
            let mut curl = command("curl");
            curl.args(["--disable", "-sS", "--noproxy", "", "--max-time", "30"]);
            curl.args([
                "-H",
                "Expect:",
                "--data-binary",
                data,
                "-o",
                "/dev/null",
                "-w",
                "%{size_download} %{http_code}",
            ]);
            let outcome = run(curl.args(way), "");
            if outcome.stdout != "48000 413" {
                lost.push((number, outcome));
            }
        }
    }
    assert!(lost.is_empty(), "of {} answers: {lost:#?}", 2 * EARLY);
    server.join().unwrap();
}

/// Answers by each way.
const EARLY: usize = 40;

#[test]
fn clients_that_went_away_before_a_silent_service_answered_give_their_places_back() {
    if !installed(&["curl"]) {
        return;
    }
    let silent = Service::start(|mut stream| {
        let mut rest = [0; 64];
        while let Ok(1..) = stream.read(&mut rest) {}
        // It reads the end, and neither answers nor closes.
        thread::park_timeout(LONGEST);
    });
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    web.serve(81, silent.address());
    let key = lab.auth_key(&[]);
    let args = ["--memory", "64M", "--half-closed-timeout", "2"];
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &args);
    laptop.sees(&web, true);
    // One a second for 24 minutes, in less time.
    for _ in 0..1_407 {
        leave(laptop.socks, &web.name, 81);
    }
    let url = format!("http://{}/", web.name);
    let healthy = laptop.curl(&["--max-time", "15", &url]);
    assert_eq!(healthy.ok(), "a page of web");
}

/// Asks the proxy for a connection, sends a byte, and closes.
fn leave(proxy: SocketAddr, name: &str, port: u16) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).unwrap();
    stream.write_all(b"x").unwrap();
}
